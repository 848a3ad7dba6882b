"""Flat figures with a contour: what silhouette, outline, box and hull have in common."""

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
    color_sheet,
    rgb,
)

__all__ = ["Figure", "FigureParams"]


class FigureParams(MethodParams):
    """What the figure looks like."""

    color: Color = Field("#2f6f9f", description="fill colour, #rrggbb")
    outline: Color = Field("#d8e6f0", description="outline colour, #rrggbb")
    outline_width: float = Field(0.006, ge=0.0, le=0.05, description="share of the frame's shorter side")


class Figure(Method):
    """Fill the covered area with one colour and draw its edge, from the inside, in another."""

    privacy_class: ClassVar[PrivacyClass] = "irreversible"
    params_type: ClassVar[type[MethodParams]] = FigureParams
    params: FigureParams

    def protect(self, image: Image, mask: BoolMask, context: Context) -> Image:
        """Cover the masked pixels; see :class:`~privseg.privacy.filters.base.Method`."""
        figure = color_sheet(mask.shape, rgb(self.params.outline)).copy()
        return self.over(figure, color_sheet(mask.shape, rgb(self.params.color)), mask, context)

    def over(self, edge: Image, inside: Image, mask: BoolMask, context: Context) -> Image:
        """Draw ``inside`` into ``edge`` but for the contour; uint8 ``(h, w, 3)``, and so is the result, ``edge``."""
        width = round(self.params.outline_width * min(context.scene.height, context.scene.width))
        kernel = np.ones((2 * width + 1, 2 * width + 1), np.uint8)
        # Beyond the window there is no person; OpenCV's own border would take it for one.
        inner = cv2.erode(mask.view(np.uint8), kernel, borderType=cv2.BORDER_CONSTANT, borderValue=0)
        cv2.copyTo(inside, inner, edge)
        return edge
