"""Between two answers of the model: the last mask, carried along with the motion, and everything that changed since.

Whatever moved is covered, person or not: the change is told from small copies, so it costs the same for any
picture, and it errs towards covering.
"""

from __future__ import annotations

import cv2
import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict, Field

from privseg.privacy.hold import moved
from privseg.privacy.masks import BoolMask, fill_holes
from privseg.privacy.motion import Flow, Glimpse

# uint8 ``(h, w)``: how much of a cell is covered, in 256 steps
Share = npt.NDArray[np.uint8]

__all__ = ["Carry", "CarryPolicy", "change_since"]

# Of a cell that people covered by an eighth or more, after the motion, all is covered.
_TRACE = 32
# Gaps of this many cells between what changed are covered: clothes of one colour change at their edges alone.
_GAP = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (7, 7))
_MARGIN = np.ones((3, 3), np.uint8)


class CarryPolicy(BaseModel):
    """When the model is asked, where it is not asked about every frame, and how old its answer may get."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    every: int = Field(16, ge=1, le=250, description="recordings: frames from one question to the next, with motion")
    still: int = Field(48, ge=1, le=1000, description="recordings: the same while nothing moves")
    max_age_seconds: float = Field(
        4.0, gt=0, le=60, description="a mask made from an answer older than this covers nothing: the frame is withheld"
    )
    change: int = Field(
        8, ge=2, le=64, description="levels of 256 by which a place must differ in a colour to have changed"
    )
    restless: float = Field(
        0.25, gt=0, le=1, description="share of the picture that has changed from which a new answer is waited for"
    )
    busy_share: float = Field(
        0.7, gt=0, le=1, description="cameras: share of the time for which the model may be kept busy"
    )


class Carry:
    """The mask of the last answer on its way through the frames after it. Only adds to that mask."""

    def __init__(self, policy: CarryPolicy) -> None:
        self._policy = policy
        self._mask: BoolMask | None = None
        self._then: Glimpse | None = None
        self._moved: Share | None = None

    @property
    def ready(self) -> bool:
        """Whether there is a mask to carry."""
        return self._mask is not None

    def start(self, mask: BoolMask, then: Glimpse) -> None:
        """Carry another mask from now on.

        Args:
            mask: bool ``(H, W)``: what was covered in the frame that the model saw.
            then: That frame's small copy.
        """
        self._mask, self._then = mask, then
        self._moved = cv2.resize(mask.view(np.uint8) * np.uint8(255), then.shape[1::-1], interpolation=cv2.INTER_AREA)

    def drop(self) -> None:
        """Carry nothing any more."""
        self._mask = self._then = self._moved = None

    def follow(self, flow: Flow) -> None:
        """Let the mask move on by one frame's motion."""
        if self._moved is not None and flow.shape[:2] == self._moved.shape:
            self._moved = moved(self._moved, flow)

    def change(self, now: Glimpse) -> float:
        """The share of the picture that has changed since the frame that the model saw; 1 where it cannot be told."""
        if self._then is None or self._then.shape != now.shape:
            return 1.0
        return change_since(self._then, now, self._policy.change)

    def cover(self, now: Glimpse) -> BoolMask:
        """What to cover in a later frame: where people were, where they have moved to, and whatever changed.

        Args:
            now: That frame's small copy.

        Returns:
            bool ``(H, W)``, memory of its own; a superset of the mask carried.

        Raises:
            ValueError: There is no mask, or ``now`` is of another size than ``then``.
        """
        if self._mask is None or self._then is None or self._moved is None or self._then.shape != now.shape:
            raise ValueError("no mask of this picture's size is carried")
        cells = (_changed(self._then, now, self._policy.change) | (self._moved > _TRACE)).view(np.uint8)
        if not cells.any():
            return self._mask.copy()
        closed = cv2.morphologyEx(cells, cv2.MORPH_CLOSE, _GAP)
        whole = fill_holes(cv2.dilate(closed | cells, _MARGIN).view(np.bool_))
        height, width = self._mask.shape
        added = cv2.resize(whole.view(np.uint8), (width, height), interpolation=cv2.INTER_NEAREST)
        covered: BoolMask = self._mask | added.view(np.bool_)
        return covered


def change_since(then: Glimpse, now: Glimpse, levels: int) -> float:
    """The share of cells that differ by ``levels`` or more; 1 for pictures of different sizes."""
    if then.shape != now.shape:
        return 1.0
    changed = _changed(then, now, levels)
    return float(np.count_nonzero(changed)) / changed.size


def _changed(then: Glimpse, now: Glimpse, levels: int) -> BoolMask:
    """The cells of which a colour differs: a coat as bright as the wall behind it is seen by its colour alone."""
    red, green, blue = cv2.split(cv2.absdiff(then, now))
    changed: BoolMask = cv2.max(cv2.max(red, green), blue) >= levels
    return changed
