"""Blanking: people become an area of one colour."""

from __future__ import annotations

from typing import ClassVar

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

__all__ = ["Blank", "BlankParams"]


class BlankParams(MethodParams):
    """What the covered area looks like."""

    color: Color = Field("#808080", description="fill colour, #rrggbb")


class Blank(Method):
    """Fill with one colour. No source pixel remains; the outline and the way of walking do."""

    name: ClassVar[str] = "blank"
    privacy_class: ClassVar[PrivacyClass] = "irreversible"
    does_not_hide: ClassVar[str] = "that someone is there, the outline, the way of walking"
    params_type: ClassVar[type[MethodParams]] = BlankParams
    params: BlankParams

    def protect(self, image: Image, mask: BoolMask, context: Context) -> Image:
        """Cover the masked pixels; see :class:`~privseg.privacy.filters.base.Method`."""
        return color_sheet(mask.shape, rgb(self.params.color))
