"""Downloads from a real HTTP server on loopback that behaves well, badly and worse."""

from __future__ import annotations

import datetime
import hashlib
import http.server
import ipaddress
import os
import signal
import socket
import ssl
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import replace
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.console import Console

from privseg.datasets.fetch import Retry, reporting
from privseg.datasets.fetch.catalogue import CATALOGUE, Archive, Checksum
from privseg.datasets.fetch.download import download
from privseg.errors import DataError, ServerUnavailableError, StorageError
from privseg.testing.archives import ArchiveServer

CONTENT = hashlib.shake_256(b"archive").digest(3_000_000)
NAME = "some.zip"
PATH = f"/{NAME}"


@pytest.fixture(autouse=True)
def no_proxy_of_this_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)


@pytest.fixture
def server() -> Iterator[ArchiveServer]:
    with ArchiveServer({PATH: CONTENT}) as running:
        yield running


def archive_of(content: bytes = CONTENT, *, published: bool = True, **changes: Any) -> Archive:
    checksum = Checksum("sha256", hashlib.sha256(content).hexdigest()) if published else None
    made = Archive(NAME, (), size=len(content), unpacked=1, entries=1, checksum=checksum, exact=published)
    return replace(made, **changes)


class Waits(list[float]):
    """Remembers how long it was asked to wait, and does not."""

    def retry(self, attempts: int = 4, timeout: float = 20.0) -> Retry:
        return Retry(attempts=attempts, timeout=timeout, wait=self.append)


