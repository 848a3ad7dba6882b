"""Pixelation: people become a few large cells, sized by the person and never in fixed pixels."""

from __future__ import annotations

import math
from typing import ClassVar

import cv2
import numpy as np
import numpy.typing as npt
from pydantic import Field

from privseg.privacy.filters.base import BoolMask, Image, MethodParams, PrivacyClass

__all__ = ["Pixelate", "PixelateParams"]

# Above this many separate areas the mask is noise: all of it is treated as one person.
_MAX_PERSONS = 64
_FEWEST_PIXELS = 4
_NEUTRAL = np.full(3, 128.0)


class PixelateParams(MethodParams):
    """How coarse the cells are."""

    cells: int = Field(5, ge=1, le=6, description="cells across the longer side of each person")
    min_block: int = Field(8, ge=2, le=256, description="smallest cell in pixels")


class Pixelate:
    """Replace each cell by the mean of its masked pixels. Trained attackers recognise people from such cells."""

    name: ClassVar[str] = "pixelate"
    privacy_class: ClassVar[PrivacyClass] = "obfuscation"
    does_not_hide: ClassVar[str] = "coarse colours of clothing; trained attackers recognise people from such cells"
    params_type: ClassVar[type[MethodParams]] = PixelateParams

    def __init__(self, params: PixelateParams | None = None) -> None:
        self.params = params or PixelateParams()

    def apply(self, image: Image, mask: BoolMask) -> Image:
        """Cover the masked pixels; see :class:`~privseg.privacy.filters.base.Method`."""
        result = image.copy()
        outlines, _ = cv2.findContours(mask.view(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
        if len(outlines) > _MAX_PERSONS:
            self._cover(result, image, mask)
            return result
        for outline in outlines:
            left, top, width, height = cv2.boundingRect(outline)
            window = np.s_[top : top + height, left : left + width]
            person = np.zeros((height, width), np.uint8)
            cv2.drawContours(person, [outline], -1, 1, cv2.FILLED, offset=(-left, -top))
            self._cover(result[window], image[window], person.view(np.bool_) & mask[window])
        return result

    def _cover(self, result: Image, image: Image, person: BoolMask) -> None:
        """Write the cells of one person into ``result``; all three are windows of the same ``(h, w)``."""
        color = np.ascontiguousarray(image)
        rows, columns = (self._edges(side, max(person.shape)) for side in person.shape)
        corners = np.ix_(rows, columns)
        inside = cv2.bitwise_and(color, color, mask=person.view(np.uint8))
        mass = _cell_sums(cv2.integral(person.view(np.uint8), sdepth=cv2.CV_64F)[corners])[:, :, np.newaxis]
        total = _cell_sums(cv2.integral(inside, sdepth=cv2.CV_64F)[corners])
        pixels = mass.sum()
        average = total.sum((0, 1)) / pixels if pixels > 1 else _NEUTRAL
        # A cell of a pixel or two would show them: it takes the colour of the whole person.
        mean = np.where(mass >= _FEWEST_PIXELS, total / np.maximum(mass, 1), average)
        cells = np.rint(mean).astype(np.uint8)
        cells = cells.repeat(np.diff(rows), axis=0).repeat(np.diff(columns), axis=1)
        np.copyto(result, cells, where=person[:, :, np.newaxis])

    def _edges(self, side: int, longer: int) -> npt.NDArray[np.int64]:
        """Where the cells along one side begin and end; the last one takes the remainder."""
        block = max(math.ceil(longer / self.params.cells), self.params.min_block)
        return np.append(np.arange(max(side // block, 1)) * block, side)


def _cell_sums(integral: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    return np.diff(np.diff(integral, axis=0), axis=1)
