"""The covered area of a frame, person by person."""

from __future__ import annotations

from collections.abc import Iterator

import cv2
import numpy as np
import numpy.typing as npt

from privseg.privacy.filters.base import Person

__all__ = ["MAX_PEOPLE", "find_people"]

#: Above this many separate areas the mask is noise: all of it is treated as one person.
MAX_PEOPLE = 64

BoolMask = npt.NDArray[np.bool_]


def find_people(mask: BoolMask) -> list[tuple[Person, BoolMask]]:
    """Divide a mask into its connected areas.

    Args:
        mask: bool ``(H, W)``.

    Returns:
        Each area (8-connected; one inside another's hole belongs to it) with its own pixels, bool ``(h, w)`` in its
        box. Together they are the mask, and no two share a pixel. From top to bottom, then from left to right.
    """
    outlines, _ = cv2.findContours(mask.view(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    if len(outlines) > MAX_PEOPLE:
        left, top, width, height = cv2.boundingRect(mask.view(np.uint8))
        window = np.ascontiguousarray(mask[top : top + height, left : left + width])
        return [(Person(0, top, left, height, width), window)]
    return [
        (Person(index, top, left, height, width), own)
        for index, ((top, left, height, width), own) in enumerate(sorted(_areas(mask, outlines), key=lambda a: a[0]))
    ]


def _areas(mask: BoolMask, outlines: object) -> Iterator[tuple[tuple[int, int, int, int], BoolMask]]:
    for outline in outlines:  # type: ignore[attr-defined]
        left, top, width, height = cv2.boundingRect(outline)
        filled = np.zeros((height, width), np.uint8)
        cv2.drawContours(filled, [outline], -1, 1, cv2.FILLED, offset=(-left, -top))
        own = filled.view(np.bool_) & mask[top : top + height, left : left + width]
        yield (top, left, height, width), own
