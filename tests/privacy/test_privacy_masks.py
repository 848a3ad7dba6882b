"""What must be covered is covered, and stays covered."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from pydantic import ValidationError

from privseg.privacy.masks import MaskPolicy, TemporalHold, dilate_by_size, fill_holes, mask_from_probability

Mask = npt.NDArray[np.bool_]


def masks(side: int = 40) -> st.SearchStrategy[Mask]:
    return hnp.arrays(np.bool_, st.tuples(st.integers(1, side), st.integers(1, side)), elements=st.booleans())


def probabilities() -> st.SearchStrategy[npt.NDArray[np.uint8]]:
    shape = st.tuples(st.integers(1, 48), st.integers(1, 48))
    return hnp.arrays(np.uint8, shape, elements=st.sampled_from([1, 3, 88, 89, 90, 200, 255]))


policies = st.builds(
    MaskPolicy,
    threshold=st.floats(0.02, 0.95),
    dilation=st.floats(0, 0.5),
    min_dilation=st.integers(1, 8),
    fill_holes=st.booleans(),
)


@settings(deadline=None)
@given(probabilities(), st.integers(1, 90), st.integers(1, 90), policies)
def test_every_confident_cell_is_covered_at_any_size(
    probability: npt.NDArray[np.uint8], height: int, width: int, policy: MaskPolicy
) -> None:
    mask = mask_from_probability(probability, height, width, policy)

    assert mask.shape == (height, width)
    assert mask.dtype == np.bool_
    rows, columns = np.nonzero(probability >= policy.threshold * 255)
    # the frame pixel in which the cell's centre lies
    at_row = ((rows + 0.5) * height / probability.shape[0]).astype(int)
    at_column = ((columns + 0.5) * width / probability.shape[1]).astype(int)
    assert mask[at_row, at_column].all()


@settings(deadline=None)
@given(probabilities(), policies)
def test_at_equal_size_the_mask_contains_the_thresholded_map(
    probability: npt.NDArray[np.uint8], policy: MaskPolicy
) -> None:
    mask = mask_from_probability(probability, *probability.shape, policy)
    assert not (~mask & (probability >= policy.threshold * 255)).any()


def test_an_empty_map_covers_nothing() -> None:
    assert not mask_from_probability(np.full((32, 32), 3, np.uint8), 77, 51, MaskPolicy()).any()


@pytest.mark.parametrize(("threshold", "value"), [(0.35, 89), (0.02, 5), (0.5, 127), (0.95, 242)])
def test_a_threshold_between_two_values_covers_the_lower_one(threshold: float, value: int) -> None:
    policy = MaskPolicy(threshold=threshold)
    assert mask_from_probability(np.full((32, 32), value, np.uint8), 32, 32, policy).all()
    assert not mask_from_probability(np.full((32, 32), value - 1, np.uint8), 32, 32, policy).any()


def test_the_lowest_answer_is_background_at_every_threshold() -> None:
    assert not mask_from_probability(np.ones((32, 32), np.uint8), 64, 64, MaskPolicy(threshold=0.02)).any()


def test_a_thin_person_survives_shrinking() -> None:
    probability = np.zeros((512, 512), np.uint8)
    probability[100:400, 251] = 255
    mask = mask_from_probability(probability, 60, 60, MaskPolicy(min_dilation=1))
    assert mask[12:47].any(axis=1).all()


@settings(deadline=None)
@given(masks(), st.floats(0, 0.5), st.integers(1, 6))
def test_dilation_covers_a_disc_around_every_pixel(mask: Mask, fraction: float, minimum: int) -> None:
    widened = dilate_by_size(mask, fraction, minimum)
    assert not (mask & ~widened).any()
    y, x = np.mgrid[: mask.shape[0], : mask.shape[1]]
    for row, column in np.argwhere(mask)[:10]:
        disc = (y - row) ** 2 + (x - column) ** 2 <= (0.9 * minimum) ** 2
        assert widened[disc].all()


def test_the_margin_follows_each_persons_own_height() -> None:
    mask = np.zeros((400, 400), np.bool_)
    mask[50:350, 50:60] = True  # 300 tall: a margin of 30 at 0.1
    mask[200:220, 300:305] = True  # 20 tall: the smallest margin, 2
    widened = dilate_by_size(mask, 0.1, 2)
    assert widened[200, 60:89].all()
    assert not widened[200, 110:290].any()
    assert widened[210, 305:307].all()
    assert not widened[210, 309:].any()


@settings(deadline=None)
@given(masks())
def test_filling_holes_only_adds_enclosed_pixels(mask: Mask) -> None:
    filled = fill_holes(mask)
    assert not (mask & ~filled).any()
    added = filled & ~mask
    for edge in (added[0], added[-1], added[:, 0], added[:, -1]):
        assert not edge.any()
    assert np.array_equal(fill_holes(filled), filled)


def test_a_ring_is_filled() -> None:
    mask = np.zeros((20, 20), np.bool_)
    mask[5:15, 5:15] = True
    mask[8:12, 8:12] = False
    assert fill_holes(mask)[5:15, 5:15].all()


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


@pytest.mark.parametrize(
    "field", [{"threshold": 0}, {"threshold": 1.5}, {"dilation": -1}, {"hold_frames": -1}, {"x": 1}]
)
def test_the_policy_is_bounded(field: dict[str, float]) -> None:
    with pytest.raises(ValidationError):
        MaskPolicy.model_validate(field)