def names_in(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def test_a_download_has_its_name_only_when_it_is_whole_and_right(server: ArchiveServer, tmp_path: Path) -> None:
    steps: list[tuple[str, int, int]] = []

    def progress(what: str, done: int, total: int) -> None:
        steps.append((what, done, total))
        if what == NAME:
            assert names_in(tmp_path) == {f"{NAME}.part", f"{NAME}.part.json"}

    got = download(archive_of(), server.url + PATH, tmp_path, progress=progress)
    assert got.path == tmp_path / NAME
    assert got.path.read_bytes() == CONTENT
    assert names_in(tmp_path) == {NAME}
    assert (got.received, got.resumed_at, got.trust) == (len(CONTENT), 0, "published")
    assert got.checksum == f"sha256:{hashlib.sha256(CONTENT).hexdigest()}"
    assert steps[-1][1:] == (len(CONTENT), len(CONTENT))
    assert sorted(done for what, done, _ in steps if what == NAME) == [done for what, done, _ in steps if what == NAME]


@pytest.mark.parametrize("algorithm", ["md5", "sha1", "sha256"])
def test_published_checksums_of_every_kind(algorithm: Any, server: ArchiveServer, tmp_path: Path) -> None:
    checksum = Checksum(algorithm, hashlib.new(algorithm, CONTENT).hexdigest())
    got = download(archive_of(checksum=checksum), server.url + PATH, tmp_path)
    assert got.checksum == str(checksum)


def test_a_whole_archive_is_checked_and_not_downloaded_again(server: ArchiveServer, tmp_path: Path) -> None:
    (tmp_path / NAME).write_bytes(CONTENT)
    got = download(archive_of(), server.url + PATH, tmp_path)
    assert (got.received, got.resumed_at, server.requests) == (0, len(CONTENT), [])
    (tmp_path / NAME).write_bytes(CONTENT[:-1] + b"?")
    with pytest.raises(DataError, match="removed"):
        download(archive_of(), server.url + PATH, tmp_path)
    assert names_in(tmp_path) == set()
    assert server.requests == []


def test_a_dropped_connection_is_resumed_with_range(server: ArchiveServer, tmp_path: Path) -> None:
    server.misbehave(PATH, ArchiveServer.drop_after(1_000_001))
    waits = Waits()
    got = download(archive_of(), server.url + PATH, tmp_path, retry=waits.retry())
    first, second = server.requests
    assert "Range" not in first.headers
    assert second.headers["Range"] == "bytes=1000001-"
    assert second.headers["If-Range"].startswith('"')
    assert server.sent(PATH) == len(CONTENT) == got.received
    assert got.path.read_bytes() == CONTENT
    assert waits == [1.0]


@settings(max_examples=20, deadline=None)
@given(drops=st.lists(st.integers(0, 700), max_size=5))
def test_wherever_connections_drop_nothing_comes_twice(
    drops: list[int], tmp_path_factory: pytest.TempPathFactory
) -> None:
    content, folder = CONTENT[:2000], tmp_path_factory.mktemp("drops")
    with ArchiveServer({PATH: content}) as server:
        server.misbehave(PATH, *(ArchiveServer.drop_after(drop) for drop in drops))
        got = download(archive_of(content), server.url + PATH, folder, retry=Waits().retry(attempts=6))
        assert got.path.read_bytes() == content
        assert server.sent(PATH) == len(content)


@pytest.mark.parametrize("published", [True, False])
def test_a_second_call_goes_on_where_the_first_gave_up(published: bool, server: ArchiveServer, tmp_path: Path) -> None:
    archive = archive_of(published=published)
    server.misbehave(PATH, ArchiveServer.drop_after(2_500_000))
    with pytest.raises(ServerUnavailableError, match=r"ended after 2500000 of 3000000 bytes.*MiB are kept in .*\.part"):
        download(archive, server.url + PATH, tmp_path, retry=Waits().retry(attempts=1))
    assert (tmp_path / f"{NAME}.part").read_bytes() == CONTENT[:2_500_000]
    got = download(archive, server.url + PATH, tmp_path)
    assert (got.resumed_at, got.received) == (2_500_000, 500_000)
    assert server.sent(PATH) == len(CONTENT)
    assert got.path.read_bytes() == CONTENT


@pytest.mark.parametrize("at", [0, 700_000])
def test_a_killed_download_is_resumed(at: int, server: ArchiveServer, tmp_path: Path) -> None:
    gate = threading.Event()

    def hold(handler: Any, content: bytes) -> None:
        handler.send_response(200)
        for name, value in {"Content-Length": str(len(content)), "ETag": '"x"'}.items():
            handler.send_header(name, value)
        handler.end_headers()
        handler.wfile.write(content[: at + 1])
        handler.wfile.flush()
        gate.wait()

    server.misbehave(PATH, hold)
    script = (
        "import sys; from pathlib import Path\n"
        "from privseg.datasets.fetch.catalogue import Archive, Checksum\n"
        "from privseg.datasets.fetch.download import download\n"
        "name, url, digest, size, at, folder = sys.argv[1:]\n"
        "archive = Archive(name, (), int(size), 1, 1, Checksum('sha256', digest))\n"
        "tell = lambda what, done, total: done > int(at) and print('there', flush=True)\n"
        "download(archive, url, Path(folder), progress=tell)\n"
    )
    digest = hashlib.sha256(CONTENT).hexdigest()
    command = [sys.executable, "-c", script, NAME, server.url + PATH, digest, str(len(CONTENT)), str(at), str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "there\n"
        os.kill(process.pid, signal.SIGKILL)
    gate.set()
    assert names_in(tmp_path) == {f"{NAME}.part", f"{NAME}.part.json"}
    assert (tmp_path / f"{NAME}.part").stat().st_size == at + 1
    server.misbehave(PATH, ArchiveServer.content(CONTENT[at + 1 :], _range(at + 1) | {"ETag": '"x"'}, 206))
    got = download(archive_of(), server.url + PATH, tmp_path)
    assert (got.resumed_at, got.received) == (at + 1, len(CONTENT) - at - 1)
    assert got.path.read_bytes() == CONTENT


def test_a_server_without_range_starts_over(server: ArchiveServer, tmp_path: Path) -> None:
    server.misbehave(PATH, ArchiveServer.drop_after(400_000))
    server.always[PATH] = ArchiveServer.without_range
    said: list[str] = []
    got = download(archive_of(), server.url + PATH, tmp_path, retry=Waits().retry(), say=said.append)
    assert got.path.read_bytes() == CONTENT
    assert got.received == len(CONTENT) + 400_000
    assert any("starting over" in line for line in said)


def test_nothing_tells_versions_apart_so_nothing_is_joined(server: ArchiveServer, tmp_path: Path) -> None:
    """No tag, no date and no published checksum: a part cannot be known to belong to what is served now."""
    (tmp_path / f"{NAME}.part").write_bytes(b"old" * 1000)
    server.always[PATH] = ArchiveServer.without_range
    got = download(archive_of(published=False), server.url + PATH, tmp_path)
    assert got.path.read_bytes() == CONTENT
    assert "Range" not in server.requests[0].headers


def _range(start: int) -> dict[str, str]:
    return {"Content-Range": f"bytes {start}-{len(CONTENT) - 1}/{len(CONTENT)}"}


@pytest.mark.parametrize("honours_if_range", [True, False])
def test_a_file_that_changes_in_between_is_not_joined(
    honours_if_range: bool, server: ArchiveServer, tmp_path: Path
) -> None:
    archive, new = archive_of(published=False), CONTENT[::-1]
    server.misbehave(PATH, ArchiveServer.drop_after(300_000))
    with pytest.raises(ServerUnavailableError):
        download(archive, server.url + PATH, tmp_path, retry=Waits().retry(attempts=1))
    server.files[PATH] = new
    if not honours_if_range:
        server.misbehave(PATH, ArchiveServer.content(new[300_000:], _range(300_000) | {"ETag": '"new"'}, 206))
    got = download(archive, server.url + PATH, tmp_path, retry=Waits().retry())
    assert got.path.read_bytes() == new


@pytest.mark.parametrize(
    "answer",
    [
        ArchiveServer.content(CONTENT[5:], {"Content-Range": f"bytes 5-{len(CONTENT) - 1}/{len(CONTENT)}"}, 206),
        ArchiveServer.content(CONTENT[300_000:], {}, 206),
        ArchiveServer.status(416),
    ],
    ids=["another range", "no range", "range refused"],
)
def test_a_range_that_was_not_asked_for_is_not_used(answer: Any, server: ArchiveServer, tmp_path: Path) -> None:
    server.misbehave(PATH, ArchiveServer.drop_after(300_000), answer)
    got = download(archive_of(), server.url + PATH, tmp_path, retry=Waits().retry())
    assert got.path.read_bytes() == CONTENT


@pytest.mark.parametrize("code", [401, 403, 404, 410])
def test_a_refusal_is_final_and_names_the_address(code: int, server: ArchiveServer, tmp_path: Path) -> None:
    server.always[PATH] = ArchiveServer.status(code)
    with pytest.raises(ServerUnavailableError, match=rf"{server.url}{PATH}: answers {code} .*Next: .*--base-url"):
        download(archive_of(), server.url + PATH, tmp_path, retry=Waits().retry())
    assert len(server.requests) == 1


def test_passing_faults_are_waited_out(server: ArchiveServer, tmp_path: Path) -> None:
    server.misbehave(
        PATH, ArchiveServer.status(500), ArchiveServer.status(503, {"Retry-After": "7"}), ArchiveServer.status(429)
    )
    waits = Waits()
    got = download(archive_of(), server.url + PATH, tmp_path, retry=waits.retry(attempts=4))
    assert got.path.read_bytes() == CONTENT
    assert waits == [1.0, 7.0, 4.0]


def test_faults_that_stay_end_it(server: ArchiveServer, tmp_path: Path) -> None:
    server.always[PATH] = ArchiveServer.status(503, {"Retry-After": "999999"})
    waits = Waits()
    with pytest.raises(ServerUnavailableError, match=r"answers 503 .*4 times in a row"):
        download(archive_of(), server.url + PATH, tmp_path, retry=waits.retry(attempts=4))
    assert (len(server.requests), len(waits)) == (4, 3)
    assert max(waits) <= 120


def test_a_server_that_always_starts_over_and_breaks_off_is_given_up(server: ArchiveServer, tmp_path: Path) -> None:
    server.always[PATH] = lambda handler, content: handler.answer(200, content, {}, most=2_000_000)
    with pytest.raises(ServerUnavailableError, match="in a row"):
        download(archive_of(), server.url + PATH, tmp_path, retry=Waits().retry(attempts=3))
    assert len(server.requests) <= 2 * 3


def test_a_long_transfer_over_a_bad_line_gets_there(server: ArchiveServer, tmp_path: Path) -> None:
    """More drops than attempts, each after more than a mebibyte."""
    content = CONTENT * 4
    server.files[PATH] = content
    server.always[PATH] = ArchiveServer.drop_after(1_500_000)
    got = download(archive_of(content), server.url + PATH, tmp_path, retry=Waits().retry(attempts=2))
    assert got.path.read_bytes() == content
    assert len(server.requests) == 8


def test_nobody_listens(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    with pytest.raises(ServerUnavailableError, match=rf"http://127.0.0.1:{port}/x: Connection refused, 3 times"):
        download(archive_of(), f"http://127.0.0.1:{port}/x", tmp_path, retry=Waits().retry(attempts=3))


def test_a_server_that_keeps_silent(server: ArchiveServer, tmp_path: Path) -> None:
    gate = threading.Event()
    server.always[PATH] = ArchiveServer.after(gate.wait)
    try:
        with pytest.raises(ServerUnavailableError, match="no answer in time, 2 times"):
            download(archive_of(), server.url + PATH, tmp_path, retry=Waits().retry(attempts=2, timeout=0.1))
    finally:
        gate.set()


def test_an_answer_that_is_no_http(tmp_path: Path) -> None:
    def babble(listening: socket.socket) -> None:
        for _ in range(2):
            connection, _ = listening.accept()
            with connection:
                connection.recv(65536)
                connection.sendall(b"220 this is a mail server\r\n")

    with socket.create_server(("127.0.0.1", 0)) as listening:
        thread = threading.Thread(target=babble, args=(listening,))
        thread.start()
        url = f"http://127.0.0.1:{listening.getsockname()[1]}/x"
        with pytest.raises(ServerUnavailableError, match="mail server"):
            download(archive_of(), url, tmp_path, retry=Waits().retry(attempts=2))
        thread.join()


def test_redirects_are_followed_and_end(server: ArchiveServer, tmp_path: Path) -> None:
    server.misbehave("/old", ArchiveServer.status(301, {"Location": "/newer?signed=secret"}))
    server.misbehave("/newer?signed=secret", ArchiveServer.status(307, {"Location": server.url + PATH}))
    assert download(archive_of(), f"{server.url}/old", tmp_path).path.read_bytes() == CONTENT
    server.always["/loop"] = ArchiveServer.status(302, {"Location": "/loop"})
    before = len(server.requests)
    (tmp_path / NAME).unlink()
    with pytest.raises(ServerUnavailableError, match="/loop: redirects more than 5 times"):
        download(archive_of(), f"{server.url}/loop", tmp_path, retry=Waits().retry())
    assert len(server.requests) - before == 6


@pytest.mark.parametrize("target", ["file:///etc/passwd", "ftp://127.0.0.1/x", "mailto:x", ""])
def test_redirects_to_anything_but_http_are_refused(target: str, server: ArchiveServer, tmp_path: Path) -> None:
    server.always[PATH] = ArchiveServer.status(302, {"Location": target})
    with pytest.raises(ServerUnavailableError, match="which is not followed"):
        download(archive_of(), server.url + PATH, tmp_path, retry=Waits().retry())
    assert names_in(tmp_path) == set()


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Key and certificate of 127.0.0.1, signed by nobody else."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "privseg test")])
    now = datetime.datetime.now(datetime.UTC)
    made = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), critical=False)
        .sign(key, hashes.SHA256())
    )
    file = tmp_path_factory.mktemp("tls") / "server.pem"
    file.write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
        + made.public_bytes(serialization.Encoding.PEM)
    )
    return file


