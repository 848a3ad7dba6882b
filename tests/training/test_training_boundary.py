from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from privseg.training.boundary import BoundaryCounts

SHAPE = (9, 12)  # the diagonal is 15 pixels
PREDICTIONS = hnp.arrays(bool, SHAPE)
TRUTHS = hnp.arrays(np.uint8, SHAPE, elements=st.sampled_from([0, 1, 255]))
LABELLED = hnp.arrays(np.uint8, SHAPE, elements=st.sampled_from([0, 1]))
PADDED = LABELLED.map(lambda picture: np.where(np.arange(SHAPE[1]) < 2, np.uint8(255), picture))
TOLERANCES = st.sampled_from([0.0, 0.07, 0.1, 0.16, 0.2])  # 0 to 3 pixels, that is 3 exactly


def counted(*pairs, tolerance=0.1):
    boundary = BoundaryCounts()
    for prediction, truth in pairs:
        boundary.update(prediction, truth, tolerance=tolerance)
    return boundary


def outline_by_hand(human, background):
    return {
        (row, column)
        for row, column in human
        if {(row - 1, column), (row + 1, column), (row, column - 1), (row, column + 1)} & background
    }


def counts_by_hand(prediction, truth, tolerance):
    reach = tolerance * math.hypot(*truth.shape)
    pixels = list(np.ndindex(truth.shape))
    ignored = {pixel for pixel in pixels if truth[pixel] == 255}
    true = outline_by_hand({p for p in pixels if truth[p] == 1}, {p for p in pixels if truth[p] == 0})
    seen = {p for p in pixels if prediction[p]} - ignored
    predicted = outline_by_hand(seen, set(pixels) - ignored - seen)

    def near(pixel, others):
        return any(math.dist(pixel, other) <= reach for other in others)

    counts = {}
    for name, these, others in (("predicted", predicted, true), ("true", true, predicted)):
        judged = [pixel for pixel in these if not near(pixel, ignored)]
        counts[name] = len(judged)
        counts[f"{name}_met"] = sum(near(pixel, others) for pixel in judged)
    return counts


@settings(deadline=None)
@given(PREDICTIONS, TRUTHS | LABELLED | PADDED, TOLERANCES)
def test_counts_agree_with_every_pair_of_pixels(prediction, truth, tolerance):
    boundary, expected = counted((prediction, truth), tolerance=tolerance), counts_by_hand(prediction, truth, tolerance)
    assert vars(boundary) == expected
    if expected["predicted"] and expected["true"]:
        precision = expected["predicted_met"] / expected["predicted"]
        recall = expected["true_met"] / expected["true"]
        assert (boundary.precision, boundary.recall) == (precision, recall)
        if precision and recall:
            assert boundary.f_measure == pytest.approx(2 / (1 / precision + 1 / recall))
        else:
            assert boundary.f_measure == 0.0


@given(PREDICTIONS, TRUTHS, PREDICTIONS, TOLERANCES)
def test_ignored_pixels_never_count(prediction, truth, noise, tolerance):
    changed = np.where(truth == 255, noise, prediction)
    assert counted((changed, truth), tolerance=tolerance) == counted((prediction, truth), tolerance=tolerance)


@given(PREDICTIONS, LABELLED, TOLERANCES)
def test_prediction_and_truth_change_places(prediction, truth, tolerance):
    one = counted((prediction, truth), tolerance=tolerance)
    other = counted((truth == 1, prediction.astype(np.uint8)), tolerance=tolerance)
    assert (one.precision, one.recall) == (other.recall, other.precision)


@given(PREDICTIONS, TRUTHS, PREDICTIONS, TRUTHS)
def test_counts_of_pictures_add_up(prediction, truth, prediction2, truth2):
    both = vars(counted((prediction, truth), (prediction2, truth2)))
    alone = [vars(counted(pair)) for pair in ((prediction, truth), (prediction2, truth2))]
    assert both == {name: alone[0][name] + alone[1][name] for name in both}


@given(TRUTHS, TOLERANCES)
def test_the_truth_itself_scores_one(truth, tolerance):
    assert counted((truth == 1, truth), tolerance=tolerance).f_measure == 1.0


def square(top, left, side=60):
    truth = np.zeros((512, 512), np.uint8)
    truth[top : top + side, left : left + side] = 1
    return truth


@pytest.mark.parametrize(("shift", "met"), [((0, 5), True), ((5, 2), True), ((6, 0), False), ((4, 4), False)])
def test_outlines_meet_within_three_quarters_of_a_percent_of_the_diagonal(shift, met):
    # 5.43 pixels at 512 x 512; both outlines' farthest points are corners, which lie a whole shift apart.
    boundary = BoundaryCounts()
    boundary.update(square(100 + shift[0], 200 + shift[1]) == 1, square(100, 200))
    assert boundary.predicted == boundary.true == 4 * 59
    assert (boundary.f_measure == 1.0) == met


def test_the_border_of_the_picture_is_no_outline():
    truth = np.zeros((40, 40), np.uint8)
    truth[:, :20] = 1
    assert vars(counted((truth == 1, truth))) == {"predicted": 40, "predicted_met": 40, "true": 40, "true_met": 40}


def test_a_person_within_an_ignored_border_has_no_outline():
    truth = square(100, 100)
    band = np.zeros(truth.shape, bool)
    band[98:162, 98:162] = True
    truth[band & (truth == 0)] = 255
    boundary = BoundaryCounts()
    boundary.update(truth == 1, truth)
    boundary.update(band, truth)  # as good, as far as anybody knows
    assert boundary == BoundaryCounts()


@pytest.mark.parametrize(("predicted_edge", "true_edge"), [(103, 107), (107, 103)])
def test_an_outline_beside_ignored_pixels_is_met_but_not_counted(predicted_edge, true_edge):
    columns = np.broadcast_to(np.arange(512), (512, 512))
    truth = np.where(columns < 100, 255, columns >= true_edge).astype(np.uint8)
    boundary = BoundaryCounts()
    boundary.update(columns >= predicted_edge, truth)
    counted_edges = (boundary.predicted, boundary.predicted_met, boundary.true, boundary.true_met)
    assert counted_edges == ((0, 0, 512, 512) if true_edge == 107 else (512, 512, 0, 0))
    assert boundary.precision == boundary.recall == boundary.f_measure == 1.0


@pytest.mark.parametrize(("predicted", "true", "score"), [(0, 0, 1.0), (1, 0, 0.0), (0, 1, 0.0)])
def test_where_one_outline_is_missing_the_score_says_whether_the_other_is_too(predicted, true, score):
    boundary = counted((square(9, 9) * predicted == 1, square(9, 9) * true))
    assert boundary.precision == boundary.recall == boundary.f_measure == score


def test_shapes_must_agree():
    with pytest.raises(ValueError, match="differ in shape"):
        BoundaryCounts().update(np.ones((2, 2), bool), np.zeros((2, 3), np.uint8))
