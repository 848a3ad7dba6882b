"""Protectors that ask the model about some frames only, and carry its answers through the frames between.

A carried mask is the last answer's, moved along with the picture's motion, with everything that changed since then
added: see :mod:`privseg.privacy.carry`. Where that is too old, or too much has changed, a frame is withheld.
"""

from __future__ import annotations

import time
from enum import StrEnum
from typing import Any, Final

from privseg.privacy.carry import Carry, CarryPolicy, change_since
from privseg.privacy.frames import ProtectedFrame, RawFrame, Withheld
from privseg.privacy.motion import Flow, Glimpse
from privseg.streaming.asker import Asker
from privseg.streaming.protector import Pending, Protector, unexpected
from privseg.streaming.segmenter import Answer, NoAnswer

__all__ = ["AdaptiveProtector", "LiveAdaptiveProtector", "Schedule", "protector_for"]

# No answer for these reasons says nothing about the picture: what the model said before holds until it is too old.
_UNHEARD: Final = frozenset({Withheld.NO_ANSWER, Withheld.LATE, Withheld.SERVER_GONE, Withheld.OVERLOADED})
# A smaller share of changed cells is noise.
_STILL: Final = 0.001
# Frames of a recording that may wait while the model works on the one before them.
_WAITING: Final = 24
# A mask is renewed when it has reached this share of the age that it may have.
_RENEWED_AT: Final = 0.25


class Schedule(StrEnum):
    """About which frames the model is asked."""

    EVERY_FRAME = "every-frame"
    ADAPTIVE = "adaptive"