@pytest.fixture
def tls_redirect(certificate: Path, server: ArchiveServer) -> Iterator[str]:
    """An https address that redirects to the http server."""

    class Redirect(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(302)
            self.send_header("Location", server.url + PATH)
            self.end_headers()

        def log_message(self, *args: object) -> None:
            pass

    class Quiet(http.server.HTTPServer):
        def handle_error(self, *args: object) -> None:  # a client that does not trust us breaks off
            pass

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    with Quiet(("127.0.0.1", 0), Redirect) as secure:
        secure.socket = context.wrap_socket(secure.socket, server_side=True)
        thread = threading.Thread(target=secure.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        yield f"https://127.0.0.1:{secure.server_port}{PATH}"
        secure.shutdown()
        thread.join()


def test_a_redirect_away_from_encryption_is_refused(
    tls_redirect: str, certificate: Path, server: ArchiveServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    with pytest.raises(ServerUnavailableError, match="redirects from https to unencrypted http"):
        download(archive_of(), tls_redirect, tmp_path, retry=Waits().retry())
    assert server.requests == []


def test_an_untrusted_certificate_is_refused_at_once(tls_redirect: str, tmp_path: Path) -> None:
    waits = Waits()
    with pytest.raises(ServerUnavailableError, match="certificate is not trusted"):
        download(archive_of(), tls_redirect, tmp_path, retry=waits.retry())
    assert waits == []


def test_proxies_of_the_environment_are_used(
    server: ArchiveServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = f"http://archives.invalid{PATH}"
    server.files[url] = CONTENT  # a proxy is asked for whole addresses
    monkeypatch.setenv("http_proxy", server.url)
    assert download(archive_of(), url, tmp_path).path.read_bytes() == CONTENT
    assert server.sent(url) == len(CONTENT)


def test_content_of_the_right_size_that_is_wrong_is_removed(server: ArchiveServer, tmp_path: Path) -> None:
    tampered = CONTENT[:1_000_000] + b"evil" + CONTENT[1_000_004:]
    server.files[PATH] = tampered
    with pytest.raises(DataError, match=rf"{NAME}\.part: has the sha256 .*tampered with, and has been removed"):
        download(archive_of(), server.url + PATH, tmp_path)
    assert names_in(tmp_path) == set()


@pytest.mark.parametrize("published", [True, False])
@pytest.mark.parametrize("length", [0, 5_000, 1_500_000, 9_000_000])
def test_another_length_is_refused_before_anything_is_lost(
    published: bool, length: int, server: ArchiveServer, tmp_path: Path
) -> None:
    """A login page with status 200, a truncated copy, a longer one: what has arrived before stays."""
    part = tmp_path / f"{NAME}.part"
    part.write_bytes(CONTENT[:2_000_000])
    before = names_in(tmp_path)
    server.always[PATH] = ArchiveServer.content(b"<html>" * (length // 6) + b"x" * (length % 6))
    if not published:
        part.unlink()
        before = set()
    with pytest.raises(ServerUnavailableError, match=rf"offers {length} bytes where .*3000000 are expected"):
        download(archive_of(published=published), server.url + PATH, tmp_path, retry=Waits().retry())
    assert names_in(tmp_path) == before


def test_an_unknown_length_will_do_only_where_the_size_is_published(server: ArchiveServer, tmp_path: Path) -> None:
    def chunked(handler: Any, content: bytes) -> None:
        handler.protocol_version = "HTTP/1.1"
        handler.send_response(200)
        handler.send_header("Transfer-Encoding", "chunked")
        handler.end_headers()
        for start in range(0, len(content), 1_000_000):
            block = content[start : start + 1_000_000]
            handler.wfile.write(b"%x\r\n%s\r\n" % (len(block), block))
        handler.close_connection = True

    server.always[PATH] = chunked  # and the last chunk, which says that this was all, is missing
    assert download(archive_of(), server.url + PATH, tmp_path).path.read_bytes() == CONTENT
    (tmp_path / NAME).unlink()
    with pytest.raises(ServerUnavailableError, match="does not say how long"):
        download(archive_of(published=False), server.url + PATH, tmp_path, retry=Waits().retry())


def test_without_a_published_checksum_the_first_copy_is_the_measure(server: ArchiveServer, tmp_path: Path) -> None:
    archive, said = archive_of(published=False), list[str]()
    digest = hashlib.sha256(CONTENT).hexdigest()
    first = download(archive, server.url + PATH, tmp_path, say=said.append)
    assert first.trust == "recorded"
    assert any("No checksum" in line and digest in line for line in said)
    record = tmp_path / f"{NAME}.sha256"
    subprocess.run(["sha256sum", "--check", "--status", record.name], cwd=tmp_path, check=True)
    first.path.unlink()
    assert download(archive, server.url + PATH, tmp_path).trust == "matches the record"

    (tmp_path / NAME).unlink()
    server.files[PATH] = CONTENT[::-1]
    with pytest.raises(
        DataError, match=rf"the copy downloaded first {digest}; the file has been removed.*delete .*256"
    ):
        download(archive, server.url + PATH, tmp_path)
    assert names_in(tmp_path) == {record.name}

    server.files[PATH] = CONTENT
    record.write_text("nothing like a digest\n")
    with pytest.raises(DataError, match=r"sha256: holds no sha256"):
        download(archive, server.url + PATH, tmp_path)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 1 MiB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(folder)]
    mounted = subprocess.run(command, capture_output=True, text=True, check=False)
    if mounted.returncode:
        pytest.skip(f"cannot mount a small file system here ({mounted.stderr.strip()})")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


def test_a_disk_that_fills_keeps_the_part(server: ArchiveServer, small_disk: Path) -> None:
    content = CONTENT[:900_000]
    server.files[PATH] = content
    ballast = small_disk / "ballast"
    server.misbehave(PATH, ArchiveServer.after(lambda: ballast.write_bytes(bytes(400_000))))
    with pytest.raises(StorageError, match=r"some\.zip\.part: no space left on the disk.*run the same command again"):
        download(archive_of(content), server.url + PATH, small_disk, retry=Waits().retry())
    here = (small_disk / f"{NAME}.part").stat().st_size
    assert 500_000 < here < len(content)
    ballast.unlink()
    got = download(archive_of(content), server.url + PATH, small_disk)
    assert got.path.read_bytes() == content
    assert (got.resumed_at, got.received) == (here, len(content) - here)


def test_the_catalogue_is_complete() -> None:
    for archive in {piece.archive for offer in CATALOGUE.values() for piece in offer.pieces}:
        assert all(url.rpartition("/")[2] == archive.name for url in archive.urls)
        assert archive.size > 10**8
        assert archive.unpacked >= archive.size
        if archive.checksum is not None:
            assert len(archive.checksum.value) == 2 * hashlib.new(archive.checksum.algorithm).digest_size
    assert {offer.terms != "" for offer in CATALOGUE.values()} == {True}


@pytest.mark.parametrize("terminal", [True, False])
def test_a_person_sees_how_far_it_is(terminal: bool, server: ArchiveServer, tmp_path: Path) -> None:
    page = StringIO()
    with reporting(Console(file=page, force_terminal=terminal, width=120)) as (say, progress):
        say("[not] markup")
        download(archive_of(), server.url + PATH, tmp_path, say=say, progress=progress)
    text = page.getvalue()
    assert "[not] markup" in text
    assert NAME in text
    assert ("\x1b[" in text) == terminal
    assert ("2.9/2.9 MiB" in text) if terminal else (f"checking {NAME}: 2.9 MiB\n" in text and "100 % (2.9 MiB" in text)
    assert text.count("\n") < 60
