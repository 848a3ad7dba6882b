"""The memory of one camera: what was covered stays covered for a while, and moves along with what is seen.

Whatever is remembered only adds to a frame's own mask; the property tests hold that.
"""

from __future__ import annotations

import functools
from collections import deque
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from privseg.privacy.masks import BoolMask, MaskPolicy, outlines
from privseg.privacy.motion import Flow

__all__ = ["TemporalHold", "moved"]

Counter = npt.NDArray[np.uint8]
Image = npt.NDArray[np.uint8]

# A person of at least this share of the picture, of whom within so many frames hardly anything is left in the
# neighbourhood, has not left: the model is doubted, and the person's area lingers.
_COLLAPSE_FROM = 0.001
_COLLAPSE_FRAMES = 3
# of the area that the person covered in all of these frames together; `collapse_share` is of the largest of them
_COLLAPSE_TO = 0.1
# A cell that what is held has half moved into counts as held.
_HALF = 127
# How far, in cells, somebody may have moved on while the disappearance was noticed.
_NEAR = np.ones((9, 9), np.uint8)
_CELL = np.ones((3, 3), np.uint8)


class TemporalHold:
    """A pixel once covered stays covered for ``hold_frames`` more confirmed frames, or until it is confirmed empty.

    When a person vanishes within three frames, in one step or in several, the person's area lingers for
    ``collapse_hold_frames``, whatever the model says of it: people do not leave like that, models fail like that.
    Each person is judged apart, so that neither another person nor a false alarm elsewhere passes for the one who
    vanished.

    Where :meth:`move` tells the motion, what is held is covered at its old place and at the one it has moved to.
    """

    def __init__(self, policy: MaskPolicy) -> None:
        self._policy = policy
        #: for every pixel, frames for which it stays covered, the present one included
        self._left: Counter | None = None
        #: for every pixel, frames in a row without a sign of a person
        self._empty: Counter | None = None
        self._seen: deque[BoolMask] = deque(maxlen=_COLLAPSE_FRAMES)
        self._lingering: BoolMask | None = None
        self._linger_left = 0
        self._drift: _Drift | None = None

    def move(self, flow: Flow) -> None:
        """Let what is held follow the motion since the frame before; call it before that frame's :meth:`update`.

        Args:
            flow: See :class:`privseg.privacy.motion.Motion`.
        """
        if self._left is None or not flow.size:
            return
        if self._drift is None or self._drift.shape != flow.shape[:2]:
            self._drift = _Drift(flow.shape[0], flow.shape[1], self._left)
        self._drift.follow(flow)

    def update(self, mask: BoolMask, empty: BoolMask | None = None, elapsed: int = 1) -> BoolMask:
        """Remember this frame's mask and return the area to cover, a superset of it.

        Args:
            mask: bool ``(H, W)``.
            empty: bool ``(H, W)``: where there is no sign of a person; what is held there may be released early.
            elapsed: Frames since the one of the last call. However many those are, whoever was covered then is held
                in this frame: one answer that misses somebody is always bridged.

        Returns:
            bool ``(H, W)``, memory of its own.
        """
        if self._left is None or self._left.shape != mask.shape:
            self._forget()
            self._left = np.zeros(mask.shape, np.uint8)
        if self._policy.collapse_hold_frames and self._seen:
            self._notice_collapse(mask)
        aged = np.uint8(max(min(elapsed, self._policy.hold_frames), 1))
        self._left = left = np.maximum(self._left, aged) - aged
        if self._drift is not None:
            self._drift.age(int(aged))
        if self._policy.confirm_empty and empty is not None:
            self._release(left, empty)
        cv2.copyTo(np.full_like(left, self._policy.hold_frames + 1), mask.view(np.uint8), left)
        if self._drift is not None:
            self._drift.hold(mask, self._policy.hold_frames + 1)
        covered: BoolMask = left > 0
        if self._lingering is not None:
            covered |= self._lingering
            self._linger_left -= elapsed
            if self._linger_left <= 0:
                self._lingering = None
        if self._drift is not None:
            self._drift.cover(covered)
        self._seen.append(mask.copy())
        return covered

    def _release(self, left: Counter, empty: BoolMask) -> None:
        """Hold no longer, where enough frames in a row showed no sign of a person."""
        policy = self._policy
        before = np.zeros_like(left) if self._empty is None else self._empty
        self._empty = counted = np.where(empty, np.minimum(before, 254) + np.uint8(1), np.uint8(0))
        aged = left <= max(policy.hold_frames - policy.hold_at_least, 0)
        released = (counted >= policy.confirm_empty) & aged & (left > 0)
        left[released] = 0
        if self._drift is not None:
            self._drift.release(released)

    def _notice_collapse(self, mask: BoolMask) -> None:
        """Let linger whoever vanished; each disappearance counts once."""
        vanished = _vanished(list(self._seen), mask, self._policy.collapse_share)
        if vanished is None:
            return
        for earlier in self._seen:
            earlier &= ~vanished
        self._lingering = vanished if self._lingering is None else self._lingering | vanished
        self._linger_left = self._policy.collapse_hold_frames
        if self._drift is not None:
            self._drift.linger(vanished, self._linger_left)

    def _forget(self) -> None:
        self._left = self._empty = self._lingering = self._drift = None
        self._seen.clear()


