"""Where what is seen has moved since the frame before, from small copies of it."""

from __future__ import annotations

from typing import Final

import cv2
import numpy as np
import numpy.typing as npt

__all__ = ["Flow", "Glimpse", "Motion", "small_copy"]

#: float32 ``(h, w, 2)``: for every cell, how far from it (right, down, in cells) that what it shows was a frame ago
Flow = npt.NDArray[np.float32]
#: uint8 ``(h, w, 3)`` RGB: a small copy of a picture, at most 256 cells a side
Glimpse = npt.NDArray[np.uint8]

#: cells of the longer side
_LONG_SIDE: Final = 256
# Smaller pictures than this are nothing that a flow can be told from.
_SHORTEST: Final = 16


def small_copy(image: npt.NDArray[np.uint8]) -> Glimpse:
    """A small copy, every cell the mean of its pixels; ``image`` is uint8 ``(H, W, 3)`` RGB."""
    height, width = image.shape[:2]
    scale = min(_LONG_SIDE / max(height, width), 1.0)
    size = (max(round(width * scale), 1), max(round(height * scale), 1))
    small: Glimpse = cv2.resize(image, size, interpolation=cv2.INTER_AREA)
    return small


class Motion:
    """Dense optical flow between one camera's consecutive frames (DIS: Kroeger et al., ECCV 2016).

    Of all that it is shown, it keeps one small grey picture: that of the last frame.
    """

    def __init__(self) -> None:
        self._estimator = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_FAST)
        self._last: npt.NDArray[np.uint8] | None = None

    def follow(self, glimpse: Glimpse, quiet: int = 0) -> Flow | None:
        """Compare with the picture before.

        Args:
            glimpse: See :func:`small_copy`.
            quiet: Where no cell differs by so many grey levels, nothing is taken to have moved.

        Returns:
            The flow on the grid of ``glimpse``; None for the first picture, after a change of size, for pictures too
            small to tell, and where nothing moved.
        """
        now = cv2.cvtColor(glimpse, cv2.COLOR_RGB2GRAY)
        before, self._last = self._last, now
        if before is None or before.shape != now.shape or min(now.shape) < _SHORTEST:
            return None
        if quiet and int(cv2.absdiff(now, before).max()) < quiet:
            return None
        flow: Flow = self._estimator.calc(now, before, None)
        return flow
