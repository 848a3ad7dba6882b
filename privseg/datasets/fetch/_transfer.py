"""Connections to one server, until a part of an archive is whole.

``NAME.part`` holds what has arrived and ``NAME.part.json`` what the server said about the file (RFC 9110, sections
13.1.5 and 14.2): a later request asks for the rest with ``Range`` and, so that two versions of a file are never joined,
``If-Range``.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import re
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from privseg.datasets.fetch._http import TransferInterruptedError, open_url, shown
from privseg.datasets.fetch.catalogue import Archive
from privseg.datasets.fetch.progress import ProgressFunction, Say, readable
from privseg.errors import ServerUnavailableError, StorageError

__all__ = ["Retry", "Transfer", "part_file", "state_file"]

_BLOCK = 256 * 1024
_WORTHWHILE = 1024 * 1024  # bytes gained that make a further round of attempts fair
_LONGEST_WAIT = 120.0  # seconds a server may ask for
_ROUNDED = (0.8, 1.25)  # how far a server's length may lie from a size that is published rounded


@dataclass(frozen=True)
class Retry:
    """How often, and how patiently, a broken transfer is taken up again.

    Attributes:
        attempts: Connections in a row that may fail without a mebibyte gained.
        first_delay: Seconds before the second one; doubles from one to the next.
        longest_delay: Seconds it doubles up to.
        timeout: Seconds a connection, or one wait for data, may take.
        wait: Waits that many seconds.
    """

    attempts: int = 6
    first_delay: float = 1.0
    longest_delay: float = 60.0
    timeout: float = 30.0
    wait: Callable[[float], None] = time.sleep


def part_file(folder: Path, archive: Archive) -> Path:
    """What has arrived of an archive."""
    return folder / f"{archive.name}.part"


def state_file(folder: Path, archive: Archive) -> Path:
    """What the server said about the file that the part is of."""
    return folder / f"{archive.name}.part.json"


class Transfer:
    """Downloads one archive from one address into its part.

    Attributes:
        part: The file it fills.
        received: Bytes that came over the network.
    """

    def __init__(
        self, archive: Archive, url: str, folder: Path, retry: Retry, say: Say, progress: ProgressFunction
    ) -> None:
        self._archive, self._url, self._retry, self._say, self._progress = archive, url, retry, say, progress
        self.part, self._state = part_file(folder, archive), state_file(folder, archive)
        self.received = 0

    def here(self) -> int:
        """Bytes that need not come again."""
        try:
            return self.part.stat().st_size
        except FileNotFoundError:
            return 0

    def run(self) -> None:
        """Connect until the part is whole.

        Raises:
            ServerUnavailableError: The server does not serve it, or breaks off again and again; the part stays.
            StorageError: The disk is full or the part cannot be written; the part stays.
        """
        try:
            self._run()
        except OSError as error:
            raise StorageError.from_os_error(self.part, error) from None

    def _run(self) -> None:
        failures, furthest = 0, self.here()
        while True:
            try:
                self._connect()
            except TransferInterruptedError as fault:
                if fault.restart:
                    self._discard()
                if self.here() >= furthest + _WORTHWHILE:  # only ground never reached before: a server that always
                    furthest, failures = self.here(), 0  # starts over and always breaks off does not go on for ever
                failures += 1
                if failures >= self._retry.attempts:
                    raise self._given_up(str(fault)) from None
                delay = min(self._retry.first_delay * 2 ** (failures - 1), self._retry.longest_delay)
                delay = max(delay, min(fault.wait, _LONGEST_WAIT))
                self._say(f"{shown(self._url)}: {fault}; trying again in {delay:.0f} s")
                self._retry.wait(delay)
            else:
                return

    def _given_up(self, fault: str) -> ServerUnavailableError:
        here = self.here()
        kept = f"; {readable(here)} of {readable(self._archive.size)} are kept in {self.part}" if here else ""
        return ServerUnavailableError(
            shown(self._url),
            f"{fault}, {self._retry.attempts} times in a row{kept}",
            "check the network, then run the same command again, which goes on from there; or name a mirror with "
            "--base-url",
        )

    def _connect(self) -> None:
        """One request; returns when the part is whole."""
        here, known = self.here(), self._known()
        if here and here == (self._archive.size if self._archive.exact else known.get("total")):
            return
        headers = {"Accept-Encoding": "identity"}
        if here and not self._may_resume(known, here):
            self._discard()
            here = 0
        if here:
            headers["Range"] = f"bytes={here}-"
            if known.get("url") == self._url and known.get("validator"):
                headers["If-Range"] = known["validator"]
        with contextlib.closing(open_url(self._url, headers, timeout=self._retry.timeout)) as response:
            if response.status == http.client.PARTIAL_CONTENT:
                total = self._total_of_range(response, here)
                if known.get("url") == self._url and _validator(response) != known.get("validator"):
                    raise TransferInterruptedError("the file has changed since", restart=True)
            else:
                total = self._total(response.headers.get("Content-Length"))
                if here:
                    self._say(f"{shown(self._url)}: does not go on where it stopped; starting over")
                here = 0
            self._receive(response, here, total)

    def _may_resume(self, known: dict[str, Any], here: int) -> bool:
        """Whether the rest can be asked for: from the same file, or with a published checksum that tells in the end."""
        if self._archive.exact and here > self._archive.size:
            return False
        return self._archive.checksum is not None or bool(known.get("url") == self._url and known.get("validator"))

    def _receive(self, response: http.client.HTTPResponse, start: int, total: int) -> None:
        done = start
        # unbuffered, so that what has arrived is in the file whatever happens next; emptied before anything is noted
        # about the new contents, so that a note never stands beside a part it does not describe
        with self.part.open("ab" if start else "wb", buffering=0) as file:
            if not start:
                self._note(response, total)
            self._progress(self._archive.name, done, total)
            while done < total:
                block = self._read(response, min(_BLOCK, total - done))
                if not block:
                    raise TransferInterruptedError(f"the connection ended after {done} of {total} bytes")
                rest = memoryview(block)
                while rest:
                    rest = rest[file.write(rest) :]
                done += len(block)
                self.received += len(block)
                self._progress(self._archive.name, done, total)

    @staticmethod
    def _read(response: http.client.HTTPResponse, size: int) -> bytes:
        try:
            return response.read1(size)
        except TimeoutError:
            raise TransferInterruptedError("no data in time") from None
        except (OSError, http.client.HTTPException, ValueError) as error:
            raise TransferInterruptedError(f"the connection broke ({error or type(error).__name__})") from None

    def _total(self, length: str | None) -> int:
        """Bytes of the whole file, from a server that sends all of it."""
        if length is None or not length.isdecimal():
            if self._archive.exact:
                return self._archive.size
            raise self._other("does not say how long the file is")
        return self._checked(int(length))

    def _total_of_range(self, response: http.client.HTTPResponse, here: int) -> int:
        """Bytes of the whole file, from a server that sends the rest of it."""
        match = re.fullmatch(r"bytes (\d+)-\d+/(\d+)", response.headers.get("Content-Range", ""))
        if match is None or int(match[1]) != here:
            raise TransferInterruptedError("answers with another part than it was asked for", restart=True)
        return self._checked(int(match[2]))

    def _checked(self, total: int) -> int:
        size = self._archive.size
        least, most = (size, size) if self._archive.exact else (int(size * _ROUNDED[0]), int(size * _ROUNDED[1]))
        if least <= total <= most:
            return total
        raise self._other(f"offers {total} bytes where {'' if self._archive.exact else 'about '}{size} are expected")

    def _other(self, fault: str) -> ServerUnavailableError:
        return ServerUnavailableError(
            shown(self._url),
            f"{fault}: this is not {self._archive.name}",
            "see in a browser what is there (a login page, perhaps), and name a mirror with --base-url",
        )

    def _known(self) -> dict[str, Any]:
        try:
            known = json.loads(self._state.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return {}
        return known if isinstance(known, dict) else {}

    def _note(self, response: http.client.HTTPResponse, total: int) -> None:
        note = {"url": self._url, "validator": _validator(response), "total": total}
        beside = self._state.with_name(f"{self._state.name}.new")
        beside.write_text(json.dumps(note), encoding="utf-8")
        os.replace(beside, self._state)  # noqa: PTH105 - Path.replace of a name just made says no more

    def _discard(self) -> None:
        for file in (self.part, self._state):
            file.unlink(missing_ok=True)


def _validator(response: http.client.HTTPResponse) -> str | None:
    """What tells one version of a file from another; a weak tag must not be used with If-Range."""
    tag = response.headers.get("ETag", "")
    return tag if tag.startswith('"') else response.headers.get("Last-Modified")
