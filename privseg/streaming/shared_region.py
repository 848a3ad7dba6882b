"""A piece of shared memory in which one frame's picture goes to Triton and its answer comes back.

A region is a file in the server's ``/dev/shm``, readable by this user alone. Its owner holds a lock on it, which the
kernel releases when the owner dies, however it dies: so a file without a lock is nobody's and may be removed, in
whatever process-id namespace its owner ran. A file is never made shorter, for the server may still have it mapped.
"""

from __future__ import annotations

import contextlib
import fcntl
import mmap
import os
import re
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt

__all__ = ["PREFIX", "SharedRegion", "directory_finder", "stale_regions"]

#: what the names of all our regions begin with; Triton's own begin otherwise
PREFIX: Final = "privseg-frames-"
_ATTEMPTS: Final = 5
_LOOPBACK: Final = re.compile(r"(?:dns:(?:///)?|ipv4:|ipv6:)?(?:127\.[\d.]+|localhost|\[::1\]):(\d+)", re.IGNORECASE)
_SOCKETS: Final = (Path("/proc/net/tcp"), Path("/proc/net/tcp6"))
_LISTEN: Final = "0A"  # a TCP state
_SHARED_MEMORY: Final = Path("/dev/shm")  # noqa: S108 - where Triton opens its regions


class SharedRegion:
    """Memory for one picture and its answer; a new one has a name that was never used before.

    Args:
        directory: The server's ``/dev/shm``, as seen from here.
        pixels: How many the largest picture may have.

    Raises:
        OSError: There is no such directory, it cannot be written, or it is full.
    """

    def __init__(self, directory: Path, pixels: int) -> None:
        self.pixels = pixels
        #: where the answer begins; the picture begins at 0
        self.person_offset = pixels * 3
        self.size = pixels * 4
        self._path, self._descriptor = _make_locked(directory)
        try:
            # Reserved, not just promised: a full file system would otherwise kill us, or the server, at some write.
            os.posix_fallocate(self._descriptor, 0, self.size)
            self._memory = np.frombuffer(mmap.mmap(self._descriptor, self.size), np.uint8)
        except BaseException:
            self.remove()
            raise

    @property
    def name(self) -> str:
        """Its name, which is also its key: the file's name."""
        return self._path.name

    def write(self, image: npt.NDArray[np.uint8]) -> None:
        """Put in a picture, uint8 ``[1, H, W, 3]``, and mark its answer as not computed."""
        self._memory[self.person_offset :] = 0
        self._memory[: image.size] = image.reshape(-1)

    def image(self, size: tuple[int, int]) -> npt.NDArray[np.uint8]:
        """A copy of the picture, uint8 ``[1, H, W, 3]``."""
        height, width = size
        return self._memory[: height * width * 3].reshape(1, height, width, 3).copy()

    def person(self, size: tuple[int, int]) -> npt.NDArray[np.uint8]:
        """A copy of the answer, uint8 ``(H, W)``; 0 where nothing was written since the picture was put in."""
        height, width = size
        return self._memory[self.person_offset : self.person_offset + height * width].reshape(size).copy()

    def remove(self) -> None:
        """Take the file away; the memory itself lives as long as this object, or the server's mapping of it."""
        with contextlib.suppress(OSError):  # gone already, maybe with the server that it belonged to
            self._path.unlink()
        os.close(self._descriptor)


def _make_locked(directory: Path) -> tuple[Path, int]:
    """Make an empty file that is ours, locked; another client may take it for a stale one until it is locked."""
    for _ in range(_ATTEMPTS):
        path = directory / f"{PREFIX}{os.getpid()}-{uuid.uuid4().hex[:16]}"
        descriptor = os.open(path, os.O_CREAT | os.O_EXCL | os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        with contextlib.suppress(BlockingIOError):
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if os.fstat(descriptor).st_nlink:
                return path, descriptor
        os.close(descriptor)
    raise BlockingIOError(0, "others remove what is made there", str(directory))


def stale_regions(directory: Path, found: Callable[[str], None]) -> None:
    """Remove every region in ``directory`` whose owner is dead, telling ``found`` its name first; skip other users'."""
    for path in list(directory.glob(f"{PREFIX}*")):
        try:
            descriptor = os.open(path, os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC)
        except OSError:  # another user's, or gone meanwhile
            continue
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:  # its owner lives
            continue
        else:
            found(path.name)
            path.unlink(missing_ok=True)
        finally:
            os.close(descriptor)


def directory_finder(setting: str | Path, url: str) -> Callable[[], Path | None] | None:
    """How to find the server's ``/dev/shm``, again after every restart of it.

    Args:
        setting: ``auto``: of the process that listens on ``url``'s port, if that is on this machine; a local Triton
            has one of its own, which nobody else sees. ``off``. Or the directory itself, where it is shared with a
            server in another container.
        url: Triton's address.

    Returns:
        None for a server that shares no memory with us. The function returns None while no such server listens.
    """
    if isinstance(setting, Path):
        return lambda: setting
    target = _LOOPBACK.fullmatch(url) if setting == "auto" else None
    if target is None:
        return None
    port = int(target[1])
    return lambda: _directory_of_listener(port)


def _directory_of_listener(port: int) -> Path | None:
    sockets = {f"socket:[{inode}]" for inode in _listening(port)}
    for process in Path("/proc").iterdir() if sockets else ():
        if not process.name.isdigit():
            continue
        with contextlib.suppress(OSError):  # another user's, or ended meanwhile
            if any(_link(entry) in sockets for entry in (process / "fd").iterdir()):
                return process / "root" / _SHARED_MEMORY.relative_to("/")
    return None


def _listening(port: int) -> set[str]:
    """The inodes of the sockets that listen on a port."""
    found = set()
    for table in filter(Path.is_file, _SOCKETS):
        for line in table.read_text(encoding="ascii").splitlines()[1:]:
            fields = line.split()
            if fields[3] == _LISTEN and int(fields[1].rpartition(":")[2], 16) == port:
                found.add(fields[9])
    return found


def _link(entry: Path) -> str:
    try:
        return str(entry.readlink())
    except OSError:  # closed meanwhile
        return ""
