"""Labels: the picture says "person", in a colour, and perhaps whether upright or lying."""

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
    fill,
    rgb,
)

__all__ = ["Labels", "LabelsParams"]


class LabelsParams(MethodParams):
    """Which colour stands for what."""

    color: Color = Field("#dc143c", description="colour of the class person, #rrggbb")
    lying: Color = Field("#ffb000", description="colour of an area wider than it is high, #rrggbb")
    posture: bool = Field(True, description="tell areas that are wider than high from the others")
    aspect: float = Field(1.3, ge=1.0, le=4.0, description="width over height from which an area counts as wide")


class Labels(Method):
    """A map of classes, as a segmentation's ground truth is drawn: every pixel of a person has the class's colour.

    An area wider than it is high may be a person lying, or several who stand together.
    """

    name: ClassVar[str] = "labels"
    privacy_class: ClassVar[PrivacyClass] = "irreversible"
    does_not_hide: ClassVar[str] = "that someone is there, the outline, the way of walking, whether someone lies"
    params_type: ClassVar[type[MethodParams]] = LabelsParams
    params: LabelsParams

    def protect(self, image: Image, mask: BoolMask, context: Context) -> Image:
        """Cover the masked pixels; see :class:`~privseg.privacy.filters.base.Method`."""
        height, width = mask.shape
        wide = self.params.posture and width >= self.params.aspect * height
        return fill(image, mask, rgb(self.params.lying if wide else self.params.color))
