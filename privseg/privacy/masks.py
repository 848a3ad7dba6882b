"""From a person probability to the pixels that must be covered: pure functions, and one small memory.

Every step may only add coverage to what the model was confident of; the property tests hold that.
"""

from __future__ import annotations

import functools
import math
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict, Field

__all__ = ["MaskPolicy", "PersonMask", "TemporalHold", "dilate_by_size", "fill_holes", "mask_from_probability"]

BoolMask = npt.NDArray[np.bool_]
Probability = npt.NDArray[np.uint8]
Contour = npt.NDArray[np.int32]

# Radii are rounded up along a ladder of this ratio, so that a frame full of specks costs a dozen distance
# transforms, not thousands.
_RADIUS_STEP = 1.3
# A person of at least this share of the picture, of whom within so many frames less than that share is left in the
# neighbourhood, has not left: the model is doubted, and the person's area lingers.
_COLLAPSE_FROM = 0.001
_COLLAPSE_FRAMES = 3
_COLLAPSE_TO = 0.1


class MaskPolicy(BaseModel):
    """How a probability becomes a covered area; recall comes first."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    threshold: float = Field(0.35, ge=0.02, le=0.95, description="person probability from which a pixel is covered")
    dilation: float = Field(0.04, ge=0.0, le=0.5, description="margin, as a share of each person's height")
    min_dilation: int = Field(4, ge=1, le=128, description="smallest margin in pixels of the frame")
    fill_holes: bool = Field(True, description="cover what a person's outline encloses")
    hold_frames: int = Field(3, ge=0, le=250, description="frames for which a covered pixel stays covered")
    collapse_hold_frames: int = Field(
        15, ge=0, le=1000, description="frames a person's area lingers after the person vanished all of a sudden"
    )
    trust_zero: bool = Field(
        False,
        description="take a 0 in an answer for background; our models answer at least 1 wherever they could compute",
    )


@dataclass(frozen=True, slots=True)
class PersonMask:
    """Pixels to cover in exactly one frame.

    Attributes:
        pixels: bool ``(H, W)`` at frame size, true where a person is covered.
        sequence: Number of the frame that the mask was made for.
    """

    pixels: BoolMask
    sequence: int


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
    cv2.drawContours(filled, _outlines(mask), -1, 1, cv2.FILLED)
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
    by_radius: dict[int, list[Contour]] = {}
    for outline in _outlines(mask):
        height = cv2.boundingRect(outline)[3]
        by_radius.setdefault(_radius(height * fraction, minimum), []).append(outline)
    for radius, outlines in by_radius.items():
        _widen(result, mask, outlines, radius)
    return result


def _outlines(mask: BoolMask) -> Sequence[Contour]:
    """The outer outline of every 8-connected component; several times faster than labelling them."""
    outlines: Sequence[Contour] = cv2.findContours(mask.view(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)[0]
    return outlines


def _radius(wanted: float, minimum: int) -> int:
    """The next radius of the ladder ``minimum`` times 1.3 to the n."""
    steps = math.ceil(math.log(max(wanted / minimum, 1.0)) / math.log(_RADIUS_STEP) - 1e-9)
    return math.ceil(minimum * _RADIUS_STEP**steps)


def _widen(result: BoolMask, mask: BoolMask, outlines: list[Contour], radius: int) -> None:
    """Add to ``result`` every pixel within ``radius`` of the outlined components, looking only at their window."""
    x, y, width, height = cv2.boundingRect(np.concatenate(outlines))
    left, top = max(x - radius - 1, 0), max(y - radius - 1, 0)
    window = np.s_[top : y + height + radius + 1, left : x + width + radius + 1]
    persons = np.zeros(mask[window].shape, np.uint8)
    cv2.drawContours(persons, outlines, -1, 1, cv2.FILLED, offset=(-left, -top))
    background = np.logical_not(persons.view(np.bool_) & mask[window])
    distance = cv2.distanceTransform(background.view(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_5)
    result[window] |= distance <= radius


class TemporalHold:
    """The memory of one camera: a pixel once covered stays covered for ``hold_frames`` more confirmed frames.

    When a person vanishes within three frames, in one step or in several, the person's area lingers for
    ``collapse_hold_frames``: people do not leave like that, models fail like that. Each person is judged apart, so
    that neither another person nor a false alarm elsewhere passes for the one who vanished.
    """

    def __init__(self, policy: MaskPolicy) -> None:
        self._policy = policy
        self._recent: deque[BoolMask] = deque(maxlen=policy.hold_frames)
        self._seen: deque[BoolMask] = deque(maxlen=_COLLAPSE_FRAMES)
        self._lingering: BoolMask | None = None
        self._linger_left = 0

    def update(self, mask: BoolMask) -> BoolMask:
        """Remember this frame's mask and return the area to cover, a superset of it; bool ``(H, W)``."""
        if self._seen and self._seen[-1].shape != mask.shape:
            self._forget()
        if self._policy.collapse_hold_frames and self._seen:
            self._notice_collapse(mask)
        covered = mask.copy()
        for earlier in self._recent:
            covered |= earlier
        if self._lingering is not None:
            covered |= self._lingering
            self._linger_left -= 1
            if self._linger_left == 0:
                self._lingering = None
        self._recent.append(mask)
        self._seen.append(mask.copy())
        return covered

    def _notice_collapse(self, mask: BoolMask) -> None:
        """Let linger whoever vanished; each disappearance counts once."""
        vanished = _vanished(functools.reduce(np.bitwise_or, self._seen), mask)
        if vanished is None:
            return
        for earlier in self._seen:
            earlier &= ~vanished
        self._lingering = vanished if self._lingering is None else self._lingering | vanished
        self._linger_left = self._policy.collapse_hold_frames

    def _forget(self) -> None:
        self._recent.clear()
        self._seen.clear()
        self._lingering = None


def _vanished(before: BoolMask, now: BoolMask) -> BoolMask | None:
    """The connected areas of ``before`` of which hardly anything is left in their neighbourhood; None without any.

    The neighbourhood reaches one width and one height beyond an area's own box: so far people walk meanwhile.
    """
    least = _COLLAPSE_FROM * before.size
    vanished: BoolMask | None = None
    for outline in _outlines(before):
        left, top, width, height = cv2.boundingRect(outline)
        if width * height < least:
            continue
        person = np.zeros((height, width), np.uint8)
        cv2.drawContours(person, [outline], -1, 1, cv2.FILLED, offset=(-left, -top))
        area = cv2.countNonZero(person)
        around = np.s_[max(top - height, 0) : top + 2 * height, max(left - width, 0) : left + 2 * width]
        if area >= least and np.count_nonzero(now[around]) < _COLLAPSE_TO * area:
            vanished = np.zeros_like(before) if vanished is None else vanished
            vanished[top : top + height, left : left + width] |= person.view(np.bool_)
    return vanished
