"""A person as a few coarse cells: all that the obfuscating methods of this package keep of the picture."""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

from privseg.privacy.filters.base import BoolMask, Image

__all__ = ["Cells", "coarse_cells"]

_FEWEST_PIXELS = 4
_SMALLEST_SIDE = 8
_NEUTRAL = 128.0

Edges = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Cells:
    """The cells of one person.

    Attributes:
        values: uint8 ``(r, c)`` or ``(r, c, 3)``: the mean of each cell's covered pixels.
        rows, columns: Where the cells begin and end in the person's window; one number more than there are cells.
    """

    values: Image
    rows: Edges
    columns: Edges

    def spread(self) -> Image:
        """Every cell as a flat area, uint8 ``(h, w)`` or ``(h, w, 3)``."""
        flat: Image = self.values.repeat(np.diff(self.columns), axis=1).repeat(np.diff(self.rows), axis=0)
        return flat

    def smooth(self) -> Image:
        """One cell runs into the next, uint8 ``(h, w)`` or ``(h, w, 3)``; it tells no more than :meth:`spread`."""
        size = (int(self.columns[-1]), int(self.rows[-1]))
        smooth: Image = cv2.resize(self.values, size, interpolation=cv2.INTER_LINEAR)
        return smooth


def coarse_cells(image: Image, mask: BoolMask, cells: int) -> Cells:
    """Average a person's covered pixels in almost square cells.

    A cell of fewer than four covered pixels would show them nearly as they were: it takes the mean of the whole
    person, and a person of fewer than four pixels is neutral grey. No cell is narrower than 8 pixels.

    Args:
        image: uint8 ``(h, w)`` or ``(h, w, 3)``.
        mask: bool ``(h, w)``: which of the pixels are the person's.
        cells: How many cells there may be across the longer side.
    """
    rows, columns = (_edges(side, max(mask.shape), cells) for side in mask.shape)
    covered = mask.view(np.uint8)
    channels = 1 if image.ndim == 2 else 3
    few = cv2.countNonZero(covered) < _FEWEST_PIXELS
    average = (_NEUTRAL,) * channels if few else cv2.mean(image, covered)[:channels]
    values = np.empty((len(rows) - 1, len(columns) - 1, *image.shape[2:]), np.uint8)
    # A dozen means over small windows take less time than one integral image.
    for row, (top, bottom) in enumerate(itertools.pairwise(rows.tolist())):
        for column, (left, right) in enumerate(itertools.pairwise(columns.tolist())):
            own = covered[top:bottom, left:right]
            small = cv2.countNonZero(own) < _FEWEST_PIXELS
            mean = average if small else cv2.mean(image[top:bottom, left:right], own)[:channels]
            values[row, column] = np.rint(mean) if channels == 3 else round(mean[0])
    return Cells(values, rows, columns)


def _edges(side: int, longer: int, cells: int) -> Edges:
    """Cells of equal size along one side, up to rounding."""
    count = max(min(round(side * cells / longer), side // _SMALLEST_SIDE), 1)
    return np.arange(count + 1) * side // count
