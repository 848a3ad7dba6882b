"""Where the entries of an archive may go: names, collisions and sizes are checked before anything is written."""

from __future__ import annotations

import os
import re
import unicodedata
from pathlib import Path
from typing import IO

from privseg.datasets.fetch.catalogue import Archive
from privseg.errors import DataError, StorageError

__all__ = ["Tree", "parts_of"]

_BLOCK = 1024 * 1024
_MOST_RATIO = 200  # unpacked : packed of one entry; photographs and label maps stay far below
_SMALL = 1024 * 1024  # bytes below which the ratio is not looked at: a few empty pixels shrink well
_MOST_DEPTH = 16


def parts_of(name: str) -> tuple[str, ...]:
    """The components of an entry's name.

    Raises:
        ValueError: It does not stay inside, or cannot be a name on every system.
    """
    if "\0" in name or any(unicodedata.category(c) in ("Cc", "Cs") for c in name):
        raise ValueError("a control character in its name")
    if "\\" in name:
        raise ValueError("a backslash in its name")
    if name.startswith("/"):
        raise ValueError("an absolute name")
    if re.match("[A-Za-z]:", name):
        raise ValueError("a drive letter in its name")
    parts = tuple(part for part in name.split("/") if part not in ("", "."))
    if ".." in parts:
        raise ValueError("a name that leads out of its folder")
    if len(parts) > _MOST_DEPTH or any(len(part.encode()) > 255 for part in parts):
        raise ValueError("a name that is too long")
    return parts


class Tree:
    """Where entries go, and what they have added up to."""

    def __init__(self, path: Path, archive: Archive, folders: dict[tuple[str, ...], Path]) -> None:
        self.archive = archive
        self.files = dict.fromkeys(folders.values(), 0)
        self.entries = 0
        self._path = path
        self._folders = folders
        self._declared = 0
        self._written = 0
        self._seen: dict[str, tuple[str, bool]] = {}
        self._made: set[Path] = set()

    def fault(self, text: str) -> DataError:
        return DataError(
            self._path,
            text,
            f"delete the file and run the same command again; if it comes back, fetch {self.archive.name} from another "
            "server with --base-url",
        )

    def enter(self, name: str, *, folder: bool, size: int, packed: int | None = None) -> Path | None:
        """Check one entry and say where it goes.

        Args:
            name: As the archive spells it.
            folder: Whether it is a folder; otherwise it is a plain file.
            size: Bytes it says it has.
            packed: Bytes it takes in the archive, where it is compressed.

        Returns:
            The file or folder to make, its parents made; None for what is not wanted.
        """
        shown = ascii(name[:120])
        self.entries += 1
        if self.entries > self.archive.entries:
            raise self.fault(f"holds more than {self.archive.entries} entries")
        try:
            parts = parts_of(name)
        except ValueError as error:
            raise self.fault(f"holds {shown}, {error}") from None
        if size < 0:
            raise self.fault(f"holds {shown}, of a negative size")
        self._declared += size
        if self._declared > self.archive.unpacked:
            raise self.fault(f"unpacks to more than {self.archive.unpacked} bytes (at {shown})")
        if packed is not None and size > max(_SMALL, packed * _MOST_RATIO):
            raise self.fault(f"holds {shown}, {size} bytes out of {packed}: a decompression bomb")
        for end in range(1, len(parts)):
            self._spell(parts[:end], folder=True)
        self._spell(parts, folder=folder)
        for inside, root in self._folders.items():
            if parts[: len(inside)] == inside and (folder or len(parts) > len(inside)):
                target = root.joinpath(*parts[len(inside) :])
                self._make(target if folder else target.parent)
                if not folder:
                    self.files[root] += 1
                return target
        return None

    def write(self, target: Path, source: IO[bytes]) -> None:
        """Write one file, where nothing may stand in the way."""
        written = 0
        try:
            file = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o644)
        except OSError as error:
            raise StorageError.from_os_error(target, error) from None
        with os.fdopen(file, "wb", buffering=0) as sink:
            while block := source.read(_BLOCK):
                written += len(block)
                if self._written + written > self.archive.unpacked:  # whatever sizes it says its entries have
                    raise self.fault(f"unpacks to more than {self.archive.unpacked} bytes (at {target.name!a})")
                rest = memoryview(block)
                while rest:
                    try:
                        rest = rest[sink.write(rest) :]
                    except OSError as error:
                        raise StorageError.from_os_error(target, error) from None
        self._written += written

    def _spell(self, parts: tuple[str, ...], *, folder: bool) -> None:
        """Refuse a second entry of the same name, also where only case or composition of letters differs."""
        spelled = "/".join(parts)
        key = unicodedata.normalize("NFC", unicodedata.normalize("NFC", spelled).casefold())
        before = self._seen.get(key)
        if before is not None and (not folder or before != (spelled, True)):  # a folder may be named again
            raise self.fault(f"holds {spelled[:120]!a} twice, or a name that some disks cannot tell from it")
        self._seen[key] = (spelled, folder)

    def _make(self, folder: Path) -> None:
        if folder not in self._made:
            try:
                folder.mkdir(parents=True, exist_ok=True)
            except OSError as error:
                raise StorageError.from_os_error(folder, error) from None
            self._made.add(folder)
