"""Box: people become filled rectangles, so that not even their shape is seen."""

from __future__ import annotations

from typing import ClassVar

from pydantic import Field

from privseg.privacy.filters.base import BoolMask, Color
from privseg.privacy.filters.figure import Figure, FigureParams
from privseg.privacy.people import find_people

__all__ = ["Box", "BoxParams"]


class BoxParams(FigureParams):
    """What the box looks like, and how far it reaches."""

    color: Color = Field("#3a4048", description="fill colour, #rrggbb")
    outline: Color = Field("#e8eaed", description="frame colour, #rrggbb")
    outline_width: float = Field(0.004, ge=0.0, le=0.05, description="share of the frame's shorter side")
    margin: float = Field(0.0, ge=0.0, le=0.5, description="how far the box reaches beyond, as a share of its height")


class Box(Figure):
    """Widen the mask to each person's bounding box, fill it and frame it. Boxes that meet become one area."""

    name: ClassVar[str] = "box"
    does_not_hide: ClassVar[str] = "that someone is there, height and breadth, the way taken and the pace"
    params_type = BoxParams
    params: BoxParams

    def widen(self, mask: BoolMask) -> BoolMask:
        """See :class:`~privseg.privacy.filters.base.Method`."""
        widened = mask.copy()
        for person, _ in find_people(mask):
            margin = round(self.params.margin * person.height)
            rows = slice(max(person.top - margin, 0), person.top + person.height + margin)
            columns = slice(max(person.left - margin, 0), person.left + person.width + margin)
            widened[rows, columns] = True
        return widened
