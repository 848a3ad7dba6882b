"""From raw frames to frames that may leave: each asks the model, and is covered by its own answer or withheld.

There is no third way out of :meth:`Protector.finish`: whatever goes wrong for a frame, it leaves as a slate.
"""

from __future__ import annotations

import time
from collections import deque
from dataclasses import dataclass
from typing import Final

import numpy as np

from privseg.errors import UsageError
from privseg.privacy.filters.base import Method
from privseg.privacy.frames import ProtectedFrame, RawFrame, Withheld, protect, slate
from privseg.privacy.hold import TemporalHold
from privseg.privacy.masks import (
    BoolMask,
    MaskPolicy,
    PersonMask,
    Probability,
    confirmed_empty,
    mask_from_probability,
    unsure_share,
)
from privseg.privacy.motion import Flow, Motion
from privseg.privacy.zones import ZoneAreas, Zones, rasterize
from privseg.streaming.segmenter import Answer, NoAnswer, SegmenterBackend
from privseg.streaming.telemetry import Telemetry

__all__ = ["Protector"]

_NO_AREAS: Final = ZoneAreas(None, None)


@dataclass(slots=True)
class _Pending:
    frame: RawFrame
    size: tuple[int, int]
    areas: ZoneAreas
    flow: Flow | None
    submitted: float
    withheld: NoAnswer | None


class Protector:
    """One camera's frames on their way through the model; frames leave in the order they came.

    Args:
        camera: Name for the metrics.
        segmenter: Where to ask.
        method: How people are covered.
        policy: How an answer becomes the covered area.
        telemetry: Where stages are timed.
        long_side: Pixels of the longer side of the model's input.
        zones: What is covered, or not shown, whatever the model says.
    """

    def __init__(
        self,
        camera: str,
        segmenter: SegmenterBackend,
        method: Method,
        policy: MaskPolicy,
        telemetry: Telemetry,
        *,
        long_side: int = 512,
        zones: Zones | None = None,
    ) -> None:
        self._camera = camera
        self._segmenter = segmenter
        self._method = method
        self._policy = policy
        self._telemetry = telemetry
        self._long_side = long_side
        self._hold = TemporalHold(policy)
        self._motion = Motion()
        self._zones = zones or Zones()
        self._areas = _NO_AREAS
        self._areas_size: tuple[int, int] | None = None
        self._pending: deque[_Pending] = deque()
        self._version = ""
        #: versions that answered, in order of appearance
        self.model_versions: list[str] = []
        #: what the last withheld frame was withheld for, in the operator's words
        self.last_detail = ""

    @property
    def pending(self) -> int:
        """Frames begun and not finished."""
        return len(self._pending)

    def begin(self, frame: RawFrame) -> None:
        """Ask the model about a frame; never raises for a fault of the model."""
        self._telemetry.observe_stage(self._camera, "decode", frame.decode_seconds)
        withheld = _unusable(frame)
        size, areas, flow = (0, 0), _NO_AREAS, None
        submitted = time.monotonic()
        try:
            if withheld is None:
                areas = self._areas_of(frame)
                if areas.never_shown is not None:
                    frame.never_show(areas.never_shown)
                image = frame.model_input(self._long_side)
                size = (image.shape[1], image.shape[2])
                flow = self._motion.follow(image[0]) if self._policy.flow else None
                submitted = time.monotonic()
                self._segmenter.submit(frame.sequence, image)
        except NoAnswer as error:
            withheld = error
        except Exception as error:
            withheld = _unexpected(error)
        self._pending.append(_Pending(frame, size, areas, flow, submitted, withheld))

    def finish(self) -> ProtectedFrame:
        """Wait for the oldest frame's answer and cover its people, or withhold it.

        Raises:
            IndexError: No frame is pending.
        """
        asked = self._pending.popleft()
        try:
            if asked.flow is not None:  # for a withheld frame, too: what is held moves on meanwhile
                self._hold.move(asked.flow)
            return self._covered(asked) if asked.withheld is None else self._slate(asked.frame, asked.withheld)
        except NoAnswer as error:
            return self._slate(asked.frame, error)
        except Exception as error:
            return self._slate(asked.frame, _unexpected(error))

    def _covered(self, asked: _Pending) -> ProtectedFrame:
        frame = asked.frame
        answer = self._segmenter.result(frame.sequence)
        self._telemetry.observe_stage(self._camera, "segment", time.monotonic() - asked.submitted)
        begun = time.perf_counter()
        self._check(answer, asked)
        mask = self._mask(answer.probability, asked)
        covered = protect(frame, PersonMask(mask, answer.sequence), self._method, self._camera)
        self._telemetry.observe_stage(self._camera, "protect", time.perf_counter() - begun)
        self._note_version(answer.model_version)
        return covered

    def _areas_of(self, frame: RawFrame) -> ZoneAreas:
        """The zones at the frame's size."""
        size = (frame.height, frame.width)
        if size != self._areas_size:
            try:
                self._areas = rasterize(self._zones, *size)
            except UsageError as error:
                raise NoAnswer(Withheld.WRONG_ZONES, str(error)) from None
            self._areas_size = size
        return self._areas

    def _mask(self, probability: Probability, asked: _Pending) -> BoolMask:
        """What to cover: people now, people a moment ago, and what is always covered."""
        policy, size = self._policy, (asked.frame.height, asked.frame.width)
        unsure = unsure_share(probability, policy, asked.areas.never_shown)
        if unsure > policy.unsure_share:
            raise NoAnswer(Withheld.UNSURE, f"about {unsure:.0%} of the picture")
        mask = mask_from_probability(probability, *size, policy)
        empty = confirmed_empty(probability, *size, policy) if policy.confirm_empty else None
        held = self._hold.update(mask, empty)
        return held if asked.areas.always is None else held | asked.areas.always

    def _check(self, answer: Answer, asked: _Pending) -> None:
        """Refuse an answer about another frame, or one that is no probability map of the input's size."""
        if answer.sequence != asked.frame.sequence:
            raise NoAnswer(Withheld.WRONG_ANSWER, f"the answer is about frame {answer.sequence}")
        probability = answer.probability
        if not isinstance(probability, np.ndarray) or probability.dtype != np.uint8 or probability.shape != asked.size:
            raise NoAnswer(Withheld.WRONG_ANSWER, f"the answer is not uint8 {asked.size}")
        if not self._policy.trust_zero and not probability.all():
            raise NoAnswer(Withheld.EMPTY_ANSWER)

    def _note_version(self, version: str) -> None:
        if version == self._version:
            return
        self._version = version
        self._telemetry.set_model(self._segmenter.model, version)
        if version not in self.model_versions:
            self.model_versions.append(version)

    def _slate(self, frame: RawFrame, error: NoAnswer) -> ProtectedFrame:
        self.last_detail = str(error)
        return slate(
            frame.width,
            frame.height,
            error.reason,
            sequence=frame.sequence,
            pts=frame.pts,
            time_base=frame.time_base,
            captured=frame.captured,
        )


def _unusable(frame: RawFrame) -> NoAnswer | None:
    """Why a frame leaves as a slate before anybody is asked, if it does."""
    if frame.damaged:
        return NoAnswer(Withheld.DAMAGED)
    return NoAnswer(Withheld.FROZEN) if frame.frozen else None


def _unexpected(error: Exception) -> NoAnswer:
    return NoAnswer(Withheld.ERROR, f"{type(error).__name__}: {error}")
