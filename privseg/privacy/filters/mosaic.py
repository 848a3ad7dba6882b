"""Mosaic: people become a few large irregular tiles."""

from __future__ import annotations

import math
from typing import ClassVar

import cv2
import numpy as np
from pydantic import Field

from privseg.privacy.filters.base import BoolMask, Context, Image, MethodParams, PrivacyClass
from privseg.privacy.filters.cells import FEWEST_PIXELS, NEUTRAL, sample
from privseg.privacy.filters.keyed import KeyedMethod, SessionParams, keystream

__all__ = ["Mosaic", "MosaicParams"]

_SAMPLES_ACROSS = 16
_SMALLEST_TILE = 8
_JITTER = 0.8
# Pixels a grid square of the drawn pattern.
_FINE = 64


class MosaicParams(SessionParams):
    """How coarse the tiles are."""

    cells: int = Field(5, ge=1, le=6, description="tiles across the longer side of each person, on average")


class Mosaic(KeyedMethod):
    """Replace each tile by the mean of its masked pixels. The tiles are the Voronoi cells of secret points.

    One point lies somewhere in each square of a grid, sized by the person. Where, only the key of the camera and
    session tells, so that the tiles of two cameras cannot be laid over one another; they stay where they are within a
    person's box from frame to frame.
    """

    name: ClassVar[str] = "mosaic"
    privacy_class: ClassVar[PrivacyClass] = "obfuscation"
    does_not_hide: ClassVar[str] = "coarse colours of clothing; trained attackers recognise people from such tiles"
    params_type: ClassVar[type[MethodParams]] = MosaicParams
    params: MosaicParams

    def rekey(self, key: bytes) -> None:
        """See :class:`~privseg.privacy.filters.keyed.KeyedMethod`."""
        # One row of squares more all around, so that the tiles at the edge are like the others.
        count = self.params.cells + 3
        drawn = keystream(key, 4 * count * count).view(np.uint16).reshape(count, count, 2)
        corners = np.stack(np.meshgrid(np.arange(count), np.arange(count)), axis=-1) - 1.0
        points = corners + 0.5 + _JITTER * (drawn / 65536.0 - 0.5)
        plane = cv2.Subdiv2D((-2, -2, count + 2, count + 2))
        plane.insert([(float(x), float(y)) for x, y in points.reshape(-1, 2)])
        # The whole pattern, drawn once: which point's tile a place belongs to.
        self._pattern = np.zeros((self.params.cells * _FINE, self.params.cells * _FINE), np.uint8)
        for label, tile in enumerate(plane.getVoronoiFacetList([])[0]):
            cv2.fillConvexPoly(self._pattern, np.rint(np.multiply(tile, _FINE)).astype(np.int32), [label])

    def protect(self, image: Image, mask: BoolMask, context: Context) -> Image:
        """Cover the masked pixels; see :class:`~privseg.privacy.filters.base.Method`."""
        height, width = mask.shape
        tile = max(max(mask.shape) / self.params.cells, _SMALLEST_TILE)
        down, across = (min(math.ceil(side / tile * _SAMPLES_ACROSS), side) for side in mask.shape)
        few, covered = sample(image, mask, down, across)
        pattern = self._pattern[: math.ceil(height / tile * _FINE), : math.ceil(width / tile * _FINE)]
        labels = cv2.resize(pattern, (across, down), interpolation=cv2.INTER_NEAREST)
        colors = _means(few, covered, labels)
        drawn = cv2.resize(pattern, (width, height), interpolation=cv2.INTER_NEAREST)
        mosaic: Image = cv2.applyColorMap(drawn, colors)
        return mosaic

    def cells_across(self) -> float:
        """See :class:`~privseg.privacy.filters.base.Method`."""
        return float(self.params.cells)


def _means(few: Image, covered: Image, labels: Image) -> Image:
    """The mean of the covered pixels of each label, uint8 ``(256, 1, 3)``; where they are too few, that of all."""
    inside = covered.view(np.bool_)
    at, values = labels[inside], few[inside]
    mass = np.bincount(at, minlength=256)[:, np.newaxis]
    total = np.stack([np.bincount(at, values[:, plane], 256) for plane in range(3)], axis=1)
    average = total.sum(axis=0) / len(at) if len(at) >= FEWEST_PIXELS else NEUTRAL
    mean = np.where(mass >= FEWEST_PIXELS, total / np.maximum(mass, 1), average)
    return np.rint(mean).astype(np.uint8)[:, np.newaxis]
