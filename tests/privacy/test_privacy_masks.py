"""What must be covered is covered, and stays covered."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from pydantic import ValidationError

from privseg.privacy.masks import (
    MaskPolicy,
    confirmed_empty,
    dilate_by_size,
    fill_holes,
    mask_from_probability,
    unsure_share,
)

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
@given(probabilities(), st.integers(1, 90), st.integers(1, 90), st.floats(0.02, 0.95), policies)
def test_what_is_confident_is_never_empty(
    probability: npt.NDArray[np.uint8], height: int, width: int, below: float, policy: MaskPolicy
) -> None:
    policy = policy.model_copy(update={"empty_below": below, "fill_holes": False})
    empty = confirmed_empty(probability, height, width, policy)
    assert empty.shape == (height, width)
    rows, columns = np.nonzero(probability >= min(below, policy.threshold) * 255)
    at_row = ((rows + 0.5) * height / probability.shape[0]).astype(int)
    at_column = ((columns + 0.5) * width / probability.shape[1]).astype(int)
    assert not empty[at_row, at_column].any()


def test_where_there_is_no_sign_it_is_empty() -> None:
    assert confirmed_empty(np.full((32, 32), 20, np.uint8), 77, 51, MaskPolicy(empty_below=0.1)).all()
    assert not confirmed_empty(np.full((32, 32), 26, np.uint8), 77, 51, MaskPolicy(empty_below=0.1)).any()


def test_the_unsure_share_counts_what_is_between_the_bounds() -> None:
    policy = MaskPolicy(unsure_from=0.1, unsure_to=0.3)
    probability = np.array([[1, 25, 26, 76], [77, 255, 40, 10]], np.uint8)
    assert unsure_share(probability, policy) == 3 / 8
    hidden = np.zeros((20, 40), np.bool_)
    hidden[:, 20:] = True  # the right half, at another size
    assert unsure_share(probability, policy, hidden) == 0
    hidden = ~hidden
    assert unsure_share(probability, policy, hidden) == 3 / 4
    assert unsure_share(probability, policy, np.ones((3, 3), np.bool_)) == 0


@pytest.mark.parametrize(
    "field",
    [
        {"threshold": 0},
        {"threshold": 1.5},
        {"dilation": -1},
        {"hold_frames": -1},
        {"x": 1},
        {"unsure_from": 0.4, "unsure_to": 0.3},
    ],
)
def test_the_policy_is_bounded(field: dict[str, float]) -> None:
    with pytest.raises(ValidationError):
        MaskPolicy.model_validate(field)
