"""From finished shards to a stage's output folder: hard links, tables, and one rename at the end."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path

from privseg.datasets.sharding.build import wait_for_lock
from privseg.errors import StorageError

__all__ = ["assemble", "replace_folder"]

_NO_LINKS = {errno.EXDEV, errno.EPERM, errno.EMLINK, errno.ENOTSUP, errno.ENOSYS}
_COPYING = ".copying"
_PUBLISHED = ".published"


def assemble(
    out_dir: Path, shards: Sequence[Path], *, staging: Path, folders: Sequence[str], finish: Callable[[Path], None]
) -> None:
    """Put finished shards together as ``out_dir``.

    The result grows in ``.{name}.partial`` beside ``out_dir`` and is renamed when whole. A run that was interrupted is
    taken up where it stopped; of several runs at once one assembles, the others find its result.

    Args:
        out_dir: Destination; what is there is replaced.
        shards: Folders of finished shards.
        staging: The folder that holds them; the caller keeps it in use (`shards.staging_in_use`).
        folders: Subfolders of the shards whose files are wanted. They are hard links to the shards', or copies where
            the file system makes none.
        finish: Writes what else belongs into the folder it is given.

    Raises:
        StorageError: The disk is full or the place cannot be written; an earlier ``out_dir`` is left as it was.
    """
    digest = hashlib.sha256("\n".join(shard.name for shard in shards).encode()).hexdigest()[:16]
    growing = out_dir.with_name(f".{out_dir.name}.partial")
    folder = growing / digest
    try:
        handle = os.open(staging / ".assembly", os.O_RDWR | os.O_CREAT, 0o644)
        try:
            wait_for_lock(handle, patience=float("inf"))
            restore(out_dir)
            if _published(out_dir, staging, digest):
                return
            _remove_others(growing, folder)
            for name in folders:
                (folder / name).mkdir(parents=True, exist_ok=True)
                for shard in shards:
                    for file in os.scandir(shard / name):
                        _place(file, folder / name, folder / _COPYING)
            for leftover in folder.glob(".*"):  # temporary files of a run that was killed
                leftover.unlink()
            finish(folder)
            replace_folder(folder, out_dir)
            growing.rmdir()
            _note_published(out_dir, staging, digest)
        finally:
            os.close(handle)
    except OSError as error:
        raise StorageError.from_os_error(out_dir, error) from None


def restore(out_dir: Path) -> None:
    """Bring back what a run moved aside that died before its own result was in place."""
    previous = _previous(out_dir)
    if previous.exists() and not out_dir.exists():
        previous.rename(out_dir)


def replace_folder(folder: Path, out_dir: Path) -> None:
    """Rename ``folder`` to ``out_dir``; what was there gives way, and goes only then.

    Raises:
        OSError: As the file system has it.
    """
    previous = _previous(out_dir)
    if out_dir.exists():
        if previous.exists():
            shutil.rmtree(previous)
        out_dir.rename(previous)
    folder.rename(out_dir)
    shutil.rmtree(previous, ignore_errors=True)


def _previous(out_dir: Path) -> Path:
    return out_dir.with_name(f".{out_dir.name}.previous")


def _remove_others(growing: Path, folder: Path) -> None:
    """Make ``folder`` the only thing in ``growing``: the rest is of other shards."""
    folder.mkdir(parents=True, exist_ok=True)
    for entry in growing.iterdir():
        if entry != folder:
            shutil.rmtree(entry)


def _place(file: os.DirEntry[str], folder: Path, temporary: Path) -> None:
    target = f"{folder}/{file.name}"
    try:
        os.link(file.path, target)
    except FileExistsError:  # an earlier run came this far; what it placed is whole, and of this very shard
        return
    except OSError as error:
        if error.errno not in _NO_LINKS:
            raise
        if not os.path.exists(target):  # noqa: PTH110 - strings are enough, for hundreds of thousands of files
            shutil.copyfile(file.path, temporary)
            temporary.rename(target)


def _note_published(out_dir: Path, staging: Path, digest: str) -> None:
    (staging / _PUBLISHED).write_text(json.dumps([digest, *_identity(out_dir)]), encoding="utf-8")


def _published(out_dir: Path, staging: Path, digest: str) -> bool:
    """Whether another run has put these very shards in place already."""
    try:
        noted = json.loads((staging / _PUBLISHED).read_text(encoding="utf-8"))
        return bool(noted == [digest, *_identity(out_dir)])
    except (FileNotFoundError, ValueError):  # none yet, or half written when its run was killed
        return False


def _identity(folder: Path) -> tuple[str, int, int]:
    stat = folder.stat()  # inode numbers are used again: the time tells a folder from one that came later
    return str(folder), stat.st_ino, stat.st_mtime_ns
