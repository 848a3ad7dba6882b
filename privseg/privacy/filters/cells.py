"""A person as a few coarse cells, or as a regular sample: all that the obfuscating methods keep of the picture.

Means over large cells need no more than a sample of the pixels; counting them all takes several times as long.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

from privseg.privacy.filters.base import BoolMask, Image

__all__ = [
    "FEWEST_PIXELS",
    "NEUTRAL",
    "Cells",
    "Edges",
    "Floats",
    "cell_edges",
    "coarse_cells",
    "flat_cells",
    "sample",
    "sums",
]

Floats = npt.NDArray[np.float32]
Edges = list[int]  # numpy would take longer than the few numbers are worth

#: A mean over fewer pixels than these shows them nearly as they were.
FEWEST_PIXELS = 4
#: Grey, for areas too small to have a colour of their own.
NEUTRAL = 128.0
_SMALLEST_SIDE = 8
_SAMPLES_ACROSS = 16


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
        return flat_cells(self.values, self.rows, self.columns)

    def smooth(self) -> Image:
        """One cell runs into the next, uint8 ``(h, w)`` or ``(h, w, 3)``; it tells no more than :meth:`spread`."""
        size = (self.columns[-1], self.rows[-1])
        smooth: Image = cv2.resize(self.values, size, interpolation=cv2.INTER_LINEAR)
        return smooth


def coarse_cells(image: Image, mask: BoolMask, cells: int, smallest: int = _SMALLEST_SIDE) -> Cells:
    """Average a person's covered pixels in almost square cells; a regular sample of 16 by 16 stands for a large one.

    A cell of fewer than four covered pixels would show them nearly as they were: it takes the mean of the whole
    person, and a person of fewer than four pixels is neutral grey.

    Args:
        image: uint8 ``(h, w)`` or ``(h, w, 3)``.
        mask: bool ``(h, w)``: which of the pixels are the person's.
        cells: How many cells there may be across the longer side.
        smallest: No cell is narrower than so many pixels.
    """
    rows, columns = cell_edges(mask.shape, cells, smallest)
    down, across = ((len(edges) - 1) * max(min(edges[1], _SAMPLES_ACROSS), 1) for edges in (rows, columns))
    total = sums(*sample(image, mask, down, across), len(rows) - 1, len(columns) - 1)
    total, mass = total[:, :, :-1], total[:, :, -1:]
    pixels = mass.sum()
    average = total.sum((0, 1)) / pixels if pixels >= FEWEST_PIXELS else NEUTRAL
    mean = np.where(mass >= FEWEST_PIXELS - 0.5, total / np.maximum(mass, 1), average)
    values = np.rint(mean).astype(np.uint8)
    return Cells(values if image.ndim == 3 else values[:, :, 0], rows, columns)


def cell_edges(shape: tuple[int, ...], cells: int, smallest: int = _SMALLEST_SIDE) -> tuple[Edges, Edges]:
    """Where cells of equal size, up to rounding, begin and end down and across; see :func:`coarse_cells`."""
    longer = max(shape)
    counts = [max(min(round(side * cells / longer), side // smallest), 1) for side in shape]
    down, across = ([side * edge // n for edge in range(n + 1)] for n, side in zip(counts, shape, strict=True))
    return down, across


def flat_cells(values: Image, rows: Edges, columns: Edges) -> Image:
    """Every cell as a flat area, uint8 ``(h, w)`` or ``(h, w, 3)``."""
    wide, high = ([end - start for start, end in itertools.pairwise(edges)] for edges in (columns, rows))
    flat: Image = values.repeat(wide, axis=1).repeat(high, axis=0)
    return flat


def sample(image: Image, mask: BoolMask, height: int, width: int) -> tuple[Image, Image]:
    """Pixels at regular distances.

    Args:
        image: uint8 ``(h, w)`` or ``(h, w, 3)``.
        mask: bool ``(h, w)``.
        height: How many down, at most ``h``.
        width: How many across, at most ``w``.

    Returns:
        The pixels, uint8 ``(height, width)`` or ``(height, width, 3)``, zero where they are not under the mask; and
        where they are, uint8 ``(height, width)`` of 0 and 1.
    """
    covered = mask.view(np.uint8)
    if mask.shape != (height, width):
        image = cv2.resize(image, (width, height), interpolation=cv2.INTER_NEAREST)
        covered = cv2.resize(covered, (width, height), interpolation=cv2.INTER_NEAREST)
    return cv2.bitwise_and(image, image, mask=covered), covered


def sums(few: Image, covered: Image, rows: int, columns: int) -> Floats:
    """Sums of a sample over ``rows`` times ``columns`` equal cells; float32 ``(rows, columns, 2 or 4)``.

    Args:
        few: uint8 ``(h, w)`` or ``(h, w, 3)``, as :func:`sample` returns it.
        covered: uint8 ``(h, w)`` of 0 and 1, likewise.
        rows: How many cells down; whole pixels make up a cell where ``h`` is a multiple of it.
        columns: How many cells across.

    Returns:
        Red, green, blue (or grey), and how many pixels they are of.
    """
    height, width = covered.shape
    planes = cv2.merge([few, covered]).astype(np.float32)
    total: Floats = cv2.resize(planes, (columns, rows), interpolation=cv2.INTER_AREA)
    total *= height * width / (rows * columns)
    return total
