"""Files that only their owner may read: written whole, made durable, and wiped as well as a file system allows."""

from __future__ import annotations

import contextlib
import fcntl
import os
import secrets
import stat
from collections.abc import Iterator
from pathlib import Path

from privseg.errors import StorageError, UsageError

__all__ = ["create_secret", "locked", "read_secret", "replace_secret"]

_OWN = 0o600
_OTHERS = stat.S_IRWXG | stat.S_IRWXO


def read_secret(path: Path, what: str) -> bytes:
    """Read a file that nobody but its owner may read.

    Args:
        path: The file.
        what: What it is called in messages.

    Raises:
        UsageError: It cannot be read, or others than its owner may read or write it.
    """
    try:
        with path.open("rb") as file:
            if os.fstat(file.fileno()).st_mode & _OTHERS:
                fault = f"is {what}, and others than its owner may read or write it"
                raise UsageError(path, fault, f"chmod 600 {path}, and think of who may have read it")
            return file.read()
    except OSError as error:
        raise UsageError(path, f"cannot be read as {what} ({error.strerror})", f"give the path of {what}") from None


def create_secret(path: Path, content: bytes) -> None:
    """Write a new file, 0600, and make it durable.

    Raises:
        UsageError: The file exists.
        StorageError: It cannot be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        _write_new(path, content)
        _sync_folder(path.parent)
    except FileExistsError:
        raise UsageError(path, "exists", "give a path where nothing is yet") from None
    except OSError as error:
        raise StorageError.from_os_error(path, error) from None


def replace_secret(path: Path, content: bytes) -> None:
    """Replace a file by a new one, 0600, at once and durably; then overwrite what the old one held.

    Overwriting reaches the blocks that the old bytes lie in only where the file system writes in place. Copies,
    snapshots and backups are out of its reach.

    Raises:
        StorageError: It cannot be written; the file is what it was before.
    """
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}.partial")
    try:
        with path.open("r+b") if path.exists() else contextlib.nullcontext() as old:
            try:
                _write_new(temporary, content)
                temporary.replace(path)
            except BaseException:
                temporary.unlink(missing_ok=True)
                raise
            _sync_folder(path.parent)
            if old is not None:
                old.write(bytes(os.fstat(old.fileno()).st_size))
                old.flush()
                os.fsync(old.fileno())
    except OSError as error:
        raise StorageError.from_os_error(path, error) from None


@contextlib.contextmanager
def locked(path: Path) -> Iterator[None]:
    """Within it, no other process or thread is within it for the same ``path``. Raises StorageError."""
    lock = path.with_name(f"{path.name}.lock")
    try:
        descriptor = os.open(lock, os.O_CREAT | os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC, _OWN)
    except OSError as error:
        raise StorageError.from_os_error(lock, error) from None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _write_new(path: Path, content: bytes) -> None:
    descriptor = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_NOFOLLOW | os.O_CLOEXEC, _OWN)
    try:
        with os.fdopen(descriptor, "wb") as file:
            os.fchmod(file.fileno(), _OWN)  # a umask may have taken the owner's own rights
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
    except BaseException:
        path.unlink(missing_ok=True)
        raise


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
