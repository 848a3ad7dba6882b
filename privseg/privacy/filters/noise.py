"""Noise: a few coarse cells of the person, drowned in noise that only a key foretells."""

from __future__ import annotations

import math
from typing import ClassVar

import cv2
from pydantic import Field

from privseg.privacy.filters.base import BoolMask, Context, Image, MethodParams, PrivacyClass
from privseg.privacy.filters.cells import coarse_cells
from privseg.privacy.filters.keyed import KeyedMethod, keystream

__all__ = ["Noise", "NoiseParams"]


class NoiseParams(MethodParams):
    """How much noise there is, and over what."""

    strength: float = Field(0.7, ge=0.3, le=1.0, description="share of noise; at 1 nothing of the person is left")
    grain: float = Field(0.015, ge=0.0, le=0.1, description="size of a grain as a share of the person's height")
    cells: int = Field(6, ge=1, le=6, description="cells across the longer side of each person, under the noise")


class Noise(KeyedMethod):
    """Blend coarse cells with noise.

    Noise alone hides little: the mean of a hundred frames of somebody who stands still has a tenth of it. What is
    under it is therefore coarse from the start, and those cells are all that such a fusion can gain (Erdélyi, Winkler
    and Rinner, Multimedia Tools and Applications 2018, attack filters by fused frames). The noise is the key's,
    the frame's and the person's, so it cannot be drawn again and subtracted without the key.
    """

    name: ClassVar[str] = "noise"
    privacy_class: ClassVar[PrivacyClass] = "obfuscation"
    does_not_hide: ClassVar[str] = (
        "posture, the way of walking; whoever averages frames or pixels gets the coarse colours of clothing back"
    )
    params_type: ClassVar[type[MethodParams]] = NoiseParams
    params: NoiseParams

    def rekey(self, key: bytes) -> None:
        """See :class:`~privseg.privacy.filters.keyed.KeyedMethod`."""
        self._noise_key = key

    def protect(self, image: Image, mask: BoolMask, context: Context) -> Image:
        """Cover the masked pixels; see :class:`~privseg.privacy.filters.base.Method`."""
        height, width = mask.shape
        grain = max(round(self.params.grain * height), 1)
        rows, columns = math.ceil(height / grain), math.ceil(width / grain)
        stream = keystream(self._noise_key, rows * columns * 3, context.scene.sequence, context.person.index)
        noise = stream.reshape(rows, columns, 3)
        if grain > 1:
            noise = cv2.resize(noise, (width, height), interpolation=cv2.INTER_NEAREST)
        base = coarse_cells(image, mask, self.params.cells).spread()
        covered: Image = cv2.addWeighted(base, 1 - self.params.strength, noise, self.params.strength, 0)
        return covered

    def cells_across(self) -> float:
        """See :class:`~privseg.privacy.filters.base.Method`."""
        return float(self.params.cells) if self.params.strength < 1 else 0.0
