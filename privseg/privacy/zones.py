"""Areas that do not depend on the model: always covered, or never shown at all."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Annotated, Final

import cv2
import numpy as np
import numpy.typing as npt
from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from privseg.errors import UsageError
from privseg.privacy.masks import fill_holes

__all__ = ["Polygon", "ZoneAreas", "Zones", "rasterize"]

BoolMask = npt.NDArray[np.bool_]
Points = tuple[tuple[float, float], ...]

_FRACTION_BITS: Final = 4


def _check(points: Points) -> Points:
    if _in_pixels(points) and any(value != int(value) for point in points for value in point):
        raise ValueError("mixes shares of the frame (0 to 1) with whole pixels")
    hull = cv2.convexHull(np.asarray(points, np.float32))
    if len(hull) < 3 or cv2.contourArea(hull) <= 0:
        raise ValueError("its corners lie on one line")
    return points


def _in_pixels(points: Points) -> bool:
    return any(value > 1 for point in points for value in point)


_Coordinate = Annotated[float, Field(ge=0, le=65535, allow_inf_nan=False)]
#: corners (x, y): shares of the frame's width and height, 0 to 1; or, where any is above 1, whole pixels
Polygon = Annotated[
    tuple[tuple[_Coordinate, _Coordinate], ...], Field(min_length=3, max_length=256), AfterValidator(_check)
]
_Polygons = Annotated[tuple[Polygon, ...], Field(max_length=64)]


class Zones(BaseModel):
    """Polygons of one camera's picture."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    always: _Polygons = Field((), description="covered by the method in every frame, whether or not a person is there")
    never_shown: _Polygons = Field(
        (), description="one colour in every frame, whatever the method; not even the model is shown what is there"
    )


@dataclass(frozen=True, slots=True)
class ZoneAreas:
    """Zones as the pixels of one frame size.

    Attributes:
        always: bool ``(H, W)``; None without any.
        never_shown: bool ``(H, W)``; None without any.
    """

    always: BoolMask | None
    never_shown: BoolMask | None


def rasterize(zones: Zones, height: int, width: int) -> ZoneAreas:
    """The pixels of all zones in a frame of that size.

    Every pixel that a polygon touches belongs to it, and so does what it encloses where its sides cross each other.

    Raises:
        UsageError: A polygon given in pixels reaches beyond the frame.
    """
    return ZoneAreas(
        _area("always", zones.always, height, width), _area("never_shown", zones.never_shown, height, width)
    )


def _area(name: str, polygons: Iterable[Points], height: int, width: int) -> BoolMask | None:
    area: BoolMask | None = None
    for number, points in enumerate(polygons):
        corners = np.asarray(points, np.float64)
        if not _in_pixels(points):
            corners = corners * (width, height)
        elif (corners > (width, height)).any():
            fault = f"reaches beyond the frame of {width}x{height} pixels"
            raise UsageError(f"zone {name}[{number}]", fault, "draw it again, or give it in shares of the frame")
        # OpenCV's whole numbers are the centres of pixels.
        fixed = np.rint((corners - 0.5) * (1 << _FRACTION_BITS)).astype(np.int32)
        drawn = np.zeros((height, width), np.uint8)
        cv2.fillPoly(drawn, [fixed], 1, shift=_FRACTION_BITS)
        filled = fill_holes(cv2.dilate(drawn, np.ones((3, 3), np.uint8)).view(np.bool_))
        area = filled if area is None else area | filled
    return area
