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


@given(PREDICTIONS, TRUTHS)
def test_metrics_agree_with_sets_of_pixels(prediction, truth):
    confusion = counted((prediction, truth))
    found = {i for i in range(truth.size) if prediction.flat[i] and truth.flat[i] != 255}
    human = {i for i in range(truth.size) if truth.flat[i] == 1}
    if found | human:
        assert confusion.iou_human == pytest.approx(len(found & human) / len(found | human))
        assert confusion.dice == pytest.approx(2 * len(found & human) / (len(found) + len(human)))
    if found:
        assert confusion.precision == pytest.approx(len(found & human) / len(found))
    if human:
        assert confusion.recall == pytest.approx(len(found & human) / len(human))
    if (labelled := int((truth != 255).sum())) > 0:
        assert confusion.pixel_accuracy == pytest.approx(1 - len(found ^ human) / labelled)


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
