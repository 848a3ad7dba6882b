"""Hull: people become the flat shape of a stretched band around them, in which limbs are lost."""

from __future__ import annotations

from typing import ClassVar

import cv2
import numpy as np
from pydantic import Field

from privseg.privacy.filters.base import BoolMask, Color
from privseg.privacy.filters.figure import Figure, FigureParams
from privseg.privacy.people import find_people

__all__ = ["Hull", "HullParams"]


class HullParams(FigureParams):
    """What the hull looks like, and how far it reaches."""

    color: Color = Field("#4b5a46", description="fill colour, #rrggbb")
    outline: Color = Field("#dfe6d8", description="outline colour, #rrggbb")
    outline_width: float = Field(0.004, ge=0.0, le=0.05, description="share of the frame's shorter side")
    margin: float = Field(0.04, ge=0.0, le=0.5, description="dilation, as a share of the person's height")


class Hull(Figure):
    """Widen the mask to each person's convex hull, dilated, and fill it. Hulls that meet become one area."""

    name: ClassVar[str] = "hull"
    does_not_hide: ClassVar[str] = "that someone is there, rough posture, the way taken and the pace"
    params_type = HullParams
    params: HullParams

    def widen(self, mask: BoolMask) -> BoolMask:
        """See :class:`~privseg.privacy.filters.base.Method`."""
        widened = mask.view(np.uint8).copy()
        for person, own in find_people(mask):
            outlines, _ = cv2.findContours(
                own.view(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE, offset=(person.left, person.top)
            )
            hull = cv2.convexHull(np.concatenate(outlines))
            cv2.fillConvexPoly(widened, hull, [1])
            margin = round(self.params.margin * person.height)
            if margin:
                cv2.polylines(widened, [hull], isClosed=True, color=[1], thickness=2 * margin)
        return widened.view(np.bool_)
