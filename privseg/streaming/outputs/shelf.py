"""One camera's recordings on the disk: their names, and how long they stay."""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from privseg.errors import StorageError, UsageError
from privseg.streaming.scramble_record import sidecar_path
from privseg.streaming.sinks import is_playable, storage_error

__all__ = ["Shelf"]

_STAMP: Final = "%Y%m%dT%H%M%SZ"
# Clocks are set by seconds, not by minutes: a greater jump is a fault, and no reason to throw recordings away.
_JUMP_SECONDS: Final = 60.0
_DOUBT_SECONDS: Final = 3600.0


class Shelf:
    """The files of one camera in one folder; it touches no other file.

    Opening it takes the camera's place there, and puts in order what an earlier run left when it was killed.

    Args:
        folder: Where they lie.
        camera: The camera's name.
        retention_seconds: A file goes when its first picture is older.
        max_bytes: Of all files together; the oldest go first.
        say: Takes a line when something is worth knowing.
        wall: Seconds since 1970, for names and ages.
        steady: Seconds that never jump.

    Raises:
        UsageError: Another process records this camera there.
        StorageError: The folder cannot be made or written.
    """

    def __init__(
        self,
        folder: Path,
        camera: str,
        *,
        retention_seconds: float,
        max_bytes: int,
        say: Callable[[str], None] = lambda _line: None,
        wall: Callable[[], float] = time.time,
        steady: Callable[[], float] = time.monotonic,
    ) -> None:
        self.folder = folder
        self.max_bytes = max_bytes
        self._camera = camera
        self._retention = retention_seconds
        self._say = say
        self._wall, self._steady = wall, steady
        self._offset = wall() - steady()
        self._doubted_until = 0.0
        name = re.escape(camera)
        self._finished = re.compile(rf"{name}_(\d{{8}}T\d{{6}}Z)(?:-\d+)?\.mp4")
        self._growing = re.compile(rf"({name}_(\d{{8}}T\d{{6}}Z)(?:-\d+)?)\.[0-9a-f]{{8}}\.partial\.mp4")
        try:
            folder.mkdir(parents=True, exist_ok=True)
            self._lock = os.open(folder / f".{camera}.lock", os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise storage_error(folder, error) from None
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(self._lock)
            fault = f"already takes the recordings of {camera} from another process"
            raise UsageError(folder, fault, "end that one, or give another folder") from None
        try:
            self._adopt()
        except OSError as error:
            self.close()
            raise storage_error(folder, error) from None

    def close(self) -> None:
        """Leave the place to others."""
        if self._lock >= 0:
            os.close(self._lock)
            self._lock = -1

    def next_path(self) -> Path:
        """A name that no file has, for a recording that begins now."""
        stamp = datetime.fromtimestamp(self._wall(), UTC).strftime(_STAMP)
        path, number = self.folder / f"{self._camera}_{stamp}.mp4", 0
        while path.exists():  # the clock was put back
            number += 1
            path = path.with_name(f"{self._camera}_{stamp}-{number}.mp4")
        return path

    def tidy(self) -> None:
        """Remove what has been kept long enough, then the oldest until all fit. Raises StorageError."""
        try:
            self._tidy()
        except OSError as error:
            raise StorageError.from_os_error(self.folder, error) from None

    def _tidy(self) -> None:
        now, files = self._wall(), sorted(self._files())
        if self._believed(now):
            for begun, path in files:
                if now - begun > self._retention:
                    self._remove(path)
            files = [(begun, path) for begun, path in files if now - begun <= self._retention]
        sizes = {path: _size(path) for _, path in files}
        growing = sum(_size(path) for path in self.folder.iterdir() if self._growing.fullmatch(path.name))
        excess = growing + sum(sizes.values()) - self.max_bytes
        for _, path in files:
            if excess <= 0:
                return
            self._say(f"{self._camera}: {path.name} goes: the camera's recordings have reached their size")
            self._remove(path)
            excess -= sizes[path]

    def _believed(self, now: float) -> bool:
        """Whether the clock can be believed: after a jump, nothing is thrown away for its age for an hour."""
        offset = now - self._steady()
        if abs(offset - self._offset) > _JUMP_SECONDS:
            self._say(f"{self._camera}: the clock jumped by {offset - self._offset:.0f} s; no recording is removed "
                      "for its age for an hour")  # fmt: skip
            self._doubted_until = self._steady() + _DOUBT_SECONDS
        self._offset = offset
        return self._steady() >= self._doubted_until

    def _files(self) -> list[tuple[float, Path]]:
        """When each finished file begins, in seconds since 1970, and its path."""
        return [
            (_seconds(match[1]), path)
            for path in self.folder.iterdir()
            if (match := self._finished.fullmatch(path.name)) is not None
        ]

    def _adopt(self) -> None:
        """Give what a killed run left its name, or remove it where nothing in it can be seen."""
        for path in sorted(self.folder.iterdir()):
            match = self._growing.fullmatch(path.name)
            if match is None:
                continue
            if not is_playable(path):
                self._remove(path)
                continue
            place, number = path.with_name(f"{match[1]}.mp4"), 0
            while place.exists():
                number += 1
                place = path.with_name(f"{match[1].partition('-')[0]}-{number}.mp4")
            with contextlib.suppress(FileNotFoundError):
                sidecar_path(path).replace(sidecar_path(place))
            path.replace(place)
            self._say(f"{self._camera}: {place.name} was left unfinished; it holds what was written")

    @staticmethod
    def _remove(path: Path) -> None:
        path.unlink(missing_ok=True)
        sidecar_path(path).unlink(missing_ok=True)


def _size(path: Path) -> int:
    with contextlib.suppress(FileNotFoundError):
        return path.stat().st_size
    return 0


def _seconds(stamp: str) -> float:
    try:
        return datetime.strptime(stamp, _STAMP).replace(tzinfo=UTC).timestamp()
    except ValueError:  # no date at all: as old as can be
        return 0.0
