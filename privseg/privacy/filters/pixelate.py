"""Pixelation: people become a few large cells, sized by the person and never in fixed pixels."""

from __future__ import annotations

import math
import secrets
from typing import ClassVar

import numpy as np
import numpy.typing as npt
from pydantic import Field

from privseg.privacy.filters.base import BoolMask, Context, Image, Method, MethodParams, PrivacyClass
from privseg.privacy.filters.sample import FEWEST_PIXELS, NEUTRAL, sample, sums

__all__ = ["Pixelate", "PixelateParams"]

_SAMPLES_ACROSS = 16


class PixelateParams(MethodParams):
    """How coarse the cells are, and how noisy."""

    cells: int = Field(5, ge=1, le=6, description="cells across the longer side of each person")
    min_block: int = Field(8, ge=2, le=256, description="smallest cell in pixels")
    epsilon: float = Field(
        0.0, ge=0.0, le=100.0, description="privacy budget of a colour plane of a frame; 0: no noise"
    )
    m: int = Field(16, ge=1, le=4096, description="pixels in which one person's detail may differ, for epsilon")


class Pixelate(Method):
    """Replace each cell by the mean of its masked pixels. Trained attackers recognise people from such cells.

    In large cells a regular sample of the pixels, 16 across, stands for all.

    With ``epsilon`` above 0 each mean gets Laplace noise of scale ``255 m / (n epsilon)``, n the covered pixels of the
    cell (DP-Pix: Fan, Image Pixelization with Differential Privacy, DBSec 2018). Two pictures that differ in at most
    ``m`` pixels under one and the same mask are then told apart no better than by a factor of ``exp(epsilon)``, in each
    colour plane of each frame; budgets of planes and frames add up, and averaging many frames takes the noise away. The
    mask itself is not part of the promise. The noise comes from the system's random source, so that nobody, whatever
    keys they hold, can draw it again.
    """

    name: ClassVar[str] = "pixelate"
    privacy_class: ClassVar[PrivacyClass] = "obfuscation"
    does_not_hide: ClassVar[str] = "coarse colours of clothing; trained attackers recognise people from such cells"
    params_type: ClassVar[type[MethodParams]] = PixelateParams
    params: PixelateParams

    def protect(self, image: Image, mask: BoolMask, context: Context) -> Image:
        """Cover the masked pixels; see :class:`~privseg.privacy.filters.base.Method`."""
        height, width = mask.shape
        block = max(math.ceil(max(height, width) / self.params.cells), self.params.min_block)
        rows, columns = max(height // block, 1), max(width // block, 1)
        noisy = self.params.epsilon > 0
        if noisy:
            total = _exact_sums(image, mask, rows, columns)
        else:
            # A whole number of samples in every cell.
            down = rows * max(min(height // rows, _SAMPLES_ACROSS), 1)
            across = columns * max(min(width // columns, _SAMPLES_ACROSS), 1)
            total = sums(*sample(image, mask, down, across), rows, columns).astype(np.float64)
        total, mass = total[:, :, :3], total[:, :, 3:]
        pixels = mass.sum()
        # A cell of a pixel or two would show them: it takes the colour of the whole person. With noise it may not, for
        # that colour would be one more answer about the same pixels.
        average = NEUTRAL if noisy or pixels < FEWEST_PIXELS else total.sum((0, 1)) / pixels
        mean = total / np.maximum(mass, 1)
        if noisy:
            mean = mean + 255 * self.params.m / (np.maximum(mass, 1) * self.params.epsilon) * _laplace(mean.shape)
        mean = np.where(mass >= FEWEST_PIXELS, mean, average)
        cells = np.rint(np.clip(mean, 0, 255)).astype(np.uint8)
        spread: Image = cells.repeat(_sizes(width, columns), axis=1).repeat(_sizes(height, rows), axis=0)
        return spread

    def cells_across(self) -> float:
        """See :class:`~privseg.privacy.filters.base.Method`."""
        return float(self.params.cells)


def _sizes(side: int, cells: int) -> list[int]:
    """Equal but for rounding, and together ``side``."""
    return [side * (cell + 1) // cells - side * cell // cells for cell in range(cells)]


def _exact_sums(image: Image, mask: BoolMask, rows: int, columns: int) -> npt.NDArray[np.float64]:
    """As :func:`~privseg.privacy.filters.sample.sums`, of all covered pixels and without rounding; float64."""
    height, width = mask.shape
    planes = np.dstack([image * mask[:, :, np.newaxis], mask]).astype(np.float64)
    tops = [height * row // rows for row in range(rows)]
    lefts = [width * column // columns for column in range(columns)]
    total: npt.NDArray[np.float64] = np.add.reduceat(np.add.reduceat(planes, tops, axis=0), lefts, axis=1)
    return total


def _laplace(shape: tuple[int, ...]) -> npt.NDArray[np.float64]:
    """Laplace noise of scale 1 that cannot be foreseen: the difference of two exponential ones."""
    words = np.frombuffer(secrets.token_bytes(16 * math.prod(shape)), np.uint64).reshape(2, *shape)
    first, second = -np.log(((words >> np.uint64(11)).astype(np.float64) + 1) / 2.0**53)
    noise: npt.NDArray[np.float64] = first - second
    return noise
