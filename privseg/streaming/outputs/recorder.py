"""A camera's recordings: one MP4 after the other, each playable even when the machine stops."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path
from typing import Final

from privseg.privacy.frames import ProtectedFrame, require_protected
from privseg.streaming.outputs.shelf import Shelf
from privseg.streaming.sinks import H264FileSink

__all__ = ["Recorder"]

_LOOK_SECONDS: Final = 5.0
#: a file must not grow beyond this share of what all may take, or removing the others would not help
_LARGEST_SHARE: Final = 4


class Recorder:
    """Cuts a camera's frames into files: by time, where the picture changes its size, and before one grows too large.

    Args:
        shelf: Where they lie; left open.
        segment_seconds: Length of one file, by the frames' own times.
        frame_rate: Frames a second, nominal.
        pixel_aspect: Width of a pixel by its height, for players.
        lossless: See :class:`H264FileSink`.
    """

    def __init__(
        self,
        shelf: Shelf,
        segment_seconds: float,
        frame_rate: Fraction,
        *,
        pixel_aspect: Fraction = Fraction(1),
        lossless: bool = False,
    ) -> None:
        self._shelf = shelf
        self._seconds = segment_seconds
        self._frame_rate = frame_rate
        self._pixel_aspect = pixel_aspect
        self._lossless = lossless
        self._file: H264FileSink | None = None
        self._size = (0, 0)
        self._begun = self._last = self._looked = Fraction(0)

    def write(self, frame: ProtectedFrame) -> None:
        """Record one frame.

        Raises:
            PrivacyViolationPrevented: It is not a ProtectedFrame.
            StorageError: The disk is full or cannot be written; what was recorded stays.
        """
        require_protected(frame, self._shelf.folder)
        now = frame.pts * frame.time_base
        if self._file is not None and self._is_done(frame, now):
            self.close()
        if self._file is None:
            self._shelf.tidy()
            self._size = (frame.width, frame.height)
            self._begun = self._looked = now
            self._file = H264FileSink(
                self._shelf.next_path(), self._frame_rate, self._size,
                recording=True, pixel_aspect=self._pixel_aspect, lossless=self._lossless,
            )  # fmt: skip
        self._last = now
        self._file.write(frame)

    def close(self) -> None:
        """Finish the file. Raises StorageError."""
        file, self._file = self._file, None
        if file is not None:
            file.close()

    def abort(self) -> None:
        """Finish after a fault, with what the file holds."""
        file, self._file = self._file, None
        if file is not None:
            file.abort()

    def _is_done(self, frame: ProtectedFrame, now: Fraction) -> bool:
        if (frame.width, frame.height) != self._size or now < self._last or now - self._begun >= self._seconds:
            return True
        if now - self._looked < _LOOK_SECONDS:
            return False
        self._looked = now
        return self._file is not None and _grown(self._file.temporary) > self._shelf.max_bytes // _LARGEST_SHARE


def _grown(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return 0
