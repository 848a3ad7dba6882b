"""Download one archive: resumed where it stopped, and given its name only when it is the right one."""

from __future__ import annotations

import contextlib
import hashlib
import re
from dataclasses import dataclass
from pathlib import Path

from privseg.datasets.fetch._transfer import Retry, Transfer, part_file, state_file
from privseg.datasets.fetch.catalogue import Archive
from privseg.datasets.fetch.progress import ProgressFunction, Say, silent
from privseg.errors import DataError, StorageError

__all__ = ["Downloaded", "Retry", "bytes_here", "download", "record_file", "verify"]

_BLOCK = 1024 * 1024


@dataclass(frozen=True)
class Downloaded:
    """One archive on this machine.

    Attributes:
        path: The file.
        received: Bytes that came over the network in this call.
        resumed_at: Bytes that were here before.
        checksum: ``algorithm:digest`` of the file.
        trust: ``published``: equal to the published checksum; ``recorded``: none is published, and this is now the one
            to compare with; ``matches the record``: equal to that of an earlier download.
    """

    path: Path
    received: int
    resumed_at: int
    checksum: str
    trust: str


def download(
    archive: Archive,
    url: str,
    folder: Path,
    *,
    retry: Retry | None = None,
    say: Say = lambda line: None,
    progress: ProgressFunction = silent,
) -> Downloaded:
    """Get an archive into a folder, or only check it where it is there already.

    Args:
        archive: What is expected.
        url: Where from.
        folder: An existing folder; at most one process may download into it.
        retry: How broken transfers are taken up again.
        say: Told, in one line, what a person should know.
        progress: Told the bytes done.

    Raises:
        ServerUnavailableError: The server does not serve it; a part that has arrived stays for the next attempt.
        DataError: What came is not the published file, or not the one that came the first time. It is removed.
        StorageError: The disk is full or the folder cannot be written; a part that has arrived stays.
    """
    path = folder / archive.name
    here = bytes_here(archive, folder)
    received = 0
    source = path
    if not path.is_file():
        transfer = Transfer(archive, url, folder, retry or Retry(), say, progress)
        transfer.run()
        source, received = transfer.part, transfer.received
    try:
        checksum, trust = verify(archive, source, record_file(folder, archive), say=say, progress=progress)
    except DataError:
        source.unlink(missing_ok=True)
        state_file(folder, archive).unlink(missing_ok=True)
        raise
    try:
        source.replace(path)
        state_file(folder, archive).unlink(missing_ok=True)
    except OSError as error:
        raise StorageError.from_os_error(path, error) from None
    return Downloaded(path, received, here, checksum, trust)


def bytes_here(archive: Archive, folder: Path) -> int:
    """Bytes of an archive that need not be downloaded any more."""
    for path in (folder / archive.name, part_file(folder, archive)):
        with contextlib.suppress(OSError):
            return path.stat().st_size
    return 0


def record_file(folder: Path, archive: Archive) -> Path:
    """Where the digest of an archive without a published checksum is remembered; ``sha256sum --check`` reads it."""
    return folder / f"{archive.name}.sha256"


def verify(
    archive: Archive, path: Path, record: Path, *, say: Say = lambda line: None, progress: ProgressFunction = silent
) -> tuple[str, str]:
    """Compare a whole archive with its published checksum, or with the record of an earlier download.

    Args:
        archive: What is expected.
        path: The file.
        record: Where the digest of an archive without a published checksum is remembered, and written if it is new.
        say: Told when a record is written.
        progress: Told the bytes read.

    Returns:
        ``algorithm:digest`` and how far it can be trusted, as in `Downloaded`.

    Raises:
        DataError: It is another file; the caller must not use it.
        StorageError: The record cannot be written.
    """
    size = path.stat().st_size
    if archive.exact and size != archive.size:
        raise _wrong(archive, path, f"is {size} bytes, the published file {archive.size}")
    algorithm = archive.checksum.algorithm if archive.checksum else "sha256"
    value = _digest(path, algorithm, f"checking {archive.name}", progress)
    if archive.checksum is not None:
        if value != archive.checksum.value:
            raise _wrong(archive, path, f"has the {algorithm} {value}, the published file {archive.checksum.value}")
        return f"{algorithm}:{value}", "published"
    known = _recorded(record)
    if known is None:
        try:
            record.write_text(f"{value}  {archive.name}\n", encoding="ascii")
        except OSError as error:
            raise StorageError.from_os_error(record, error) from None
        say(
            f"No checksum of {archive.name} is published, so nothing vouches for this copy. Its sha256, {value}, is "
            f"kept in {record}: every later download must match it."
        )
        return f"{algorithm}:{value}", "recorded"
    if value != known:
        raise DataError(
            path,
            f"has the sha256 {value}, the copy downloaded first {known}; the file has been removed",
            f"run the same command again; only if its authors changed the file, delete {record} before",
        )
    return f"{algorithm}:{value}", "matches the record"


def _wrong(archive: Archive, path: Path, fault: str) -> DataError:
    return DataError(
        path,
        f"{fault}: it was damaged or tampered with, and has been removed",
        f"run the same command again; if it comes back, fetch {archive.name} from another server with --base-url",
    )


def _digest(path: Path, algorithm: str, what: str, progress: ProgressFunction) -> str:
    digest, done, total = hashlib.new(algorithm), 0, path.stat().st_size
    progress(what, 0, total)
    with path.open("rb") as file:
        while block := file.read(_BLOCK):
            digest.update(block)
            done += len(block)
            progress(what, done, total)
    return digest.hexdigest()


def _recorded(record: Path) -> str | None:
    try:
        text = record.read_text(encoding="ascii")
    except FileNotFoundError:
        return None
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(record, f"cannot be read ({error})", "check or delete it, then fetch again") from None
    value = text.partition(" ")[0]
    if not re.fullmatch(r"[0-9a-f]{64}", value):
        raise DataError(record, "holds no sha256", "delete it, then fetch again: the next download is recorded anew")
    return value
