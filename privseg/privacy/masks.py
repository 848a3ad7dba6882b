"""From a person probability to the pixels that must be covered: pure functions.

Every step may only add coverage to what the model was confident of; the property tests hold that. What is remembered
from frame to frame is in :mod:`privseg.privacy.hold`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import cv2
import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict, Field, model_validator

__all__ = [
    "MaskPolicy",
    "PersonMask",
    "confirmed_empty",
    "dilate_by_size",
    "fill_holes",
    "mask_from_probability",
    "outlines",
    "unsure_share",
]

BoolMask = npt.NDArray[np.bool_]
Probability = npt.NDArray[np.uint8]
Contour = npt.NDArray[np.int32]

# Radii are rounded up along a ladder of this ratio, so that a frame full of specks costs a dozen distance
# transforms, not thousands.
_RADIUS_STEP = 1.3


class MaskPolicy(BaseModel):
    """How a probability becomes a covered area; recall comes first."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    threshold: float = Field(0.35, ge=0.02, le=0.95, description="person probability from which a pixel is covered")
    dilation: float = Field(0.04, ge=0.0, le=0.5, description="margin, as a share of each person's height")
    min_dilation: int = Field(4, ge=1, le=128, description="smallest margin in pixels of the frame")
    fill_holes: bool = Field(True, description="cover what a person's outline encloses")
    hold_frames: int = Field(3, ge=0, le=250, description="frames for which a covered pixel stays covered")
    confirm_empty: int = Field(
        0, ge=0, le=250, description="release a held pixel early after so many frames in a row without a sign; 0: never"
    )
    empty_below: float = Field(0.1, ge=0.02, le=0.95, description="person probability below which there is no sign")
    hold_at_least: int = Field(1, ge=1, le=250, description="frames for which no pixel is released early")
    flow: bool = Field(True, description="what is held also moves along with the motion in the picture")
    collapse_hold_frames: int = Field(
        15, ge=0, le=1000, description="frames a person's area lingers after the person vanished all of a sudden"
    )
    collapse_share: float = Field(
        0.25, ge=0.1, le=0.9, description="a person of whom less than this is left within three frames has vanished"
    )
    unsure_from: float = Field(0.05, ge=0.0, le=1.0, description="person probability from which the model is unsure")
    unsure_to: float = Field(0.35, ge=0.0, le=1.0, description="person probability from which it no longer is")
    unsure_share: float = Field(
        0.25, ge=0.0, le=1.0, description="withhold a frame of which more than this share is unsure; 1: never"
    )
    trust_zero: bool = Field(
        False,
        description="take a 0 in an answer for background; our models answer at least 1 wherever they could compute",
    )

    @model_validator(mode="after")
    def _check_order(self) -> Self:
        if self.unsure_from >= self.unsure_to:
            raise ValueError("unsure_from must be below unsure_to")
        return self


@dataclass(frozen=True, slots=True)
class PersonMask:
    """Pixels to cover in exactly one frame.

    Attributes:
        pixels: bool ``(H, W)`` at frame size, true where a person is covered.
        sequence: Number of the frame that the mask was made for.
        age: Seconds of the video since the frame that the model saw; 0 where it saw this one.
    """

    pixels: BoolMask
    sequence: int
    age: float = 0.0


def mask_from_probability(probability: Probability, height: int, width: int, policy: MaskPolicy) -> BoolMask:
    """Threshold at frame size, fill holes, add the margin.

    Args:
        probability: uint8 ``(h, w)``, person probability times 255, of any size.
        height: Frame height in pixels.
        width: Frame width in pixels.
        policy: Thresholds and margins.

    Returns:
        bool ``(height, width)``. Every frame pixel whose nearest probability reaches the threshold is true.
    """
    mask = _resize(probability, height, width) >= math.floor(policy.threshold * 255)
    if policy.fill_holes:
        mask = fill_holes(mask)
    return dilate_by_size(mask, policy.dilation, policy.min_dilation)


def confirmed_empty(probability: Probability, height: int, width: int, policy: MaskPolicy) -> BoolMask:
    """Where the model sees no sign of a person; bool ``(height, width)``, arguments as for the mask.

    A frame pixel counts only if every probability near it is below both ``empty_below`` and the threshold.
    """
    below: BoolMask = _resize(probability, height, width) < math.floor(min(policy.empty_below, policy.threshold) * 255)
    return below


