"""Avatar: a neutral figure in the person's pose, on a plain ground."""

from __future__ import annotations

from typing import ClassVar

from pydantic import Field

from privseg.privacy.filters.base import BoolMask, Color, Context, Image, Method, MethodParams, PrivacyClass, rgb
from privseg.privacy.filters.mannequin import draw_figures

__all__ = ["Avatar", "AvatarParams"]


class AvatarParams(MethodParams):
    """What the figure looks like."""

    ground: Color = Field("#27323d", description="colour of the covered area, #rrggbb")
    body: Color = Field("#f0c987", description="colour of head and torso, #rrggbb")
    limbs: Color = Field("#d8a45c", description="colour of arms and legs, #rrggbb")


class Avatar(Method):
    """Draw a figure whose head, hands and feet are where the covered area suggests them.

    The pose is guessed from the area's outline, never from the picture: an arm before the chest is not seen, and
    people who stand close may be taken for one.
    """

    name: ClassVar[str] = "avatar"
    privacy_class: ClassVar[PrivacyClass] = "irreversible"
    does_not_hide: ClassVar[str] = "that someone is there, posture and gestures, the outline, the way of walking"
    params_type: ClassVar[type[MethodParams]] = AvatarParams
    params: AvatarParams

    def protect(self, image: Image, mask: BoolMask, context: Context) -> Image:
        """Cover the masked pixels; see :class:`~privseg.privacy.filters.base.Method`."""
        return draw_figures(mask, rgb(self.params.ground), rgb(self.params.body), rgb(self.params.limbs))
