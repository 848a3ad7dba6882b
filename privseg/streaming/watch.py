"""Is a camera that sends something alive? One that repeats its last picture is not, nor one without any picture."""

from __future__ import annotations

from typing import Final

import numpy as np
import numpy.typing as npt

from privseg.errors import ServerUnavailableError

__all__ = ["CameraStalledError", "Soundness", "Stillness"]

_STEP: Final = 4  # of a picture, every fourth pixel down and across is compared


class CameraStalledError(ServerUnavailableError):
    """The connection is there, and no picture comes."""


class Soundness:
    """Tells which pictures show what the camera saw: none from a damaged one on, until a whole key frame.

    A decoder flags the picture in which something was missing, and conceals the gap. The pictures after it are built on
    the concealed one and come unflagged: grey, with the outlines of whatever moves, which no model takes for people.
    """

    def __init__(self) -> None:
        self._broken = False

    def lost(self) -> None:
        """Something that later pictures may be built on could not be decoded."""
        self._broken = True

    def damaged(self, corrupt: bool, key_frame: bool) -> bool:
        """Whether the next picture is damaged.

        Args:
            corrupt: The decoder says so.
            key_frame: It is built on no other.
        """
        if corrupt:
            self._broken = True
        elif key_frame:
            self._broken = False
        return self._broken


class Stillness:
    """Notices when a camera sends the very same picture for too long.

    A camera's own noise makes every picture another one, so that pictures equal bit by bit come from a decoder, a proxy
    or a recorder that repeats its last. A sample is compared, and only that sample of the last picture is kept.

    Args:
        seconds: From when on; 0 never.
    """

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._last: npt.NDArray[np.uint8] | None = None
        self._since = 0.0

    def frozen(self, pixels: npt.NDArray[np.uint8], now: float) -> bool:
        """Whether this picture has been the same for so long.

        Args:
            pixels: uint8 ``(H, W, 3)``.
            now: Monotonic seconds at which it came.
        """
        if not self._seconds:
            return False
        sample = pixels[::_STEP, ::_STEP]
        if self._last is None or not np.array_equal(sample, self._last):
            self._last, self._since = sample.copy(), now
            return False
        return now - self._since >= self._seconds
