"""Warping: coarse cells of the person, bent by a smooth field that a key decides."""

from __future__ import annotations

from typing import ClassVar

import cv2
import numpy as np
import numpy.typing as npt
from pydantic import Field

from privseg.privacy.filters.base import BoolMask, Context, Image, PrivacyClass
from privseg.privacy.filters.cells import coarse_cells
from privseg.privacy.filters.keyed import KeyedMethod, SessionParams, keystream

__all__ = ["Warp", "WarpParams"]

_GRID = 5
#: pixels a cell has in the picture that is bent: enough for its borders to be seen as lines
_CELL = 12

Field2D = npt.NDArray[np.float32]


class WarpParams(SessionParams):
    """How far, and over what."""

    amplitude: float = Field(
        0.15, ge=0.02, le=0.5, description="how far a point may move, as a share of the person's longer side"
    )
    cells: int = Field(6, ge=1, le=6, description="cells across the longer side of each person, before they are bent")


class Warp(KeyedMethod):
    """Average a person in cells, then move every point by a smooth field that is one camera's and one session's.

    A warp alone is a bijection wherever it does not fold, and undone by whoever guesses or learns the field. So the
    cells are averaged first: the inverse warp gives the cells back and nothing finer.
    """

    name: ClassVar[str] = "warp"
    privacy_class: ClassVar[PrivacyClass] = "obfuscation"
    does_not_hide: ClassVar[str] = (
        "coarse colours of clothing, posture, the way of walking; whoever learns the field has the cells in place"
    )
    params_type: ClassVar[type[SessionParams]] = WarpParams
    params: WarpParams

    def rekey(self, key: bytes) -> None:
        """See :class:`~privseg.privacy.filters.keyed.KeyedMethod`."""
        stream = keystream(key, _GRID * _GRID * 2)
        #: float32 (grid, grid, 2), from -1 to 1: how far the control points move across and down
        self._field: Field2D = stream.reshape(_GRID, _GRID, 2).astype(np.float32) / 127.5 - 1

    def protect(self, image: Image, mask: BoolMask, context: Context) -> Image:
        """Cover the masked pixels; see :class:`~privseg.privacy.filters.base.Method`."""
        height, width = mask.shape
        values = coarse_cells(image, mask, self.params.cells).values
        tiles = values.repeat(_CELL, axis=1).repeat(_CELL, axis=0)
        across, down = tiles.shape[1] / width, tiles.shape[0] / height
        # Worked out in the tiles' own, small pixels; no frame-sized picture is bent twice.
        reach = self.params.amplitude * max(height, width)
        moved = cv2.resize(self._field * np.array([reach * across, reach * down], np.float32), (width, height))
        moved[..., 0] += (np.arange(width, dtype=np.float32) + 0.5) * across - 0.5
        moved[..., 1] += ((np.arange(height, dtype=np.float32) + 0.5) * down - 0.5)[:, np.newaxis]
        covered: Image = cv2.remap(tiles, moved, None, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT)
        return covered

    def cells_across(self) -> float:
        """See :class:`~privseg.privacy.filters.base.Method`."""
        return float(self.params.cells)
