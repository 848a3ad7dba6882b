"""What was covered stays covered for a while, moves along with what is seen, and lingers where somebody vanished."""

from __future__ import annotations

import cv2
import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from privseg.privacy.hold import TemporalHold
from privseg.privacy.masks import MaskPolicy
from privseg.privacy.motion import Motion, small_copy

Mask = npt.NDArray[np.bool_]


@settings(deadline=None)
@given(
    st.lists(hnp.arrays(np.bool_, (6, 7), elements=st.booleans()), min_size=1, max_size=12),
    st.integers(0, 5),
    st.integers(0, 5),
)
def test_a_covered_pixel_stays_covered_for_the_held_frames(frames: list[Mask], held: int, lingering: int) -> None:
    hold = TemporalHold(MaskPolicy(hold_frames=held, collapse_hold_frames=lingering))
    for number, mask in enumerate(frames):
        covered = hold.update(mask)
        for earlier in frames[max(number - held, 0) : number + 1]:
            assert not (earlier & ~covered).any()


def test_nothing_is_held_longer_than_asked() -> None:
    hold = TemporalHold(MaskPolicy(hold_frames=2, collapse_hold_frames=0))
    one, none = np.eye(8, dtype=np.bool_), np.zeros((8, 8), np.bool_)
    covered = [hold.update(mask).any() for mask in (one, none, none, none)]
    assert covered == [True, True, True, False]


def test_when_everyone_vanishes_at_once_the_last_mask_lingers() -> None:
    hold = TemporalHold(MaskPolicy(hold_frames=0, collapse_hold_frames=3))
    person, none = np.zeros((50, 50), np.bool_), np.zeros((50, 50), np.bool_)
    person[10:40, 20:30] = True
    hold.update(person)
    assert [bool(hold.update(none).any()) for _ in range(4)] == [True, True, True, False]


def test_a_person_who_walks_out_bit_by_bit_leaves_at_most_the_last_strip() -> None:
    hold = TemporalHold(MaskPolicy(hold_frames=0, collapse_hold_frames=5))
    for right in range(60, 0, -2):
        mask = np.zeros((300, 400), np.bool_)
        mask[100:240, :right] = True
        assert np.array_equal(hold.update(mask), mask)
    for _ in range(5):
        assert not hold.update(np.zeros((300, 400), np.bool_))[:, 6:].any()
    assert not hold.update(np.zeros((300, 400), np.bool_)).any()


def test_a_person_who_runs_leaves_no_ghost() -> None:
    hold = TemporalHold(MaskPolicy(hold_frames=0, collapse_hold_frames=5))
    for left in range(0, 300, 25):
        mask = np.zeros((300, 400), np.bool_)
        mask[100:240, left : left + 50] = True
        assert np.array_equal(hold.update(mask), mask)


def box(left: int, top: int, width: int, height: int, share: float = 1.0) -> Mask:
    mask = np.zeros((60, 90), np.bool_)
    mask[top : top + round(height * share), left : left + width] = True
    return mask


def coverage(frames: list[Mask], policy: MaskPolicy) -> list[Mask]:
    hold = TemporalHold(policy)
    return [hold.update(mask.copy()) for mask in frames]


@pytest.mark.parametrize("shares", [(1, 0), (1, 0.7, 0.15, 0), (1, 0.7, 0.05), (1, 0.15, 0.05, 0)])
def test_a_fall_in_steps_holds_the_whole_person(shares: tuple[float, ...]) -> None:
    fall = [box(20, 10, 10, 40, share) for share in shares] + [box(0, 0, 0, 0)] * 9
    covered = coverage(fall, MaskPolicy(hold_frames=3, collapse_hold_frames=10))
    for number in range(10):
        assert not (fall[0] & ~covered[number]).any(), number


def test_a_second_collapse_does_not_uncover_the_first() -> None:
    person, blob, none = box(10, 10, 10, 40), box(70, 20, 8, 8), box(0, 0, 0, 0)
    covered = coverage([person, none, blob, none, none, none, none], MaskPolicy(hold_frames=0, collapse_hold_frames=6))
    assert all(not (person & ~mask).any() for mask in covered)


def test_one_person_vanishing_beside_another_is_noticed() -> None:
    vanishing, staying = box(2, 10, 8, 30), box(60, 5, 20, 50)
    covered = coverage([vanishing | staying] + [staying] * 5, MaskPolicy(hold_frames=0, collapse_hold_frames=5))
    assert all(not (vanishing & ~mask).any() for mask in covered)


blobs = st.builds(box, st.integers(0, 85), st.integers(0, 55), st.integers(1, 30), st.integers(1, 40))
policies_of_hold = st.builds(
    MaskPolicy, hold_frames=st.integers(1, 4), collapse_hold_frames=st.sampled_from([0, 1, 3, 6])
)


