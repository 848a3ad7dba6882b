"""Outline: people become a dark area with a bright contour; after another method, the contour alone."""

from __future__ import annotations

from typing import ClassVar

from pydantic import Field

from privseg.privacy.filters.base import BoolMask, Color, Context, Image, color_sheet, rgb
from privseg.privacy.filters.figure import Figure, FigureParams

__all__ = ["Outline", "OutlineParams"]


class OutlineParams(FigureParams):
    """What the contour looks like, and what is within."""

    color: Color = Field("#101418", description="fill colour, #rrggbb")
    outline: Color = Field("#ffd54a", description="contour colour, #rrggbb")
    outline_width: float = Field(0.004, ge=0.0, le=0.05, description="share of the frame's shorter side")


class Outline(Figure):
    """A bright contour around flat darkness. After another method it draws the contour and leaves the rest to it."""

    name: ClassVar[str] = "outline"
    decorates: ClassVar[bool] = True
    does_not_hide: ClassVar[str] = "that someone is there, posture and gestures, the way of walking"
    params_type = OutlineParams
    params: OutlineParams

    def decorate(self, image: Image, mask: BoolMask, context: Context) -> Image:
        """See :class:`~privseg.privacy.filters.base.Method`."""
        return self.over(color_sheet(mask.shape, rgb(self.params.outline)).copy(), image, mask, context)
