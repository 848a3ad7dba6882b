"""The adaptive schedule: few questions, everybody covered, and withheld whenever what is known no longer holds."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from fractions import Fraction
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from privseg.privacy.carry import CarryPolicy
from privseg.privacy.filters.registry import create_method
from privseg.privacy.frames import ProtectedFrame, RawFrame, Withheld
from privseg.privacy.masks import MaskPolicy
from privseg.privacy.zones import Zones
from privseg.streaming.adaptive import AdaptiveProtector, LiveAdaptiveProtector, Schedule, protector_for
from privseg.streaming.segmenter import Answer, NoAnswer
from privseg.streaming.telemetry import Telemetry
from privseg.testing.camera import beacon_pixels, scene
from privseg.testing.segmenter import FaultySegmenter, SegmenterFault

SIZE = (320, 240)
RATE = Fraction(25)


class Counting(FaultySegmenter):
    """Remembers which frames it was asked about."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.asked: list[int] = []

    def submit(self, sequence: int, image: npt.NDArray[np.uint8]) -> None:
        self.asked.append(sequence)
        super().submit(sequence, image)


class Gated(Counting):
    """Answers when it is let."""

    def __init__(self) -> None:
        super().__init__()
        self.gate = threading.Semaphore(0)
        self.answered = threading.Semaphore(0)

    def result(self, sequence: int) -> Answer:
        assert self.gate.acquire(timeout=30)
        answer = super().result(sequence)
        self.answered.release()
        return answer


def raw(number: int, image: npt.NDArray[np.uint8] | None = None, **options: Any) -> RawFrame:
    picture = scene(number, *SIZE) if image is None else image
    return RawFrame(picture.copy(), sequence=number, pts=number, time_base=1 / RATE, **options)


def recording(segmenter: FaultySegmenter, **rules: Any) -> AdaptiveProtector:
    made = protector_for(
        Schedule.ADAPTIVE, "c", segmenter, create_method("blank"), MaskPolicy(unsure_share=1), Telemetry(),
        live=False, carry=CarryPolicy(**rules), long_side=320,
    )  # fmt: skip
    assert isinstance(made, AdaptiveProtector)
    return made


def play(protector: AdaptiveProtector, frames: Iterator[RawFrame]) -> list[ProtectedFrame]:
    out = []
    for frame in frames:
        protector.begin(frame)
        while protector.full:
            out.append(protector.finish())
    while protector.pending:
        out.append(protector.finish())
    return out


def test_few_questions_cover_somebody_who_walks() -> None:
    segmenter = Counting()
    out = play(recording(segmenter, every=8), (raw(number) for number in range(40)))
    assert segmenter.asked == [0, 8, 16, 24, 32]
    assert [frame.sequence for frame in out] == list(range(40))
    assert not any(frame.withheld for frame in out)
    assert max(beacon_pixels(frame.pixels) for frame in out) == 0
    # Carrying covers where people were and where they are, not the whole picture.
    assert max(frame.person_ratio for frame in out) < 0.5
    assert [round(frame.mask_age * RATE) for frame in out[:10]] == [0, 1, 2, 3, 4, 5, 6, 7, 0, 1]


def test_somebody_who_comes_in_between_two_questions_is_covered_at_once() -> None:
    segmenter = Counting()
    frames = (raw(number, scene(number, *SIZE, person=number >= 3)) for number in range(8))
    out = play(recording(segmenter, every=16), frames)
    assert segmenter.asked == [0]
    assert out[2].person_ratio == 0
    assert max(beacon_pixels(frame.pixels) for frame in out) == 0
    assert not any(frame.withheld for frame in out)


def test_a_still_picture_is_asked_about_less_often() -> None:
    segmenter = Counting()
    play(recording(segmenter, every=4, still=12), (raw(number, scene(0, *SIZE)) for number in range(30)))
    assert segmenter.asked == [0, 12, 24]


def test_a_cut_to_another_scene_is_asked_about_at_once() -> None:
    segmenter = Counting()
    pictures = [scene(0, *SIZE) if number < 5 else 255 - scene(0, *SIZE, person=False) for number in range(8)]
    out = play(recording(segmenter, every=50), (raw(number, picture) for number, picture in enumerate(pictures)))
    assert segmenter.asked == [0, 5]
    assert all(frame.mask_age == 0 for frame in (out[0], out[5]))


def test_another_size_is_asked_about_at_once() -> None:
    segmenter = Counting()
    sizes = [SIZE, SIZE, (160, 240), (160, 240)]
    frames = (raw(number, scene(number, *size)) for number, size in enumerate(sizes))
    out = play(recording(segmenter, every=50), frames)
    assert segmenter.asked == [0, 2]
    assert max(beacon_pixels(frame.pixels) for frame in out) == 0


@pytest.mark.parametrize("fault", [fault for fault in SegmenterFault if fault is not SegmenterFault.STALE])
def test_whatever_the_model_does_nobody_is_seen(fault: SegmenterFault) -> None:
    segmenter = Counting(lambda number: fault if 4 <= number < 12 else None)
    out = play(recording(segmenter, every=4), (raw(number) for number in range(24)))
    assert len(out) == 24
    assert max(beacon_pixels(frame.pixels) for frame in out if not frame.withheld) == 0
    assert not any(frame.withheld for frame in out[-6:])


