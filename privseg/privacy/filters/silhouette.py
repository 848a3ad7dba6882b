"""Silhouette: people become a flat figure with a lighter outline, so that posture stays readable."""

from __future__ import annotations

from typing import ClassVar

import cv2
import numpy as np
from pydantic import Field

from privseg.privacy.filters.base import (
    BoolMask,
    Color,
    Context,
    Image,
    Method,
    MethodParams,
    PrivacyClass,
    fill,
    rgb,
)

__all__ = ["Silhouette", "SilhouetteParams"]


class SilhouetteParams(MethodParams):
    """What the figure looks like."""

    color: Color = Field("#2f6f9f", description="fill colour, #rrggbb")
    outline: Color = Field("#d8e6f0", description="outline colour, #rrggbb")
    outline_width: float = Field(0.006, ge=0.0, le=0.05, description="share of the frame's shorter side")


class Silhouette(Method):
    """Fill with one colour and outline it. No source pixel remains; the outline and the way of walking do."""

    name: ClassVar[str] = "silhouette"
    privacy_class: ClassVar[PrivacyClass] = "irreversible"
    does_not_hide: ClassVar[str] = "that someone is there, posture and gestures, the way of walking"
    params_type: ClassVar[type[MethodParams]] = SilhouetteParams
    params: SilhouetteParams

    def protect(self, image: Image, mask: BoolMask, context: Context) -> Image:
        """Cover the masked pixels; see :class:`~privseg.privacy.filters.base.Method`."""
        figure = fill(image, mask, rgb(self.params.color))
        width = round(self.params.outline_width * min(context.scene.height, context.scene.width))
        if width == 0:
            return figure
        kernel = np.ones((2 * width + 1, 2 * width + 1), np.uint8)
        # Beyond the window there is no person; OpenCV's own border would take it for one.
        inner = cv2.erode(mask.view(np.uint8), kernel, borderType=cv2.BORDER_CONSTANT, borderValue=0).view(np.bool_)
        return fill(figure, mask & ~inner, rgb(self.params.outline))