class _Carrying(Protector):
    """What both adaptive protectors share."""

    def __init__(self, *args: Any, carry: CarryPolicy, **options: Any) -> None:
        super().__init__(*args, **options)
        self._rules = carry
        self._carry = Carry(carry)
        #: video seconds and number of the frame whose answer is carried
        self._answered_at = 0.0
        self._answered_number: int | None = None

    def _seen(self, frame: RawFrame, seconds: float) -> Pending:
        seen = self._entered(frame)
        seen.seconds = seconds
        if seen.withheld is None:
            begun = time.perf_counter()
            seen.glimpse = frame.small_copy()
            # Half of what counts as change: less is noise, and noise moves nobody.
            seen.flow = self._motion.follow(seen.glimpse, quiet=self._rules.change // 2)
            self._telemetry.observe_stage(self._camera, "compare", time.perf_counter() - begun)
        return seen

    def _take(self, answer: Answer, seen: Pending) -> None:
        """Carry the mask of an answer from now on; whatever the answer is doubted for ends the carrying."""
        if seen.glimpse is None:
            raise NoAnswer(Withheld.NO_MASK)
        elapsed = seen.frame.sequence - self._answered_number if self._answered_number is not None else 1
        try:
            mask = self._held(answer, seen, max(elapsed, 1))
        except Exception:
            self._carry.drop()
            raise
        self._carry.start(mask, seen.glimpse)
        self._answered_at, self._answered_number = seen.seconds, seen.frame.sequence

    def _not_taken(self, error: NoAnswer) -> None:
        """There is no answer: whether what was said before still counts."""
        if error.reason not in _UNHEARD:
            self._carry.drop()

    def _carried(self, seen: Pending) -> ProtectedFrame:
        """The frame, covered by what an earlier answer has become."""
        if not self._carry.ready or seen.glimpse is None:
            raise NoAnswer(Withheld.NO_MASK)
        age = seen.seconds - self._answered_at
        if not 0 <= age <= self._rules.max_age_seconds:
            raise NoAnswer(Withheld.MASK_TOO_OLD, f"it is {age:.1f} s old")
        if self._carry.change(seen.glimpse) > self._rules.restless:
            raise NoAnswer(Withheld.MASK_TOO_OLD, "too much of the picture has changed since")
        begun = time.perf_counter()
        mask = self._carry.cover(seen.glimpse)
        self._telemetry.observe_stage(self._camera, "carry", time.perf_counter() - begun)
        return self._protected(seen, mask, age)


class AdaptiveProtector(_Carrying):
    """For recordings: which frames the model is asked about follows from the pictures alone, never from the clock.

    Frames wait for the answer about the frame before them, so that the same recording is always covered the same way.
    """

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.capacity = max(self.capacity, min(_WAITING, self._rules.every + 1))
        #: small copy and video seconds of the frame last asked about; None: ask about the next
        self._last: tuple[Glimpse, float] | None = None
        self._since = 0
        self._in_flight = 0

    @property
    def full(self) -> bool:
        """Whether a frame must be finished before the next is begun."""
        # Another question may come with any frame: there must be room for it.
        return super().full or self._in_flight >= self._segmenter.max_in_flight

    def begin(self, frame: RawFrame) -> None:
        """Ask the model about a frame, if it is time to; never raises for a fault of the model."""
        seen = Pending(frame)
        try:
            seen = self._seen(frame, float(frame.pts * frame.time_base))
            if seen.glimpse is not None and self._is_due(seen.glimpse, seen.seconds):
                self._last, self._since = (seen.glimpse, seen.seconds), 0
                self._ask(seen, self._model_input(seen))
                seen.asked = True
                self._in_flight += 1
        except NoAnswer as error:
            self._last = None
            self._not_taken(error)
            if error.reason not in _UNHEARD:
                seen.withheld = error
        except Exception as error:
            self._last = None
            seen.withheld = unexpected(error)
        self._pending.append(seen)

    def _finished(self, pending: Pending) -> ProtectedFrame:
        self._in_flight -= pending.asked
        if pending.flow is not None:
            self._hold.move(pending.flow)
            self._carry.follow(pending.flow)
        if pending.withheld is not None:
            raise pending.withheld
        if not pending.asked:
            return self._carried(pending)
        try:
            self._take(self._segmenter.result(pending.frame.sequence), pending)
        except NoAnswer as error:
            self._last = None
            self._not_taken(error)
            if not self._carry.ready:
                raise
        except Exception:
            self._last = None
            self._carry.drop()
            raise
        return self._carried(pending)

    def _is_due(self, glimpse: Glimpse, seconds: float) -> bool:
        if self._last is None or self._last[0].shape != glimpse.shape:
            return True
        self._since += 1
        then, asked_at = self._last
        rules = self._rules
        # Video time may run fast, or back where a recording was cut: the frame's number alone does not tell.
        if not 0 <= seconds - asked_at < rules.max_age_seconds * _RENEWED_AT * 3:
            return True
        change = change_since(then, glimpse, rules.change)
        return change > rules.restless or self._since >= (rules.every if change > _STILL else rules.still)


class LiveAdaptiveProtector(_Carrying):
    """For cameras: a frame never waits for the model; it leaves covered by the newest answer there is.

    The model is asked anew once it has answered, as often as something moves and its share of the time allows.
    """

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.capacity = 1
        self._asker = Asker(self._segmenter)
        self._question: Pending | None = None
        self._asked_at = 0.0
        #: motion since the frame last answered, with the numbers of the frames it led to
        self._flows: list[tuple[int, Flow]] = []

    def begin(self, frame: RawFrame) -> None:
        """Look at a frame; never raises for a fault of the model."""
        seen = Pending(frame)
        try:
            seen = self._seen(frame, frame.captured)
            if seen.flow is not None:
                self._flows.append((frame.sequence, seen.flow))
                self._carry.follow(seen.flow)
        except Exception as error:
            seen.withheld = unexpected(error)
        self._pending.append(seen)

    def close(self) -> None:
        """Ask nothing any more."""
        self._asker.close()

    def _finished(self, pending: Pending) -> ProtectedFrame:
        doubt = self._doubt()
        if pending.withheld is not None:
            raise pending.withheld
        if pending.glimpse is not None and self._asker.idle and self._is_due(pending.glimpse):
            self._inquire(pending)
        if doubt is not None and not self._carry.ready:
            raise doubt
        return self._carried(pending)

    def _doubt(self) -> NoAnswer | None:
        """Take the answer, if there is one; why it cannot be used, if so."""
        answer, question = self._asker.take(), self._question
        if answer is None or question is None:
            return None
        self._question = None
        if isinstance(answer, NoAnswer):
            self._not_taken(answer)
            return answer
        try:
            number = question.frame.sequence
            for _, flow in (each for each in self._flows if each[0] <= number):
                self._hold.move(flow)
            self._flows = [each for each in self._flows if each[0] > number]
            self._take(answer, question)
            for _, flow in self._flows:
                self._carry.follow(flow)
        except NoAnswer as error:
            return error
        except Exception as error:
            return unexpected(error)
        return None

    def _is_due(self, glimpse: Glimpse) -> bool:
        if not self._carry.ready:
            return True
        waited = time.monotonic() - self._asked_at
        if waited < self._asker.took / self._rules.busy_share:
            return False
        return self._carry.change(glimpse) > _STILL or waited >= self._rules.max_age_seconds * _RENEWED_AT

    def _inquire(self, seen: Pending) -> None:
        image = self._model_input(seen)
        seen.submitted = self._asked_at = time.monotonic()
        self._telemetry.asked(self._camera)
        self._question = seen
        self._asker.ask(seen.frame.sequence, image)


def protector_for(
    schedule: Schedule, *args: Any, live: bool, carry: CarryPolicy | None = None, **options: Any
) -> Protector:
    """The protector of a schedule.

    Args:
        schedule: About which frames the model is asked.
        *args: As for :class:`Protector`.
        live: Whether late frames are worthless.
        carry: The rules of an adaptive schedule.
        **options: As for :class:`Protector`.
    """
    if schedule is Schedule.EVERY_FRAME:
        return Protector(*args, **options)
    kind = LiveAdaptiveProtector if live else AdaptiveProtector
    return kind(*args, carry=carry or CarryPolicy(), **options)
