"""Pixelation: people become a few large cells, sized by the person and never in fixed pixels."""

from __future__ import annotations

import math
from typing import ClassVar

import cv2
import numpy as np
from pydantic import Field

from privseg.privacy.filters.base import BoolMask, Image, MethodParams, PrivacyClass

__all__ = ["Pixelate", "PixelateParams"]

# Above this many separate areas the mask is noise: all of it is treated as one person.
_MAX_PERSONS = 64


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
        height, width = person.shape
        block = max(math.ceil(max(height, width) / self.params.cells), self.params.min_block)
        rows, columns = math.ceil(height / block), math.ceil(width / block)
        padding = (0, rows * block - height, 0, columns * block - width)
        weight = cv2.copyMakeBorder(person.astype(np.float32), *padding, cv2.BORDER_CONSTANT, value=0)
        color = cv2.copyMakeBorder(image.astype(np.float32), *padding, cv2.BORDER_CONSTANT, value=0)
        color *= weight[:, :, np.newaxis]
        mass = cv2.resize(weight, (columns, rows), interpolation=cv2.INTER_AREA)
        total = cv2.resize(color, (columns, rows), interpolation=cv2.INTER_AREA)
        mean = total.reshape(rows, columns, 3) / np.maximum(mass.reshape(rows, columns, 1), 1e-6)
        cells = np.clip(np.rint(mean), 0, 255).astype(np.uint8)
        cells = cells.repeat(block, axis=0).repeat(block, axis=1)[:height, :width]
        np.copyto(result, cells, where=person[:, :, np.newaxis])