@settings(deadline=None)
@given(blobs, st.integers(0, 9), st.integers(1, 6), policies_of_hold)
def test_a_blob_anywhere_uncovers_nobody_who_vanishes(blob: Mask, at: int, seen: int, policy: MaskPolicy) -> None:
    frames = [box(30, 10, 12, 40)] * seen + [box(0, 0, 0, 0)] * (12 - seen)
    without, with_blob = (
        coverage([mask | blob if add and number == at else mask for number, mask in enumerate(frames)], policy)
        for add in (False, True)
    )
    for before, after in zip(without, with_blob, strict=True):
        assert not (before & ~after).any()


@settings(deadline=None)
@given(
    st.lists(hnp.arrays(np.bool_, (60, 20), elements=st.booleans()), min_size=2, max_size=10),
    st.integers(0, 9),
    st.builds(box, st.integers(45, 85), st.integers(0, 55), st.integers(1, 30), st.integers(1, 40)),
    policies_of_hold,
)
def test_a_blob_apart_never_shrinks_what_is_covered_later(
    people: list[Mask], at: int, blob: Mask, policy: MaskPolicy
) -> None:
    frames = [np.pad(mask, ((0, 0), (0, 70))) for mask in people]
    frames.append(np.zeros((60, 90), np.bool_))
    changed = [mask | blob if number == at % len(frames) else mask for number, mask in enumerate(frames)]
    for before, after in zip(coverage(frames, policy), coverage(changed, policy), strict=True):
        assert not (before & ~after).any()


def test_a_changed_frame_size_starts_afresh() -> None:
    hold = TemporalHold(MaskPolicy())
    hold.update(np.ones((8, 8), np.bool_))
    assert not hold.update(np.zeros((9, 8), np.bool_)).any()


def test_a_person_of_whom_a_fifth_is_left_is_held_whole() -> None:
    covered = coverage([box(20, 10, 10, 40)] * 3 + [box(20, 10, 10, 40, 0.2)] * 6, MaskPolicy(hold_frames=0))
    assert all(not (box(20, 10, 10, 40) & ~mask).any() for mask in covered)


def test_a_person_of_whom_half_is_left_has_not_vanished() -> None:
    half = box(20, 10, 10, 40, 0.5)
    covered = coverage([box(20, 10, 10, 40)] * 3 + [half], MaskPolicy(hold_frames=0))
    assert np.array_equal(covered[-1], half)


def held(policy: MaskPolicy, signs: list[tuple[bool, bool]]) -> list[bool]:
    """Whether one pixel is covered, frame after frame; each frame says whether it is masked and whether empty."""
    hold = TemporalHold(policy)
    one = np.ones((1, 1), np.bool_)
    return [bool(hold.update(one & masked, one & empty)[0, 0]) for masked, empty in signs]


def test_a_held_pixel_is_released_early_once_it_is_confirmed_empty() -> None:
    policy = MaskPolicy(hold_frames=10, confirm_empty=3, collapse_hold_frames=0)
    assert held(policy, [(True, False)] + [(False, True)] * 4) == [True, True, True, False, False]
    # one sign of a person begins the count again
    signs = [(True, False), (False, True), (False, True), (False, False), (False, True), (False, True), (False, True)]
    assert held(policy, signs) == [True] * 6 + [False]


def test_nothing_is_released_before_the_least_frames() -> None:
    policy = MaskPolicy(hold_frames=10, confirm_empty=1, hold_at_least=4, collapse_hold_frames=0)
    assert held(policy, [(True, False)] + [(False, True)] * 6) == [True] * 5 + [False] * 2


def test_whoever_vanished_is_not_released_early() -> None:
    policy = MaskPolicy(hold_frames=2, confirm_empty=1, collapse_hold_frames=5)
    assert held(policy, [(True, False)] + [(False, True)] * 6) == [True] * 6 + [False]


frames_with_signs = st.lists(
    st.tuples(hnp.arrays(np.bool_, (5, 6)), hnp.arrays(np.bool_, (5, 6))), min_size=1, max_size=14
)


