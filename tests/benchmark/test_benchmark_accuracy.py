from __future__ import annotations

import json

import cv2
import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from privseg.benchmark.accuracy import (
    accuracy_figures,
    evenly_spaced,
    measure_accuracy,
    read_sample,
    torch_predictor,
)
from privseg.errors import DataError
from privseg.testing.tiny_dataset import make_tiny_dataset
from privseg.training.data import split_rows


def oracle(image):
    """See exactly what is bright: the drawn people of the tiny dataset."""
    return (image.mean(-1) > 120).astype(np.uint8) * 255


def blind(image):
    return np.ones(image.shape[:2], np.uint8)


def half_blind(image):
    """See only the right half of every picture."""
    seen = oracle(image)
    seen[:, : image.shape[1] // 2] = 1
    return seen


class Module(torch.nn.Module):
    def forward(self, images):
        return images.float().mean(-1).to(torch.uint8)


@pytest.fixture(scope="module")
def samples(tiny_dataset):
    """The rows of the test split and their folder."""
    manifest, root = tiny_dataset
    return split_rows(manifest, root, "test"), root


def test_accuracy_of_a_perfect_model_is_one_and_threshold_counts(samples):
    rows, root = samples
    perfect = measure_accuracy(oracle, rows, root, 0.5, label="test")
    figures = accuracy_figures(perfect, 2.0)
    shares = ("iou_human", "iou_background", "mean_iou", "dice", "pixel_accuracy", "precision", "recall", "f_beta")
    assert {figures[name] for name in (*shares, "boundary_f")} == {1.0}
    labelled = sum(int((read_sample(root, r.image_path, r.mask_path)[1] != 255).sum()) for r in rows.itertuples())
    assert perfect.confusion.tp + perfect.confusion.tn == labelled
    everything = measure_accuracy(oracle, rows, root, 0.0, label="test").confusion
    assert everything.recall == 1.0
    assert everything.tn == 0


def test_counts_agree_with_an_independent_recomputation_from_the_masks_handed_on(samples, tmp_path):
    rows, root = samples

    def save(index, image, truth, prediction):
        assert image.shape == (*truth.shape, 3)
        np.save(tmp_path / f"{index}.npy", prediction)

    accuracy = measure_accuracy(half_blind, rows, root, 0.5, save, label="test")
    totals = {"tp": 0, "fp": 0, "fn": 0, "tn": 0}
    for index, row in enumerate(rows.itertuples()):
        truth = cv2.imread(str(root / row.mask_path), cv2.IMREAD_UNCHANGED)
        prediction = np.load(tmp_path / f"{index}.npy")
        expected = {
            "tp": int((prediction & (truth == 1)).sum()),
            "fp": int((prediction & (truth == 0)).sum()),
            "fn": int((~prediction & (truth == 1)).sum()),
            "tn": int((~prediction & (truth == 0)).sum()),
        }
        assert accuracy.per_image.iloc[index].to_dict() == {"sample_id": row.sample_id, **expected}
        totals = {name: totals[name] + expected[name] for name in totals}
    assert len(accuracy.per_image) == len(rows)
    assert vars(accuracy.confusion) == totals
    assert 0 < accuracy_figures(accuracy, 2.0)["iou_human"] < 1


def test_saved_masks_are_measured_like_a_model(samples):
    rows, root = samples
    masks = iter([oracle(read_sample(root, row.image_path, row.mask_path)[0]) for row in rows.itertuples()])
    from_masks = measure_accuracy(lambda image: next(masks), rows, root, 0.5, label="test")
    from_model = measure_accuracy(oracle, rows, root, 0.5, label="test")
    assert from_masks.per_image.equals(from_model.per_image)
    assert accuracy_figures(from_masks, 1.0) == accuracy_figures(from_model, 1.0)


def test_people_are_counted_by_height(samples):
    rows, root = samples  # with six drawn figures, 49 pixels tall or, where padding cuts them off, less
    found = accuracy_figures(measure_accuracy(oracle, rows, root, 0.5, label="test"), 2.0)
    missed = accuracy_figures(measure_accuracy(blind, rows, root, 0.5, label="test"), 2.0)
    assert found["person_miss_rate"] == {
        "all": {"people": 6, "missed": 0, "rate": 0.0},
        "small": {"people": 0, "missed": 0, "rate": None},
        "medium": {"people": 6, "missed": 0, "rate": 0.0},
        "large": {"people": 0, "missed": 0, "rate": None},
    }
    assert found["recall_by_height"] == {"small": None, "medium": 1.0, "large": None}
    assert missed["person_miss_rate"]["all"] == {"people": 6, "missed": 6, "rate": 1.0}
    assert missed["recall_by_height"]["medium"] == missed["boundary_f"] == 0.0
    assert found["person_height_buckets"] == {"small_below": 32, "large_above": 96}


def test_figures_are_plain_data(samples):
    rows, root = samples
    figures = accuracy_figures(measure_accuracy(half_blind, rows, root, 0.5, label="test"), 2.0)
    assert json.loads(json.dumps(figures)) == figures


def test_torch_predictor_hands_over_one_picture_at_a_time():
    image = np.random.default_rng(0).integers(0, 256, (64, 32, 3), dtype=np.uint8)
    probability = torch_predictor(Module())(image)
    assert probability.dtype == np.uint8
    assert np.array_equal(probability, Module()(torch.from_numpy(image)[None])[0].numpy())


def test_progress_names_what_is_measured(samples, capsys):
    rows, root = samples
    measure_accuracy(blind, rows, root, 0.5, label="evaluate champion 3")
    assert capsys.readouterr().err == f"evaluate champion 3: {len(rows)}/{len(rows)} images, 0 s left\n"


@pytest.mark.parametrize(
    ("predict", "fault"),
    [
        (lambda image: oracle(image) / np.float32(255), "type float32, not uint8"),
        (lambda image: oracle(image)[:-1], "differ in shape"),
    ],
)
def test_predictions_of_another_kind_are_refused(samples, predict, fault):
    rows, root = samples
    with pytest.raises(ValueError, match=fault):
        measure_accuracy(predict, rows, root, 0.5, label="test")


@pytest.mark.parametrize(
    ("mask", "fault"),
    [
        (np.zeros((96, 64), np.uint8), r"has shape \(96, 64\)"),
        (np.zeros((96, 96, 3), np.uint8), r"has shape \(96, 96, 3\)"),
        (None, "cannot be read"),
    ],
)
def test_unfit_mask_is_named(tmp_path, mask, fault):
    manifest, root = make_tiny_dataset(tmp_path, splits=("test",))
    path = root / "test_000_mask.png"
    if mask is None:
        path.write_bytes(b"no picture")
    else:
        cv2.imwrite(str(path), mask)
    with pytest.raises(DataError, match=rf"test_000_mask\.png: {fault}"):
        measure_accuracy(oracle, split_rows(manifest, root, "test"), root, 0.5, label="test")


@given(st.integers(1, 300), st.integers(1, 300))
def test_evenly_spaced_takes_distinct_rows_in_order_over_the_whole_table(count, limit):
    taken = list(evenly_spaced(pd.DataFrame({"n": range(count)}), limit)["n"])
    assert len(taken) == min(count, limit)
    assert taken == sorted(set(taken))
    gaps = np.diff([*taken, count])
    assert gaps.max() - gaps.min() <= 1
