from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from privseg.training.metrics import BinaryConfusion

SHAPE = (5, 7)
PREDICTIONS = hnp.arrays(bool, SHAPE)
TRUTHS = hnp.arrays(np.uint8, SHAPE, elements=st.sampled_from([0, 1, 255]))
EMPTY = st.sampled_from([0, 1, 255]).map(lambda value: np.full(SHAPE, value, np.uint8))  # of one label or the other


def counted(*pairs: tuple[np.ndarray, np.ndarray]) -> BinaryConfusion:
    confusion = BinaryConfusion()
    for prediction, truth in pairs:
        confusion.update(prediction, truth)
    return confusion


@given(PREDICTIONS, TRUTHS)
def test_counts_agree_with_pixel_by_pixel(prediction, truth):
    expected = {"tp": 0, "fp": 0, "fn": 0, "tn": 0}
    for found, label in zip(prediction.ravel(), truth.ravel(), strict=True):
        if label != 255:
            expected[("t" if found == bool(label) else "f") + ("p" if found else "n")] += 1
    assert vars(counted((prediction, truth))) == expected


@given(PREDICTIONS | EMPTY.map(lambda picture: picture == 1), TRUTHS | EMPTY)
def test_metrics_agree_with_sets_of_pixels(prediction, truth):
    labelled = {pixel for pixel in np.ndindex(SHAPE) if truth[pixel] != 255}
    human = {pixel for pixel in labelled if truth[pixel] == 1}
    found = {pixel for pixel in labelled if prediction[pixel]}
    background, left = labelled - human, labelled - found

    def share(part, whole):
        return len(part) / len(whole) if whole else float(found == human)

    confusion = counted((prediction, truth))
    assert confusion.pixel_accuracy == share((human & found) | (background & left), labelled)
    assert confusion.iou_human == share(human & found, human | found)
    assert confusion.iou_background == share(background & left, background | left)
    assert confusion.mean_iou == (confusion.iou_human + confusion.iou_background) / 2
    assert confusion.precision == share(human & found, found)
    assert confusion.recall == share(human & found, human)
    sizes = len(human) + len(found)
    assert confusion.dice == (2 * len(human & found) / sizes if sizes else 1.0)


@given(PREDICTIONS, TRUTHS, PREDICTIONS)
def test_ignored_pixels_never_count(prediction, truth, noise):
    changed = np.where(truth == 255, noise, prediction)
    assert counted((changed, truth)) == counted((prediction, truth))


@given(PREDICTIONS, TRUTHS, PREDICTIONS, TRUTHS)
def test_counting_two_images_is_counting_one_twice_as_large(prediction, truth, prediction2, truth2):
    joined = counted((np.vstack([prediction, prediction2]), np.vstack([truth, truth2])))
    assert counted((prediction, truth), (prediction2, truth2)) == joined


@given(PREDICTIONS, TRUTHS, st.floats(0.1, 10))
def test_f_beta_lies_between_precision_and_recall_and_is_dice_at_one(prediction, truth, beta):
    confusion = counted((prediction, truth))
    assert confusion.f_beta(1) == pytest.approx(confusion.dice)
    if confusion.tp:
        low, high = sorted((confusion.precision, confusion.recall))
        assert low - 1e-9 <= confusion.f_beta(beta) <= high + 1e-9
        inverse = (1 / (1 + beta**2)) / confusion.precision + (beta**2 / (1 + beta**2)) / confusion.recall
        assert confusion.f_beta(beta) == pytest.approx(1 / inverse)


@given(TRUTHS)
def test_the_truth_itself_scores_one(truth):
    confusion = counted((truth == 1, truth))
    assert confusion.iou_human == confusion.mean_iou == confusion.recall == confusion.f_beta(2) == 1.0


def test_seeing_people_where_nobody_is_scores_zero_not_a_division_error():
    confusion = counted((np.ones(SHAPE, bool), np.zeros(SHAPE, np.uint8)))
    assert confusion.iou_human == confusion.precision == confusion.recall == confusion.f_beta(2) == 0.0


def test_shapes_must_agree():
    with pytest.raises(ValueError, match="differ in shape"):
        BinaryConfusion().update(np.ones((2, 2), bool), np.zeros((2, 3), np.uint8))
