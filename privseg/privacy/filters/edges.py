"""Edges: rings at equal distances from the person's outline, like the lines of height on a map."""

from __future__ import annotations

from typing import ClassVar

import cv2
import numpy as np
from pydantic import Field

from privseg.privacy.filters.base import BoolMask, Color, Context, Image, Method, MethodParams, PrivacyClass, rgb
from privseg.privacy.keys import Secrets

__all__ = ["Edges", "EdgesParams"]


class EdgesParams(MethodParams):
    """What the rings look like."""

    color: Color = Field("#101820", description="ground colour, #rrggbb")
    line: Color = Field("#7fe0c8", description="colour of the outermost ring, #rrggbb; inner ones are fainter")
    spacing: float = Field(0.03, ge=0.01, le=0.2, description="from ring to ring, as a share of the person's height")


class Edges(Method):
    """An edge map of the covered area's shape, not of the picture, whose edges are a face's features."""

    name: ClassVar[str] = "edges"
    privacy_class: ClassVar[PrivacyClass] = "irreversible"
    does_not_hide: ClassVar[str] = "that someone is there, posture and gestures, the way of walking"
    params_type: ClassVar[type[MethodParams]] = EdgesParams
    params: EdgesParams

    def __init__(self, params: MethodParams | None = None, secrets: Secrets | None = None) -> None:
        super().__init__(params, secrets)
        ground, line = (np.array(rgb(color)) for color in (self.params.color, self.params.line))
        distance = np.arange(256)
        share = np.where(distance % 16 < 5, np.maximum(1 - distance / 160, 0.25), 0.0)[:, np.newaxis]
        #: colour at each distance, in sixteenths of the spacing; uint8 (256, 1, 3)
        self._table = np.rint(ground + share * (line - ground)).astype(np.uint8)[:, np.newaxis]

    def protect(self, image: Image, mask: BoolMask, context: Context) -> Image:
        """Cover the masked pixels; see :class:`~privseg.privacy.filters.base.Method`."""
        # Beyond the window there is no person; the transform would not know.
        framed = cv2.copyMakeBorder(mask.view(np.uint8), 1, 1, 1, 1, cv2.BORDER_CONSTANT, value=0)
        distance = cv2.distanceTransform(framed, cv2.DIST_L2, cv2.DIST_MASK_3)[1:-1, 1:-1]
        spacing = max(self.params.spacing * mask.shape[0], 3.0)
        covered: Image = cv2.applyColorMap(cv2.convertScaleAbs(distance - 1, alpha=16 / spacing), self._table)
        return covered