class _Drift:
    """Where what is held has moved to, on the coarse grid of the flow.

    How much of a cell is held is kept in 256 steps, so that motion by less than a cell a frame adds up.
    """

    def __init__(self, height: int, width: int, left: Counter) -> None:
        self.shape = (height, width)
        held = _sampled(left, self.shape)
        self._amount: Image = np.where(held > 0, 255, 0).astype(np.uint8)
        self._left = held.astype(np.uint16)

    def follow(self, flow: Flow) -> None:
        # A cell's remaining time reaches one cell further than what is held: it must be there when that arrives.
        reaching = cv2.dilate(self._left, _CELL).astype(np.uint16)
        self._amount = moved(self._amount, flow)
        self._left = moved(reaching, flow, cv2.INTER_NEAREST)

    def age(self, frames: int) -> None:
        self._left = np.maximum(self._left, frames) - np.uint16(frames)
        self._amount[self._left == 0] = 0

    def hold(self, mask: BoolMask, frames: int) -> None:
        self._set(_sampled(mask.view(np.uint8), self.shape) > 0, frames)

    def linger(self, vanished: BoolMask, frames: int) -> None:
        place = _sampled(vanished.view(np.uint8), self.shape)
        near = cv2.dilate(place, _NEAR).view(np.bool_) & (self._amount > _HALF)
        self._set((place > 0) | near, frames + 1)  # the present frame ages it once

    def release(self, released: BoolMask) -> None:
        self._amount[_sampled(released.view(np.uint8), self.shape) > 0] = 0

    def cover(self, covered: BoolMask) -> None:
        """Add to ``covered`` the cells that what is held has moved into."""
        already = _sampled(covered.view(np.uint8), self.shape) > 0
        # Crumbs where the flow is torn are nobody: a method would take each for a person.
        whole = cv2.morphologyEx(((self._amount > _HALF) | already).view(np.uint8), cv2.MORPH_OPEN, _CELL)
        added = whole.view(np.bool_) & ~already
        if added.any():
            size = (covered.shape[1], covered.shape[0])
            covered |= cv2.resize(added.view(np.uint8), size, interpolation=cv2.INTER_NEAREST).view(np.bool_)

    def _set(self, cells: BoolMask, frames: int) -> None:
        self._amount[cells] = 255
        self._left[cells] = np.maximum(self._left[cells], frames)


def moved(field: npt.NDArray[Any], flow: Flow, interpolation: int = cv2.INTER_LINEAR) -> npt.NDArray[Any]:
    """What a field ``(h, w)`` of any type looks like after the motion ``flow``; zeros come in from outside."""
    columns, rows = np.meshgrid(
        np.arange(field.shape[1], dtype=np.float32), np.arange(field.shape[0], dtype=np.float32)
    )
    result: npt.NDArray[Any] = cv2.remap(
        field, columns + flow[..., 0], rows + flow[..., 1], interpolation, borderMode=cv2.BORDER_CONSTANT, borderValue=0
    )
    return result


def _sampled(field: npt.NDArray[np.uint8], shape: tuple[int, int]) -> npt.NDArray[np.uint8]:
    """The field's values at the centres of the grid's cells."""
    sampled: npt.NDArray[np.uint8] = cv2.resize(field, shape[::-1], interpolation=cv2.INTER_NEAREST)
    return sampled


def _vanished(seen: list[BoolMask], now: BoolMask, share: float) -> BoolMask | None:
    """The people of the frames ``seen`` of whom hardly anything is left in their neighbourhood; None without any.

    A person is a connected area of all these frames together. The neighbourhood reaches one width and one height
    beyond an area's own box: so far people walk meanwhile.
    """
    before = functools.reduce(np.bitwise_or, seen)
    least = _COLLAPSE_FROM * before.size
    vanished: BoolMask | None = None
    for outline in outlines(before):
        left, top, width, height = cv2.boundingRect(outline)
        if width * height < least:
            continue
        person = np.zeros((height, width), np.uint8)
        cv2.drawContours(person, [outline], -1, 1, cv2.FILLED, offset=(-left, -top))
        area = cv2.countNonZero(person)
        if area < least:
            continue
        box = np.s_[top : top + height, left : left + width]
        around = np.s_[max(top - height, 0) : top + 2 * height, max(left - width, 0) : left + 2 * width]
        largest = max(np.count_nonzero(earlier[box] & person.view(np.bool_)) for earlier in seen)
        if np.count_nonzero(now[around]) < max(_COLLAPSE_TO * area, share * largest):
            vanished = np.zeros_like(before) if vanished is None else vanished
            vanished[box] |= person.view(np.bool_)
    return vanished
