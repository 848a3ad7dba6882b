"""Pixelation: people become a few large cells, sized by the person and never in fixed pixels."""

from __future__ import annotations

import math
from typing import ClassVar

import cv2
import numpy as np
import numpy.typing as npt
from pydantic import Field

from privseg.privacy.filters.base import BoolMask, Context, Image, Method, MethodParams, PrivacyClass

__all__ = ["Pixelate", "PixelateParams"]

_FEWEST_PIXELS = 4
_NEUTRAL = np.full(3, 128.0)


class PixelateParams(MethodParams):
    """How coarse the cells are."""

    cells: int = Field(5, ge=1, le=6, description="cells across the longer side of each person")
    min_block: int = Field(8, ge=2, le=256, description="smallest cell in pixels")


class Pixelate(Method):
    """Replace each cell by the mean of its masked pixels. Trained attackers recognise people from such cells."""

    name: ClassVar[str] = "pixelate"
    privacy_class: ClassVar[PrivacyClass] = "obfuscation"
    does_not_hide: ClassVar[str] = "coarse colours of clothing; trained attackers recognise people from such cells"
    params_type: ClassVar[type[MethodParams]] = PixelateParams
    params: PixelateParams

    def protect(self, image: Image, mask: BoolMask, context: Context) -> Image:
        """Cover the masked pixels; see :class:`~privseg.privacy.filters.base.Method`."""
        rows, columns = (self._edges(side, max(mask.shape)) for side in mask.shape)
        corners = np.ix_(rows, columns)
        inside = cv2.bitwise_and(image, image, mask=mask.view(np.uint8))
        mass = _cell_sums(cv2.integral(mask.view(np.uint8), sdepth=cv2.CV_64F)[corners])[:, :, np.newaxis]
        total = _cell_sums(cv2.integral(inside, sdepth=cv2.CV_64F)[corners])
        pixels = mass.sum()
        average = total.sum((0, 1)) / pixels if pixels > 1 else _NEUTRAL
        # A cell of a pixel or two would show them: it takes the colour of the whole person.
        mean = np.where(mass >= _FEWEST_PIXELS, total / np.maximum(mass, 1), average)
        cells = np.rint(mean).astype(np.uint8)
        covered: Image = cells.repeat(np.diff(rows), axis=0).repeat(np.diff(columns), axis=1)
        return covered

    def cells_across(self) -> float:
        """See :class:`~privseg.privacy.filters.base.Method`."""
        return float(self.params.cells)

    def _edges(self, side: int, longer: int) -> npt.NDArray[np.int64]:
        """Where the cells along one side begin and end; the last one takes the remainder."""
        block = max(math.ceil(longer / self.params.cells), self.params.min_block)
        return np.append(np.arange(max(side // block, 1)) * block, side)


def _cell_sums(integral: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    return np.diff(np.diff(integral, axis=0), axis=1)
