"""What servers answer instead of an archive: refusals, silence, redirects, certificates nobody trusts."""

from __future__ import annotations

import hashlib
import http.server
import socket
import ssl
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from privseg.datasets.fetch import Retry
from privseg.datasets.fetch.download import download
from privseg.errors import ServerUnavailableError
from privseg.testing.archives import ArchiveServer, archive_of
from privseg.testing.authority import Authority

CONTENT = hashlib.shake_256(b"archive").digest(100_000)
NAME = "some.zip"
PATH = f"/{NAME}"
ARCHIVE = archive_of(NAME, CONTENT)
pytestmark = pytest.mark.usefixtures("no_proxy")


@pytest.fixture
def server() -> Iterator[ArchiveServer]:
    with ArchiveServer({PATH: CONTENT}) as running:
        yield running


class Waits(list[float]):
    """Remembers how long it was asked to wait, and does not."""

    def retry(self, attempts: int = 4, timeout: float = 20.0) -> Retry:
        return Retry(attempts=attempts, timeout=timeout, wait=self.append)


@pytest.mark.parametrize("code", [401, 403, 404, 410])
def test_a_refusal_is_final_and_names_the_address(code: int, server: ArchiveServer, tmp_path: Path) -> None:
    server.always[PATH] = ArchiveServer.status(code)
    with pytest.raises(ServerUnavailableError, match=rf"{server.url}{PATH}: answers {code} .*Next: .*--base-url"):
        download(ARCHIVE, server.url + PATH, tmp_path, retry=Waits().retry())
    assert len(server.requests) == 1


def test_passing_faults_are_waited_out(server: ArchiveServer, tmp_path: Path) -> None:
    server.misbehave(
        PATH, ArchiveServer.status(500), ArchiveServer.status(503, {"Retry-After": "7"}), ArchiveServer.status(429)
    )
    waits = Waits()
    got = download(ARCHIVE, server.url + PATH, tmp_path, retry=waits.retry(attempts=4))
    assert got.path.read_bytes() == CONTENT
    assert waits == [1.0, 7.0, 4.0]


def test_faults_that_stay_end_it(server: ArchiveServer, tmp_path: Path) -> None:
    server.always[PATH] = ArchiveServer.status(503, {"Retry-After": "999999"})
    waits = Waits()
    with pytest.raises(ServerUnavailableError, match=r"answers 503 .*4 times in a row"):
        download(ARCHIVE, server.url + PATH, tmp_path, retry=waits.retry(attempts=4))
    assert (len(server.requests), len(waits)) == (4, 3)
    assert max(waits) <= 120


def test_nobody_listens(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    with pytest.raises(ServerUnavailableError, match=rf"http://127.0.0.1:{port}/x: Connection refused, 3 times"):
        download(ARCHIVE, f"http://127.0.0.1:{port}/x", tmp_path, retry=Waits().retry(attempts=3))


def test_a_server_that_keeps_silent(server: ArchiveServer, tmp_path: Path) -> None:
    gate = threading.Event()
    server.always[PATH] = ArchiveServer.after(gate.wait)
    try:
        with pytest.raises(ServerUnavailableError, match="no answer in time, 2 times"):
            download(ARCHIVE, server.url + PATH, tmp_path, retry=Waits().retry(attempts=2, timeout=0.1))
    finally:
        gate.set()


def test_an_answer_that_is_no_http(tmp_path: Path) -> None:
    def babble(listening: socket.socket) -> None:
        for _ in range(2):
            connection, _ = listening.accept()
            with connection:
                connection.recv(65536)
                connection.sendall(b"220 this is a \x1b[31mmail server\r\n")

    with socket.create_server(("127.0.0.1", 0)) as listening:
        thread = threading.Thread(target=babble, args=(listening,))
        thread.start()
        url = f"http://127.0.0.1:{listening.getsockname()[1]}/x"
        with pytest.raises(ServerUnavailableError, match=r"a \?\[31mmail server"):  # nothing that commands a terminal
            download(ARCHIVE, url, tmp_path, retry=Waits().retry(attempts=2))
        thread.join()


def test_redirects_are_followed_and_end(server: ArchiveServer, tmp_path: Path) -> None:
    server.misbehave("/old", ArchiveServer.status(301, {"Location": "/newer?signed=secret"}))
    server.misbehave("/newer?signed=secret", ArchiveServer.status(307, {"Location": server.url + PATH}))
    assert download(ARCHIVE, f"{server.url}/old", tmp_path).path.read_bytes() == CONTENT
    server.always["/loop"] = ArchiveServer.status(302, {"Location": "/loop"})
    before = len(server.requests)
    (tmp_path / NAME).unlink()
    with pytest.raises(ServerUnavailableError, match="/loop: redirects more than 5 times"):
        download(ARCHIVE, f"{server.url}/loop", tmp_path, retry=Waits().retry())
    assert len(server.requests) - before == 6


@pytest.mark.parametrize("target", ["file:///etc/passwd", "ftp://127.0.0.1/\x1b[2J", "mailto:x", ""])
def test_redirects_to_anything_but_http_are_refused(target: str, server: ArchiveServer, tmp_path: Path) -> None:
    server.always[PATH] = ArchiveServer.status(302, {"Location": target})
    with pytest.raises(ServerUnavailableError, match="which is not followed") as caught:
        download(ARCHIVE, server.url + PATH, tmp_path, retry=Waits().retry())
    assert str(caught.value).isprintable()
    assert list(tmp_path.iterdir()) == []


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Key and certificate of 127.0.0.1, signed by nobody whom anybody trusts."""
    authority = Authority(tmp_path_factory.mktemp("tls") / "authority")
    pair = authority.issue("server")
    file = pair.key.with_name("server.both.pem")
    file.write_bytes(pair.key.read_bytes() + pair.certificate.read_bytes() + authority.root.read_bytes())
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
        download(ARCHIVE, tls_redirect, tmp_path, retry=Waits().retry())
    assert server.requests == []


def test_an_untrusted_certificate_is_refused_at_once(tls_redirect: str, tmp_path: Path) -> None:
    waits = Waits()
    with pytest.raises(ServerUnavailableError, match="certificate is not trusted"):
        download(ARCHIVE, tls_redirect, tmp_path, retry=waits.retry())
    assert waits == []


def test_proxies_of_the_environment_are_used(
    server: ArchiveServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = f"http://archives.invalid{PATH}"
    server.files[url] = CONTENT  # a proxy is asked for whole addresses
    monkeypatch.setenv("http_proxy", server.url)
    assert download(ARCHIVE, url, tmp_path).path.read_bytes() == CONTENT
    assert server.sent(url) == len(CONTENT)
