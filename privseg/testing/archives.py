"""An HTTP server on loopback that serves archives well or badly, and tiny archives to serve."""

from __future__ import annotations

import hashlib
import http.server
import io
import re
import sys
import tarfile
import threading
import zipfile
from collections import defaultdict, deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from types import TracebackType
from typing import Any

from privseg.datasets.fetch.catalogue import CATALOGUE, Archive, Checksum, Offer

__all__ = ["ArchiveServer", "Request", "archive_of", "pack", "tiny_catalogue"]


@dataclass(frozen=True)
class Request:
    """A request as the server saw it, and the bytes of body that it sent for it."""

    path: str
    headers: Mapping[str, str]
    sent: int


Behaviour = Callable[["_Handler", bytes], None]


class ArchiveServer:
    """Serves ``files`` by path, with ``Range``, ``If-Range`` and ``ETag``, as a context manager.

    ``misbehave(path, behaviour, ...)`` makes the next requests for a path go otherwise, one behaviour a request;
    ``always[path]`` all of them. Behaviours are the static methods below.

    Attributes:
        files: Contents by path, ``"/name"``.
        requests: What was asked, in order.
        always: What to do with every request for a path that no single behaviour is left for.
        url: ``http://127.0.0.1:PORT``.
    """

    def __init__(self, files: Mapping[str, bytes] | None = None) -> None:
        self.files = dict(files or {})
        self.requests: list[Request] = []
        self.always: dict[str, Behaviour] = {}
        self._script: dict[str, deque[Behaviour]] = defaultdict(deque)
        self._server = _Server(("127.0.0.1", 0), _Handler)
        self._server.owner = self
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02})

    def __enter__(self) -> ArchiveServer:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def misbehave(self, path: str, *behaviours: Behaviour) -> None:
        """Give the next requests for ``path`` these behaviours, one each."""
        self._script[path].extend(behaviours)

    def sent(self, path: str) -> int:
        """Bytes of body sent for a path."""
        return sum(request.sent for request in self.requests if request.path == path)

    def behaviour(self, path: str) -> Behaviour:
        """What to do with the next request for ``path``."""
        script = self._script[path]
        return script.popleft() if script else self.always.get(path, ArchiveServer.serve)

    @staticmethod
    def serve(handler: _Handler, content: bytes) -> None:
        """As a good server does."""
        handler.serve(content)

    @staticmethod
    def without_range(handler: _Handler, content: bytes) -> None:
        """All of it, whatever part was asked for, and nothing to recognise it by."""
        handler.answer(200, content, {})

    @staticmethod
    def drop_after(count: int) -> Behaviour:
        """Promise all of what was asked for, send ``count`` bytes of it and close the connection."""
        return lambda handler, content: handler.serve(content, most=count)

    @staticmethod
    def status(code: int, headers: Mapping[str, str] | None = None) -> Behaviour:
        """Nothing but a status."""
        return lambda handler, content: handler.answer(code, b"", headers or {})

    @staticmethod
    def content(other: bytes, headers: Mapping[str, str] | None = None, code: int = 200) -> Behaviour:
        """Something else."""
        return lambda handler, content: handler.answer(code, other, headers or {})

    @staticmethod
    def after(action: Callable[[], object]) -> Behaviour:
        """Do something, such as waiting for an event, before a good answer."""

        def behave(handler: _Handler, content: bytes) -> None:
            action()
            handler.serve(content)

        return behave


