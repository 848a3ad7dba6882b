"""Bring a picture and its mask to the ingested size."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import cv2
import numpy as np

from privseg.datasets.sources.base import HUMAN, IGNORE, Image, Mask

__all__ = ["Fitted", "Resize", "fit", "label_ratios"]

Resize = Literal["letterbox", "stretch"]


@dataclass(frozen=True)
class Fitted:
    """A pair at the ingested size.

    Attributes:
        image: RGB uint8 ``(size, size, 3)``; padding is black.
        mask: uint8 ``(size, size)`` of 0, 1, 255; padding is 255.
        content: Rows and columns the picture itself covers.
    """

    image: Image
    mask: Mask
    content: tuple[slice, slice]


def fit(image: Image, mask: Mask, *, size: int, resize: Resize = "letterbox") -> Fitted:
    """Bring a pair to ``size`` × ``size`` pixels.

    Letterbox scales both sides by one factor and centres the picture; stretch fills the square.

    Args:
        image: RGB uint8 ``(H, W, 3)``.
        mask: uint8 ``(H, W)`` of 0, 1, 255.
        size: Height and width of the result in pixels.
        resize: The policy.
    """
    height, width = mask.shape
    scale = size / max(height, width)
    new_height, new_width = size, size
    if resize == "letterbox":
        new_height, new_width = max(1, round(height * scale)), max(1, round(width * scale))
    shrinks = new_height * new_width < height * width
    top, left = (size - new_height) // 2, (size - new_width) // 2
    content = slice(top, top + new_height), slice(left, left + new_width)
    out_image = np.zeros((size, size, 3), np.uint8)
    out_mask = np.full((size, size), IGNORE, np.uint8)
    # Straight into their places, which saves a copy.
    cv2.resize(
        image,
        (new_width, new_height),
        dst=out_image[content],
        interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR,
    )
    # The exact variant samples at pixel centres, as area and linear do; the plain one shifts masks by up to a pixel.
    cv2.resize(mask, (new_width, new_height), dst=out_mask[content], interpolation=cv2.INTER_NEAREST_EXACT)
    return Fitted(out_image, out_mask, content)


def label_ratios(mask: Mask) -> tuple[float, float]:
    """Human share of the labelled pixels, and ignored share of all pixels, of a uint8 ``(H, W)`` mask; both 0..1."""
    human, ignored = (int(np.count_nonzero(mask == value)) for value in (HUMAN, IGNORE))
    return human / max(1, mask.size - ignored), ignored / mask.size
