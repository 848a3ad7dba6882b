"""Where what is seen has moved since the frame before, from small grey copies of the model's input."""

from __future__ import annotations

from typing import Final

import cv2
import numpy as np
import numpy.typing as npt

__all__ = ["Flow", "Motion"]

#: float32 ``(h, w, 2)``: for every cell, how far from it (right, down, in cells) that what it shows was a frame ago
Flow = npt.NDArray[np.float32]

#: cells of the longer side
_LONG_SIDE: Final = 256
# Smaller pictures than this are nothing that a flow can be told from.
_SHORTEST: Final = 16


class Motion:
    """Dense optical flow between one camera's consecutive frames (DIS: Kroeger et al., ECCV 2016).

    Of all that it is shown, it keeps one small grey picture: that of the last frame.
    """

    def __init__(self) -> None:
        self._estimator = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_FAST)
        self._last: npt.NDArray[np.uint8] | None = None

    def follow(self, image: npt.NDArray[np.uint8]) -> Flow | None:
        """Compare with the image before.

        Args:
            image: uint8 ``(H, W, 3)`` RGB: the model's input.

        Returns:
            The flow on a grid of at most 256 cells a side; None for the first image, after a change of size, and for
            images too small to tell.
        """
        height, width = image.shape[:2]
        scale = min(_LONG_SIDE / max(height, width), 1.0)
        size = (max(round(width * scale), 1), max(round(height * scale), 1))
        grey = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)
        now: npt.NDArray[np.uint8] = cv2.resize(grey, size, interpolation=cv2.INTER_AREA)
        before, self._last = self._last, now
        if before is None or before.shape != now.shape or min(now.shape) < _SHORTEST:
            return None
        flow: Flow = self._estimator.calc(now, before, None)
        return flow