def test_without_any_answer_every_frame_is_withheld() -> None:
    out = play(recording(FaultySegmenter(lambda _: SegmenterFault.GONE)), (raw(number) for number in range(6)))
    assert {frame.withheld for frame in out} <= {Withheld.SERVER_GONE, Withheld.NO_MASK}
    assert len(out) == 6


def test_a_mask_that_is_too_old_covers_nothing() -> None:
    segmenter = Counting(lambda number: SegmenterFault.GONE if number else None)
    out = play(recording(segmenter, every=4, max_age_seconds=0.4), (raw(number) for number in range(20)))
    ages = [number / RATE for number in range(20)]
    for frame, age in zip(out, ages, strict=True):
        assert (frame.withheld is Withheld.MASK_TOO_OLD) == (age > Fraction(4, 10))


def test_an_answer_in_doubt_ends_the_carrying_of_the_one_before() -> None:
    segmenter = Counting(lambda number: SegmenterFault.SOME_ZERO if number == 4 else None)
    out = play(recording(segmenter, every=4), (raw(number) for number in range(7)))
    assert not any(frame.withheld for frame in out[:4])
    assert out[4].withheld is Withheld.EMPTY_ANSWER
    assert all(frame.withheld for frame in out[5:])  # begun before the doubt was known


@pytest.mark.parametrize("flag", ["damaged", "frozen"])
def test_a_frame_that_is_no_picture_of_now_is_withheld(flag: str) -> None:
    frames = (raw(number, **{flag: number == 3}) for number in range(6))
    out = play(recording(FaultySegmenter()), frames)
    assert [bool(frame.withheld) for frame in out] == [number == 3 for number in range(6)]


def test_zones_hold_in_carried_frames() -> None:
    zones = Zones.model_validate({"always": [[[0, 0], [0.1, 0], [0.1, 1], [0, 1]]]})
    protector = protector_for(
        Schedule.ADAPTIVE, "c", FaultySegmenter(), create_method("blank"), MaskPolicy(unsure_share=1), Telemetry(),
        live=False, zones=zones, long_side=320,
    )  # fmt: skip
    assert isinstance(protector, AdaptiveProtector)
    for frame in play(protector, (raw(number, scene(0, *SIZE, person=False)) for number in range(4))):
        assert len(np.unique(frame.pixels[:, :20].reshape(-1, 3), axis=0)) == 1


class Live:
    """A live protector with its model under control."""

    def __init__(self, segmenter: FaultySegmenter, **rules: Any) -> None:
        made = protector_for(
            Schedule.ADAPTIVE, "c", segmenter, create_method("blank"), MaskPolicy(unsure_share=1), Telemetry(),
            live=True, carry=CarryPolicy(**rules), long_side=320,
        )  # fmt: skip
        assert isinstance(made, LiveAdaptiveProtector)
        self.protector = made

    def show(self, number: int, change: Callable[[RawFrame], None] | None = None, **options: Any) -> ProtectedFrame:
        frame = raw(number, **options)
        if change:
            change(frame)
        self.protector.begin(frame)
        assert self.protector.full
        return self.protector.finish()


def test_a_live_frame_never_waits_and_never_leaves_before_the_first_mask() -> None:
    segmenter = Gated()
    live = Live(segmenter)
    assert [live.show(number).withheld for number in range(5)] == [Withheld.NO_MASK] * 5
    assert segmenter.asked[:1] == [0]
    segmenter.gate.release(100)
    assert segmenter.answered.acquire(timeout=30)
    live.protector._asker._answer and live.protector._asker._answer.result(30)  # the answer has arrived
    frames = [live.show(number) for number in range(5, 12)]
    assert not frames[0].withheld  # five frames later it is covered by the answer about frame 0
    assert max(beacon_pixels(frame.pixels) for frame in frames if not frame.withheld) == 0
    live.protector.close()


def test_a_live_mask_too_old_withholds() -> None:
    live = Live(Counting(lambda number: SegmenterFault.GONE if number else None), max_age_seconds=2)
    live.show(0)
    live.protector._asker._answer.result(30)  # type: ignore[union-attr]

    def later(frame: RawFrame) -> None:
        frame.captured += 3

    assert not live.show(1).withheld
    assert live.show(2, later).withheld is Withheld.MASK_TOO_OLD
    live.protector.close()


def test_a_live_cut_is_withheld_until_the_model_has_seen_it() -> None:
    live = Live(FaultySegmenter())
    live.show(0)
    live.protector._asker._answer.result(30)  # type: ignore[union-attr]
    assert not live.show(1).withheld
    other = 255 - scene(2, *SIZE)
    assert live.show(2, image=other).withheld is Withheld.MASK_TOO_OLD
    live.protector.close()


def test_an_asker_tells_of_every_fault() -> None:
    live = Live(FaultySegmenter(lambda _: SegmenterFault.CRASH))
    live.show(0)
    question = live.protector._asker._answer
    assert question is not None
    assert isinstance(question.result(30), NoAnswer)
    assert live.show(1).withheld is Withheld.ERROR
    live.protector.close()


def test_every_frame_remains_the_default() -> None:
    protector = protector_for(
        Schedule.EVERY_FRAME, "c", FaultySegmenter(), create_method("blank"), MaskPolicy(), Telemetry(), live=True
    )
    assert not isinstance(protector, AdaptiveProtector | LiveAdaptiveProtector)
