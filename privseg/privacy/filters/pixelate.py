"""Pixelation: people become a few large cells, sized by the person and never in fixed pixels."""

from __future__ import annotations

import math
import secrets
from typing import ClassVar

import numpy as np
import numpy.typing as npt
from pydantic import Field

from privseg.privacy.filters.base import BoolMask, Context, Image, Method, MethodParams, PrivacyClass
from privseg.privacy.filters.cells import FEWEST_PIXELS, NEUTRAL, Edges, cell_edges, coarse_cells, flat_cells

__all__ = ["Pixelate", "PixelateParams"]


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
        cells, smallest = self.params.cells, self.params.min_block
        if self.params.epsilon == 0:
            return coarse_cells(image, mask, cells, smallest).spread()
        rows, columns = cell_edges(mask.shape, cells, smallest)
        total = _exact_sums(image, mask, rows, columns)
        total, mass = total[:, :, :3], total[:, :, 3:]
        scale = 255 * self.params.m / (np.maximum(mass, 1) * self.params.epsilon)
        mean = total / np.maximum(mass, 1) + scale * _laplace(total.shape)
        # A cell of a pixel or two would show them. It may not take the colour of the whole person as it does without
        # noise, for that colour would be one more answer about the same pixels.
        mean = np.where(mass >= FEWEST_PIXELS, mean, NEUTRAL)
        return flat_cells(np.rint(np.clip(mean, 0, 255)).astype(np.uint8), rows, columns)

    def cells_across(self) -> float:
        """See :class:`~privseg.privacy.filters.base.Method`."""
        return float(self.params.cells)


def _exact_sums(image: Image, mask: BoolMask, rows: Edges, columns: Edges) -> npt.NDArray[np.float64]:
    """As :func:`~privseg.privacy.filters.cells.sums`, of all covered pixels and without rounding; float64."""
    planes = np.dstack([image * mask[:, :, np.newaxis], mask]).astype(np.float64)
    total: npt.NDArray[np.float64] = np.add.reduceat(np.add.reduceat(planes, rows[:-1], axis=0), columns[:-1], axis=1)
    return total


def _laplace(shape: tuple[int, ...]) -> npt.NDArray[np.float64]:
    """Laplace noise of scale 1 that cannot be foreseen: the difference of two exponential ones."""
    words = np.frombuffer(secrets.token_bytes(16 * math.prod(shape)), np.uint64).reshape(2, *shape)
    first, second = -np.log(((words >> np.uint64(11)).astype(np.float64) + 1) / 2.0**53)
    noise: npt.NDArray[np.float64] = first - second
    return noise
