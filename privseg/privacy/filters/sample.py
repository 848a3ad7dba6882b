"""A regular sample of a person's pixels: means over large cells need no more."""

from __future__ import annotations

import cv2
import numpy as np
import numpy.typing as npt

from privseg.privacy.filters.base import BoolMask, Image

__all__ = ["FEWEST_PIXELS", "NEUTRAL", "Floats", "sample", "sums"]

Floats = npt.NDArray[np.float32]

#: A mean over fewer pixels than these shows them nearly as they were.
FEWEST_PIXELS = 4
#: Grey, for areas too small to have a colour of their own.
NEUTRAL = np.full(3, 128.0)


def sample(image: Image, mask: BoolMask, height: int, width: int) -> tuple[Image, Image]:
    """Pixels at regular distances.

    Args:
        image: uint8 ``(h, w, 3)``.
        mask: bool ``(h, w)``.
        height: How many down, at most ``h``.
        width: How many across, at most ``w``.

    Returns:
        The pixels, uint8 ``(height, width, 3)``, zero where they are not under the mask; and where they are, uint8
        ``(height, width)`` of 0 and 1.
    """
    covered = mask.view(np.uint8)
    if mask.shape != (height, width):
        image = cv2.resize(image, (width, height), interpolation=cv2.INTER_NEAREST)
        covered = cv2.resize(covered, (width, height), interpolation=cv2.INTER_NEAREST)
    return cv2.bitwise_and(image, image, mask=covered), covered


def sums(few: Image, covered: Image, rows: int, columns: int) -> Floats:
    """Sums of a sample over ``rows`` times ``columns`` equal cells; float32 ``(rows, columns, 4)``.

    Args:
        few: uint8 ``(h, w, 3)``, as :func:`sample` returns it.
        covered: uint8 ``(h, w)`` of 0 and 1, likewise.
        rows: How many cells down; whole pixels make up a cell where ``h`` is a multiple of it.
        columns: How many cells across.

    Returns:
        Red, green, blue, and how many pixels they are of.
    """
    height, width = covered.shape
    planes = cv2.merge([few, covered]).astype(np.float32)
    total: Floats = cv2.resize(planes, (columns, rows), interpolation=cv2.INTER_AREA)
    total *= height * width / (rows * columns)
    return total
