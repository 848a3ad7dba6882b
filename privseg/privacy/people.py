"""The covered area of a frame, person by person."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from privseg.privacy.filters.base import BoolMask, Person

__all__ = ["MAX_PEOPLE", "find_people"]

#: Above this many separate areas the mask is noise: all of it is treated as one person.
MAX_PEOPLE = 64

# From so many pixels of the longer side on, areas are searched in blocks of so many pixels, one word of memory across.
# A model that sees 512 pixels of the longer side cannot tell apart what lies closer together than a block.
_BLOCKS: tuple[tuple[int, int, type[np.unsignedinteger[Any]]], ...] = ((1920, 4, np.uint32), (1024, 2, np.uint16))


def find_people(mask: BoolMask) -> list[tuple[Person, BoolMask]]:
    """Divide a mask into its connected areas.

    Args:
        mask: bool ``(H, W)``.

    Returns:
        Each area (8-connected; one inside another's hole belongs to it) with its own pixels, bool ``(h, w)`` in its
        box, read-only. Together they are the mask, and no two share a pixel. From top to bottom, then from left to
        right. Where a frame is 1024 pixels or longer, areas that reach into neighbouring blocks of 2 pixels (1920 or
        longer: 4) are one.
    """
    side, blocks = _blocks(mask)
    outlines, _ = cv2.findContours(blocks, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE)
    if len(outlines) > MAX_PEOPLE:
        areas = [_trimmed(mask, 0, 0)]
    else:
        areas = sorted(_areas(mask, blocks, side, outlines), key=lambda area: area[0])
    people = []
    for index, ((top, left), own) in enumerate(areas):
        own.flags.writeable = False
        people.append((Person(index, top, left, *own.shape), own))
    return people


def _blocks(mask: BoolMask) -> tuple[int, npt.NDArray[np.uint8]]:
    """The side of a block in pixels, and the mask reduced to blocks, not 0 where a pixel of a block is true."""
    for longer, side, word in _BLOCKS:
        if max(mask.shape) >= longer:
            below, right = (-length % side for length in mask.shape)
            whole = mask.view(np.uint8)
            if below or right:
                whole = cv2.copyMakeBorder(whole, 0, below, 0, right, cv2.BORDER_CONSTANT, value=[0])
            rows = np.ascontiguousarray(whole).reshape(-1, side, whole.shape[1])
            joined = cv2.bitwise_or(rows[:, 0], rows[:, 1])
            for row in range(2, side):
                cv2.bitwise_or(joined, rows[:, row], dst=joined)
            return side, (joined.view(word) != 0).view(np.uint8)
    return 1, mask.view(np.uint8)


def _areas(
    mask: BoolMask, blocks: npt.NDArray[np.uint8], side: int, outlines: Sequence[Any]
) -> Iterator[tuple[tuple[int, int], BoolMask]]:
    for outline in outlines:
        left, top, width, height = cv2.boundingRect(outline)
        filled = np.zeros((height, width), np.uint8)
        cv2.drawContours(filled, [outline], -1, 1, cv2.FILLED, offset=(-left, -top))
        own = mask[top * side : (top + height) * side, left * side : (left + width) * side]
        if cv2.hasNonZero(cv2.compare(blocks[top : top + height, left : left + width], filled, cv2.CMP_GT)):
            # Somebody else reaches into the box.
            rows, columns = own.shape
            own = own & filled.repeat(side, axis=0).repeat(side, axis=1)[:rows, :columns].view(np.bool_)
        yield _trimmed(own, top * side, left * side)


def _trimmed(window: BoolMask, top: int, left: int) -> tuple[tuple[int, int], BoolMask]:
    """The top left corner in the frame, and a copy without the empty rows and columns around."""
    x, y, width, height = cv2.boundingRect(window.view(np.uint8))
    return (top + y, left + x), window[y : y + height, x : x + width].copy()
