"""False colours: the brightness of a few coarse cells, in few levels, in colours that are not the person's."""

from __future__ import annotations

from typing import ClassVar, Literal

import cv2
import numpy as np
import numpy.typing as npt
from pydantic import Field

from privseg.privacy.filters.base import BoolMask, Context, Image, PrivacyClass
from privseg.privacy.filters.cells import coarse_cells
from privseg.privacy.filters.keyed import KeyedMethod, SessionParams, keystream

__all__ = ["FalseColors", "FalseColorsParams"]

_THERMAL = np.array([(18, 10, 60), (96, 22, 140), (186, 46, 118), (240, 100, 52), (252, 176, 48), (252, 244, 164)])


class FalseColorsParams(SessionParams):
    """Which colours, and how many."""

    palette: Literal["keyed", "thermal"] = Field(
        "keyed", description="keyed: the key decides which level has which colour; thermal: dark violet to light yellow"
    )
    levels: int = Field(5, ge=2, le=6, description="levels of brightness that are told apart")
    cells: int = Field(6, ge=1, le=6, description="cells across the longer side of each person")


class FalseColors(KeyedMethod):
    """Brightness in few levels, each drawn in a colour of its own.

    A palette of 256 colours could be looked up backwards. Here the brightness of a few cells is quantised first: many
    persons have the same picture. A keyed palette moreover hides which level is the brighter one, until someone sees
    it on a thing whose brightness is known.
    """

    name: ClassVar[str] = "false_colors"
    privacy_class: ClassVar[PrivacyClass] = "obfuscation"
    does_not_hide: ClassVar[str] = "coarse light and dark of clothing, posture, the way of walking"
    params_type: ClassVar[type[SessionParams]] = FalseColorsParams
    params: FalseColorsParams

    def rekey(self, key: bytes) -> None:
        """See :class:`~privseg.privacy.filters.keyed.KeyedMethod`."""
        levels = self.params.levels
        if self.params.palette == "thermal":
            colors = _THERMAL[np.linspace(0, len(_THERMAL) - 1, levels).round().astype(int)]
        else:
            colors = _wheel(levels)[np.argsort(keystream(key, levels * 8).view(np.uint64))]
        #: what each brightness becomes; uint8 (256, 1, 3)
        self._table = colors[np.arange(256) * levels // 256].astype(np.uint8)[:, np.newaxis]

    def protect(self, image: Image, mask: BoolMask, context: Context) -> Image:
        """Cover the masked pixels; see :class:`~privseg.privacy.filters.base.Method`."""
        brightness = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)
        covered: Image = cv2.applyColorMap(coarse_cells(brightness, mask, self.params.cells).smooth(), self._table)
        return covered

    def cells_across(self) -> float:
        """See :class:`~privseg.privacy.filters.base.Method`."""
        return float(self.params.cells)


def _wheel(count: int) -> npt.NDArray[np.uint8]:
    """As many different hues, equally far apart; uint8 ``(count, 3)`` RGB."""
    hues = np.array([[(180 * step // count, 150, 225) for step in range(count)]], np.uint8)
    colors: npt.NDArray[np.uint8] = cv2.cvtColor(hues, cv2.COLOR_HSV2RGB)[0]
    return colors
