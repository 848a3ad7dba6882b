"""Where files go: nothing overwrites a source or another output, nothing appears half-written or through a link."""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path

from privseg.errors import DataError, StorageError, UsageError
from privseg.streaming.address import url_scheme
from privseg.streaming.source_folder import pictures_in

__all__ = ["create_unique", "refuse_shared_files", "write_whole"]


def refuse_shared_files(sources: Iterable[str], written: Mapping[str, Path | None]) -> None:
    """Refuse two files that are one, whichever way they are spelled or linked.

    Args:
        sources: Paths and addresses to be read; several may be the same.
        written: Files to be written, by what they are called in the message; None for one that is not wanted.

    Raises:
        UsageError: A file to be written is a source, or another file to be written.
    """
    taken = {key: "a source" for source in sources for path in _files_of(source) for key in _identity(path)}
    for name, path in written.items():
        if path is None:
            continue
        keys = _identity(path)
        other = next((taken[key] for key in keys if key in taken), None)
        if other is not None:
            raise UsageError(f"{name} {path}", f"is the same file as {other}", "give each its own file")
        taken.update(dict.fromkeys(keys, name))


def _files_of(source: str) -> list[Path]:
    """What reading a source reads, as far as that is files: a path, and the pictures in it if it is a folder."""
    if url_scheme(source) is not None:
        return []
    path = Path(source)
    if not path.is_dir():
        return [path]
    with suppress(DataError):  # whoever reads the folder says that it cannot be read
        return [path, *pictures_in(path)]
    return [path]


def _identity(path: Path) -> list[object]:
    """The path without links and dots, and for a file that exists also its device and number: hard links."""
    keys: list[object] = [path.resolve()]
    try:
        status = path.stat()
    except OSError:
        return keys
    return [*keys, (status.st_dev, status.st_ino)]


def create_unique(folder: Path, prefix: str, suffix: str) -> Path:
    """Make a new empty file that nobody else has, following no link; its mode is what the umask leaves.

    Raises:
        OSError: The folder cannot be made or written.
    """
    folder.mkdir(parents=True, exist_ok=True)
    while True:
        path = folder / f"{prefix}{secrets.token_hex(4)}{suffix}"
        try:
            os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_WRONLY | os.O_CLOEXEC, 0o666))
        except FileExistsError:
            continue
        return path


def write_whole(path: Path, content: bytes) -> None:
    """Write a file, whole or not at all. Raises StorageError."""
    temporary: Path | None = None
    try:
        temporary = create_unique(path.parent, f".{path.name}.", ".partial")
        temporary.write_bytes(content)
        temporary.replace(path)
    except BaseException as error:
        if temporary is not None:
            temporary.unlink(missing_ok=True)
        if isinstance(error, OSError):
            raise StorageError.from_os_error(path, error) from None
        raise
