"""What an operator, or a program, can still do with protected video: find, count and follow people, read posture.

The observer is simple and knows the empty scene: whatever differs from it is somebody. That is what a person who
watches the same corner every day does, and what motion analytics do. The shipped person model is asked as well.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

from privseg.assessment.quality import BoolMask, Image
from privseg.assessment.subject import Subject, Variant
from privseg.privacy.filters.base import Person
from privseg.privacy.people import find_people

__all__ = ["Footage", "Utility", "flicker", "measure_utility"]

_DIFFERENT = 24  # of 255, in any channel, from the empty scene
_LEAST = 0.25  # of the median area of a covered person; less is noise
_FOUND = 0.5  # of somebody's pixels
_FOLLOWED = 0.3  # IoU of boxes from frame to frame
Box = tuple[int, int, int, int]


@dataclass(frozen=True)
class Footage:
    """Consecutive frames of a fixed camera.

    Attributes:
        frames: uint8 ``(H, W, 3)`` RGB.
        figures: bool ``(H, W)`` each: people as the model sees them, without margin.
        masks: bool ``(H, W)`` each: what is covered.
        empty: uint8 ``(H, W, 3)``: the scene without people.
    """

    frames: Sequence[Image]
    figures: Sequence[BoolMask]
    masks: Sequence[BoolMask]
    empty: Image


@dataclass(frozen=True)
class Utility:
    """Shares from 0 to 1.

    Attributes:
        found: Covered people of whom the observer sees at least half.
        detected: The same, asked of the shipped person model.
        counted: 1 less the mean error of the count of separate people, as a share of the count.
        followed: People of one frame who are in the next under the same number, by a tracker on what the observer sees.
        posture: IoU of what the observer sees and the people without margin.
    """

    found: float
    detected: float
    counted: float
    followed: float
    posture: float

    @property
    def score(self) -> float:
        """Mean of what the observer achieves."""
        return (self.found + self.counted + self.followed + self.posture) / 4


def measure_utility(
    variant: Variant | None, footage: Footage, model: Callable[[Image], BoolMask], every: int
) -> Utility:
    """Protect the footage and watch it.

    Args:
        variant: How people are covered; None: not at all, to know what the observer can do at best.
        footage: What a camera saw.
        model: Where a person model sees people in a picture, bool ``(H, W)``.
        every: Ask the model about every so many frames.
    """
    subject = Subject(variant) if variant else None
    if subject:
        for _ in range(subject.method.strips):  # a method that learns the empty scene has had time to
            subject.cover(footage.empty, np.zeros(footage.masks[0].shape, np.bool_))
    areas = [int(own.sum()) for mask in footage.masks for _, own in find_people(mask)]
    least = _LEAST * float(np.median(areas)) if areas else 0.0
    found: list[bool] = []
    detected: list[bool] = []
    errors: list[float] = []
    overlaps: list[float] = []
    tracks = _Tracks()
    for number, (frame, figure, mask) in enumerate(zip(footage.frames, footage.figures, footage.masks, strict=True)):
        covered = subject.cover(frame, mask) if subject else frame
        seen = _different(covered, footage.empty)
        people = [(own, _box(person)) for person, own in find_people(mask) if own.sum() >= least]
        if not people:
            continue
        found += [bool(seen[_window(box)][own].mean() >= _FOUND) for own, box in people]
        if number % every == 0:
            by_model = model(covered)
            detected += [bool(by_model[_window(box)][own].mean() >= _FOUND) for own, box in people]
        blobs = _blobs(seen, least)
        errors.append(min(abs(len(blobs) - len(people)) / len(people), 1.0))
        overlaps.append(_iou(seen & _near(mask), figure))
        tracks.update(blobs, [box for _, box in people])
    return Utility(_share(found), _share(detected), 1 - _share(errors), tracks.kept, _share(overlaps))


def flicker(frames: Sequence[Image], masks: Sequence[BoolMask]) -> float:
    """Mean IoU of each mask with the one before, warped by optical flow (after Liu 2020); 1: no flicker."""
    flow = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_FAST)
    greys = [cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY) for frame in frames]
    down, across = np.mgrid[: masks[0].shape[0], : masks[0].shape[1]].astype(np.float32)
    values = []
    for before, after, old, new in zip(greys, greys[1:], masks, masks[1:], strict=False):
        moved = flow.calc(after, before, None)
        warped = cv2.remap(old.view(np.uint8), across + moved[..., 0], down + moved[..., 1], cv2.INTER_NEAREST)
        if warped.any() or new.any():
            values.append(_iou(warped > 0, new))
    return _share(values) if values else 1.0


class _Tracks:
    """Numbers for blobs, handed on by overlap; and how often a true person keeps the number."""

    def __init__(self) -> None:
        self._blobs: dict[int, Box] = {}
        self._people: list[tuple[Box, int]] = []
        self._next = 0
        self._kept: list[bool] = []

    @property
    def kept(self) -> float:
        """Share of the people who were followed from one frame to the next."""
        return _share(self._kept)

    def update(self, blobs: Sequence[Box], people: Sequence[Box]) -> None:
        """One more frame: what was seen, and who was there."""
        free = dict(self._blobs)
        current: dict[int, Box] = {}
        for blob in blobs:
            best = max(free, key=lambda number: _box_iou(free[number], blob), default=None)
            if best is not None and _box_iou(free[best], blob) >= _FOLLOWED:
                current[best] = blob
                del free[best]
            else:
                current[self._next] = blob
                self._next += 1
        numbered = [(person, _number(person, current)) for person in people]
        for person, number in numbered:
            earlier = max(self._people, key=lambda old: _box_iou(old[0], person), default=None)
            if earlier is not None and _box_iou(earlier[0], person) >= _FOLLOWED:
                self._kept.append(number >= 0 and number == earlier[1])
        self._blobs, self._people = current, numbered


def _number(person: Box, blobs: dict[int, Box]) -> int:
    """The number of the blob that is this person; -1 for nobody."""
    best = max(blobs, key=lambda number: _box_iou(blobs[number], person), default=-1)
    return best if best >= 0 and _box_iou(blobs[best], person) >= _FOLLOWED else -1


def _different(picture: Image, empty: Image) -> BoolMask:
    changed = (cv2.absdiff(picture, empty).max(axis=2) > _DIFFERENT).view(np.uint8)
    kernel = np.ones((3, 3), np.uint8)
    cleaned = cv2.morphologyEx(cv2.morphologyEx(changed, cv2.MORPH_OPEN, kernel), cv2.MORPH_CLOSE, kernel)
    seen: BoolMask = cleaned.astype(np.bool_)
    return seen


def _near(mask: BoolMask) -> BoolMask:
    """The boxes of the people, half as large again: posture is judged there only."""
    near = np.zeros_like(mask)
    for person, _ in find_people(mask):
        down, across = person.height // 4, person.width // 4
        top, left = max(person.top - down, 0), max(person.left - across, 0)
        near[top : person.top + person.height + down, left : person.left + person.width + across] = True
    return near


def _blobs(seen: BoolMask, least: float) -> list[Box]:
    return [_box(person) for person, own in find_people(seen) if own.sum() >= least]


def _box(person: Person) -> Box:
    return person.left, person.top, person.left + person.width, person.top + person.height


def _window(box: Box) -> tuple[slice, slice]:
    left, top, right, bottom = box
    return np.s_[top:bottom, left:right]


def _box_iou(a: Box, b: Box) -> float:
    across, down = min(a[2], b[2]) - max(a[0], b[0]), min(a[3], b[3]) - max(a[1], b[1])
    common = max(across, 0) * max(down, 0)
    return common / ((a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - common)


def _iou(a: BoolMask, b: BoolMask) -> float:
    return float((a & b).sum() / max(int((a | b).sum()), 1))


def _share(values: Sequence[float] | Sequence[bool] | npt.NDArray[np.float64]) -> float:
    return float(np.mean(values)) if len(values) else 0.0