class _Server(http.server.ThreadingHTTPServer):
    daemon_threads = False  # closing waits for every answer: no thread outlives its test
    owner: ArchiveServer

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say nothing of a client that hung up, which is what some tests are about."""
        if not isinstance(sys.exc_info()[1], ConnectionError):
            super().handle_error(request, client_address)


class _Handler(http.server.BaseHTTPRequestHandler):
    server: _Server

    def do_GET(self) -> None:
        """Answer as the script says."""
        content = self.server.owner.files.get(self.path)
        behaviour = self.server.owner.behaviour(self.path)
        if content is None and behaviour is ArchiveServer.serve:
            self.answer(404, b"", {})
        else:
            behaviour(self, content or b"")

    def serve(self, content: bytes, most: int | None = None) -> None:
        """Answer with the contents or the range that was asked for; break off after ``most`` bytes."""
        tag = f'"{hashlib.sha256(content).hexdigest()[:16]}"'
        asked = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", ""))
        headers = {"ETag": tag, "Accept-Ranges": "bytes"}
        if asked is None or self.headers.get("If-Range", tag) != tag:
            self.answer(200, content, headers, most)
        elif int(asked[1]) >= len(content):
            self.answer(416, b"", {"Content-Range": f"bytes */{len(content)}"})
        else:
            start = int(asked[1])
            headers["Content-Range"] = f"bytes {start}-{len(content) - 1}/{len(content)}"
            self.answer(206, content[start:], headers, most)

    def answer(self, code: int, content: bytes, headers: Mapping[str, str], most: int | None = None) -> None:
        """Send status, headers and as much of the body as is allowed."""
        body = content if most is None else content[:most]
        self.server.owner.requests.append(Request(self.path, dict(self.headers.items()), len(body)))
        self.send_response(code)
        for name, value in {"Content-Length": str(len(content)), **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        try:
            self.wfile.write(body)
        except OSError:  # the client had enough
            self.close_connection = True

    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing."""


def archive_of(name: str, content: bytes, *, published: bool = True, **changes: Any) -> Archive:
    """Describe ``content`` as the catalogue would: with size and checksum, or, if not ``published``, a rough size."""
    checksum = Checksum("sha256", hashlib.sha256(content).hexdigest()) if published else None
    made = Archive(name, (), size=len(content), unpacked=1, entries=1, checksum=checksum, exact=published)
    return replace(made, **changes)


def pack(name: str, folders: Mapping[str, Path]) -> bytes:
    """All files of some folders as one archive, a tar or zip by its name; the keys are the folders' paths inside it."""
    buffer = io.BytesIO()
    files = {
        f"{inside}/{path.relative_to(folder).as_posix()}": path
        for inside, folder in folders.items()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }
    if name.endswith(".tar"):
        with tarfile.open(fileobj=buffer, mode="w") as tar:
            for inside, path in files.items():
                tar.add(path, inside)
    else:
        with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
            for inside, path in files.items():
                archive.write(path, inside)
    return buffer.getvalue()


def tiny_catalogue(root: Path, url: str) -> tuple[dict[str, bytes], dict[str, Offer]]:
    """The catalogue over again, with what lies below ``root`` in place of the official contents.

    Args:
        root: A data folder with native layouts in miniature; sources whose folders it lacks are left out.
        url: Where the archives will be served.

    Returns:
        Files for an `ArchiveServer`, and the offers that name them, with sizes and checksums that fit; an archive
        whose checksum is not published has none here either. An archive that sources share holds the first one's
        files.
    """
    offers = {
        source: offer
        for source, offer in CATALOGUE.items()
        if all((root / piece.folder).is_dir() for piece in offer.pieces)
    }
    folders: dict[Archive, dict[str, Path]] = defaultdict(dict)
    for piece in (piece for offer in offers.values() for piece in offer.pieces):
        folders[piece.archive].setdefault(piece.inside, root / piece.folder)
    files, archives = {}, {}
    for archive, contents in folders.items():
        data = pack(archive.name, contents)
        files[f"/{archive.name}"] = data
        archives[archive] = replace(
            archive,
            urls=(f"{url}/{archive.name}",),
            size=len(data),
            unpacked=10 * len(data) + 1_000_000,
            entries=1000,
            checksum=archive.checksum and Checksum("sha256", hashlib.sha256(data).hexdigest()),
        )
    return files, {
        source: replace(offer, pieces=tuple(replace(piece, archive=archives[piece.archive]) for piece in offer.pieces))
        for source, offer in offers.items()
    }