def unsure_share(probability: Probability, policy: MaskPolicy, hidden: BoolMask | None = None) -> float:
    """The share of the picture where the model sees neither a person nor surely none.

    Args:
        probability: uint8 ``(h, w)``, person probability times 255.
        policy: The bounds of being unsure.
        hidden: bool, of any size: what is never shown and does not count.

    Returns:
        0 to 1; 0 where all is hidden.
    """
    lowest, above = (math.ceil(bound * 255) for bound in (policy.unsure_from, policy.unsure_to))
    unsure = (probability >= lowest) & (probability < above)
    if hidden is None:
        return np.count_nonzero(unsure) / unsure.size
    size = (unsure.shape[1], unsure.shape[0])
    shown = cv2.resize(hidden.view(np.uint8), size, interpolation=cv2.INTER_NEAREST_EXACT) == 0
    return np.count_nonzero(unsure & shown) / max(int(np.count_nonzero(shown)), 1)


def _resize(probability: Probability, height: int, width: int) -> Probability:
    """Bilinear at frame size, but never below the nearest value, so that no confident cell is smoothed away."""
    rows, columns = probability.shape
    if rows > height or columns > width:
        # Shrinking skips samples: a maximum filter as wide as a step keeps the thinnest person.
        kernel = np.ones((_window(rows / height), _window(columns / width)), np.uint8)
        probability = cv2.dilate(probability, kernel)
    size = (width, height)
    smooth = cv2.resize(probability, size, interpolation=cv2.INTER_LINEAR)
    nearest = cv2.resize(probability, size, interpolation=cv2.INTER_NEAREST_EXACT)
    larger: Probability = cv2.max(smooth, nearest)
    return larger


def _window(ratio: float) -> int:
    return 1 if ratio <= 1 else 2 * math.ceil(ratio / 2 + 1) + 1


def fill_holes(mask: BoolMask) -> BoolMask:
    """Fill every background region that an outline encloses; bool ``(H, W)`` in and out."""
    filled = mask.view(np.uint8).copy()
    cv2.drawContours(filled, outlines(mask), -1, 1, cv2.FILLED)
    return filled.view(np.bool_)


def dilate_by_size(mask: BoolMask, fraction: float, minimum: int) -> BoolMask:
    """Widen every connected person by a share of its own height.

    Args:
        mask: bool ``(H, W)``.
        fraction: Margin as a share of the component's height.
        minimum: Smallest margin in pixels.

    Returns:
        bool ``(H, W)``, a superset of ``mask``: all pixels within the margin (Euclidean distance) of a component.
        A component inside another's hole gets the outer one's margin.
    """
    result = mask.copy()
    for outline in outlines(mask):
        height = cv2.boundingRect(outline)[3]
        _widen(result, mask, outline, _radius(height * fraction, minimum))
    return result


def outlines(mask: BoolMask) -> Sequence[Contour]:
    """The outer outline of every 8-connected component; several times faster than labelling them."""
    found: Sequence[Contour] = cv2.findContours(mask.view(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)[0]
    return found


def _radius(wanted: float, minimum: int) -> int:
    """The next radius of the ladder ``minimum`` times 1.3 to the n."""
    steps = math.ceil(math.log(max(wanted / minimum, 1.0)) / math.log(_RADIUS_STEP) - 1e-9)
    return math.ceil(minimum * _RADIUS_STEP**steps)


def _widen(result: BoolMask, mask: BoolMask, outline: Contour, radius: int) -> None:
    """Add to ``result`` every pixel within ``radius`` of an outlined component, looking only at its window."""
    x, y, width, height = cv2.boundingRect(outline)
    left, top = max(x - radius - 1, 0), max(y - radius - 1, 0)
    window = np.s_[top : y + height + radius + 1, left : x + width + radius + 1]
    persons = np.zeros(mask[window].shape, np.uint8)
    cv2.drawContours(persons, [outline], -1, 1, cv2.FILLED, offset=(-left, -top))
    background = np.logical_not(persons.view(np.bool_) & mask[window])
    distance = cv2.distanceTransform(background.view(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_5)
    result[window] |= distance <= radius
