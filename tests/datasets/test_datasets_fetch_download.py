"""Downloads from a real HTTP server on loopback: resumed, checked, and given their name only when they are right."""

from __future__ import annotations

import hashlib
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.console import Console

from privseg.datasets.fetch import Retry, reporting
from privseg.datasets.fetch.catalogue import CATALOGUE, Archive, Checksum
from privseg.datasets.fetch.download import download
from privseg.errors import DataError, ServerUnavailableError, StorageError
from privseg.testing import archives
from privseg.testing.archives import ArchiveServer

CONTENT = hashlib.shake_256(b"archive").digest(3_000_000)
NAME = "some.zip"
PATH = f"/{NAME}"
pytestmark = pytest.mark.usefixtures("no_proxy")


@pytest.fixture
def server() -> Iterator[ArchiveServer]:
    with ArchiveServer({PATH: CONTENT}) as running:
        yield running


def archive_of(content: bytes = CONTENT, **options: Any) -> Archive:
    return archives.archive_of(NAME, content, **options)


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