@settings(deadline=None)
@given(frames_with_signs, st.integers(0, 9), st.integers(0, 4), st.integers(1, 4), st.sampled_from([0, 3]))
def test_a_pixel_is_released_only_after_its_time_or_confirmation(
    frames: list[tuple[Mask, Mask]], hold_frames: int, confirm: int, at_least: int, lingering: int
) -> None:
    policy = MaskPolicy(
        hold_frames=hold_frames, confirm_empty=confirm, hold_at_least=at_least, collapse_hold_frames=lingering
    )
    hold = TemporalHold(policy)
    since, empty_for = np.full((5, 6), 10**6), np.zeros((5, 6), int)
    for mask, empty in frames:
        covered = hold.update(mask.copy(), empty)
        since = np.where(mask, 0, since + 1)
        empty_for = np.where(empty, empty_for + 1, 0)
        assert not (mask & ~covered).any()
        # a pixel once released stays so; whoever is released must have been confirmed at some time since
        since[(empty_for >= confirm) & (since > at_least) & (confirm > 0)] = 10**6
        assert not ((since <= hold_frames) & ~covered).any()


def shift(right: float, down: float = 0.0, size: tuple[int, int] = (30, 45)) -> npt.NDArray[np.float32]:
    """The flow of a picture that moves by so many of its cells."""
    return np.full((*size, 2), (-right, -down), np.float32)


def test_what_is_held_moves_along_in_steps_smaller_than_a_cell() -> None:
    hold = TemporalHold(MaskPolicy(hold_frames=9, collapse_hold_frames=0))
    start, nobody = box(20, 10, 16, 40), box(0, 0, 0, 0)
    hold.update(start)
    for frame in range(1, 9):
        hold.move(shift(0.4))  # cells of two pixels
        covered = hold.update(nobody)
        assert not (start & ~covered).any()
        now = box(20 + round(frame * 0.8), 10, 16, 40)
        assert np.count_nonzero(now & ~covered) <= 0.13 * now.sum()
        assert not (covered & ~box(18, 8, 30, 46)).any()
    hold.move(shift(0.4))
    hold.update(nobody)
    hold.move(shift(0.4))
    assert not hold.update(nobody).any()


def test_whoever_vanished_is_followed_while_the_area_lingers() -> None:
    hold = TemporalHold(MaskPolicy(hold_frames=3, collapse_hold_frames=8))
    for left in (10, 14, 18, 22):
        hold.move(shift(2))
        hold.update(box(left, 10, 12, 40))
    for frame in range(1, 9):
        hold.move(shift(2))
        covered = hold.update(box(0, 0, 0, 0))
        assert not (box(22, 10, 12, 40) & ~covered).any()
        assert not (box(22 + 4 * frame, 10, 12, 40) & ~covered).any()
    for _ in range(5):
        hold.move(shift(2))
        last = hold.update(box(0, 0, 0, 0))
    assert not last.any()


def test_without_motion_nothing_is_added() -> None:
    with_flow, without = (TemporalHold(MaskPolicy(collapse_hold_frames=4)) for _ in range(2))
    for mask in (box(20, 10, 10, 33), box(24, 12, 10, 41), *[box(0, 0, 0, 0)] * 6):
        with_flow.move(shift(0))
        assert np.array_equal(with_flow.update(mask), without.update(mask))


flows = hnp.arrays(np.float32, (12, 18, 2), elements=st.floats(-20, 20, width=32))


@settings(deadline=None)
@given(
    st.lists(st.tuples(hnp.arrays(np.bool_, (24, 36)), flows | st.none()), min_size=1, max_size=6),
    st.integers(0, 5),
    st.integers(0, 2),
)
def test_motion_never_uncovers_anything(
    frames: list[tuple[Mask, npt.NDArray[np.float32] | None]], hold_frames: int, lingering: int
) -> None:
    policy = MaskPolicy(hold_frames=hold_frames, collapse_hold_frames=lingering)
    moving, still = TemporalHold(policy), TemporalHold(policy)
    for mask, flow in frames:
        if flow is not None:
            moving.move(flow)
        assert not (still.update(mask) & ~moving.update(mask)).any()


def test_the_motion_of_a_picture_is_found() -> None:
    rng = np.random.default_rng(5)
    wide = cv2.resize(rng.integers(0, 256, (30, 60, 3), np.uint8), (600, 300), interpolation=cv2.INTER_CUBIC)
    motion = Motion()
    assert motion.follow(small_copy(np.ascontiguousarray(wide[:256, 40:552]))) is None
    flow = motion.follow(small_copy(np.ascontiguousarray(wide[:256, 32:544])))  # the picture moves 8 to the right
    assert flow is not None
    assert flow.shape == (128, 256, 2)
    assert np.median(flow[..., 0]) == pytest.approx(-4, abs=0.5)
    assert np.median(flow[..., 1]) == pytest.approx(0, abs=0.3)
    assert motion.follow(small_copy(np.zeros((64, 96, 3), np.uint8))) is None
    assert motion.follow(small_copy(np.zeros((8, 8, 3), np.uint8))) is None
    assert motion.follow(small_copy(np.zeros((8, 8, 3), np.uint8))) is None
