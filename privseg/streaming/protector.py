"""From raw frames to frames that may leave: each asks the model, and is covered by its own answer or withheld.

There is no third way out of :meth:`Protector.finish`: whatever goes wrong for a frame, it leaves as a slate.
:mod:`privseg.streaming.adaptive` has the protectors that do not ask about every frame.
"""

from __future__ import annotations

import time
from collections import deque
from dataclasses import dataclass
from typing import Final

import numpy as np

from privseg.errors import UsageError
from privseg.privacy.filters.base import Image, Method
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
from privseg.privacy.motion import Flow, Glimpse, Motion, small_copy
from privseg.privacy.zones import ZoneAreas, Zones, rasterize
from privseg.streaming.segmenter import Answer, NoAnswer, SegmenterBackend
from privseg.streaming.telemetry import Telemetry

__all__ = ["Pending", "Protector", "unexpected"]

_NO_AREAS: Final = ZoneAreas(None, None)


@dataclass(slots=True)
class Pending:
    """A frame on its way, and what is known of it."""

    frame: RawFrame
    areas: ZoneAreas = _NO_AREAS
    withheld: NoAnswer | None = None
    #: height and width of the model's input, where it was asked
    size: tuple[int, int] | None = None
    submitted: float = 0.0
    flow: Flow | None = None
    #: where not every frame is asked about: the small copy, seconds of the video, and whether this one was
    glimpse: Glimpse | None = None
    seconds: float = 0.0
    asked: bool = False


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
        #: frames begun before the first is finished, at most, for the model to be kept busy
        self.capacity = segmenter.max_in_flight
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
        self._pending: deque[Pending] = deque()
        self._version = ""
        #: versions that answered, in order of appearance
        self.model_versions: list[str] = []
        #: what the last withheld frame was withheld for, in the operator's words
        self.last_detail = ""

    @property
    def pending(self) -> int:
        """Frames begun and not finished."""
        return len(self._pending)

    @property
    def full(self) -> bool:
        """Whether a frame must be finished before the next is begun."""
        return len(self._pending) >= self.capacity

    def use(self, method: Method) -> None:
        """Cover people with another method, from the next frame that is finished on; from any thread."""
        self._method = method

    def close(self) -> None:
        """Ask nothing any more."""

    def begin(self, frame: RawFrame) -> None:
        """Ask the model about a frame; never raises for a fault of the model."""
        pending = self._entered(frame)
        try:
            if pending.withheld is None:
                image = self._model_input(pending)
                pending.flow = self._motion.follow(small_copy(image[0])) if self._policy.flow else None
                self._ask(pending, image)
        except NoAnswer as error:
            pending.withheld = error
        except Exception as error:
            pending.withheld = unexpected(error)
        self._pending.append(pending)

    def finish(self) -> ProtectedFrame:
        """Wait for the oldest frame's answer and cover its people, or withhold it.

        Raises:
            IndexError: No frame is pending.
        """
        pending = self._pending.popleft()
        try:
            return self._finished(pending)
        except NoAnswer as error:
            return self._slate(pending.frame, error)
        except Exception as error:
            return self._slate(pending.frame, unexpected(error))

    def _finished(self, pending: Pending) -> ProtectedFrame:
        """The frame, covered; raises whatever it must be withheld for."""
        if pending.flow is not None:  # for a withheld frame, too: what is held moves on meanwhile
            self._hold.move(pending.flow)
        if pending.withheld is not None:
            raise pending.withheld
        return self._protected(pending, self._held(self._segmenter.result(pending.frame.sequence), pending))

    def _entered(self, frame: RawFrame) -> Pending:
        """A frame that has just come, with what is never shown of it gone."""
        self._telemetry.observe_stage(self._camera, "decode", frame.decode_seconds)
        pending = Pending(frame, withheld=_unusable(frame))
        try:
            if pending.withheld is None:
                pending.areas = self._areas_of(frame)
                if pending.areas.never_shown is not None:
                    frame.never_show(pending.areas.never_shown)
        except NoAnswer as error:
            pending.withheld = error
        except Exception as error:
            pending.withheld = unexpected(error)
        return pending

    def _model_input(self, pending: Pending) -> Image:
        image = pending.frame.model_input(self._long_side)
        pending.size = (image.shape[1], image.shape[2])
        return image

    def _ask(self, pending: Pending, image: Image) -> None:
        pending.submitted = time.monotonic()
        self._telemetry.asked(self._camera)
        self._segmenter.submit(pending.frame.sequence, image)

    def _held(self, answer: Answer, pending: Pending, elapsed: int = 1) -> BoolMask:
        """What to cover of the frame that was asked about: people now, and people a moment ago."""
        self._telemetry.observe_stage(self._camera, "segment", time.monotonic() - pending.submitted)
        self._check(answer, pending)
        mask = self._mask(answer.probability, pending, elapsed)
        self._note_version(answer.model_version)
        return mask

    def _protected(self, pending: Pending, mask: BoolMask, age: float = 0.0) -> ProtectedFrame:
        begun = time.perf_counter()
        if pending.areas.always is not None:
            mask = mask | pending.areas.always
        made = PersonMask(mask, pending.frame.sequence, age)
        protected = protect(pending.frame, made, self._method, self._camera)
        self._telemetry.observe_stage(self._camera, "protect", time.perf_counter() - begun)
        return protected

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

    def _mask(self, probability: Probability, asked: Pending, elapsed: int) -> BoolMask:
        policy, size = self._policy, (asked.frame.height, asked.frame.width)
        unsure = unsure_share(probability, policy, asked.areas.never_shown)
        if unsure > policy.unsure_share:
            raise NoAnswer(Withheld.UNSURE, f"about {unsure:.0%} of the picture")
        mask = mask_from_probability(probability, *size, policy)
        empty = confirmed_empty(probability, *size, policy) if policy.confirm_empty else None
        return self._hold.update(mask, empty, elapsed)

    def _check(self, answer: Answer, asked: Pending) -> None:
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


def unexpected(error: Exception) -> NoAnswer:
    """What a fault that nobody foresaw is to a frame: a reason to withhold it."""
    return NoAnswer(Withheld.ERROR, f"{type(error).__name__}: {error}")
