from __future__ import annotations

import json

import cv2
import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from privseg.benchmark.accuracy import evenly_spaced, measure_accuracy, read_sample
from privseg.benchmark.complexity import measure_complexity
from privseg.benchmark.evaluate import evaluate, overlay
from privseg.benchmark.speed import measure_latency
from privseg.errors import DataError
from privseg.testing.tiny_dataset import make_tiny_dataset
from privseg.training.data import split_rows


class Oracle(torch.nn.Module):
    """Sees exactly what is bright: the drawn people of the tiny dataset."""

    candidate = "oracle"

    def forward(self, image):
        return (image.float().mean(-1) > 120).to(torch.uint8) * 255


class OneConvolution(torch.nn.Module):
    candidate = "one"

    def __init__(self):
        super().__init__()
        self.layer = torch.nn.Conv2d(3, 5, 3, padding=1)
        self.calls = 0

    def forward(self, image):
        self.calls += 1
        return self.layer(image.permute(0, 3, 1, 2).float()).sum(1).to(torch.uint8)


def test_evaluate_writes_what_it_returns(params, candidate_dir, tiny_dataset, tmp_path, capsys):
    out = tmp_path / "efficientnet_lite0_fpn" / "result.json"
    result = evaluate(params, candidate_dir, *tiny_dataset, out)
    assert json.loads(out.read_text()) == result
    assert result["candidate"] == "efficientnet_lite0_fpn"
    assert (result["images"], result["people_images"]) == (7, 6)
    assert result["threshold"] == params.benchmark.threshold
    assert all(0 <= value <= 1 for key, value in result["accuracy"].items() if key != "beta")
    assert 0 < result["speed"]["p50_ms"] <= result["speed"]["p95_ms"]
    assert result["speed"]["fps"] == pytest.approx(1000 / result["speed"]["p50_ms"])
    assert 2e6 < result["complexity"]["parameters"] < 6e6
    assert result["hardware"]["threads"] >= 1
    assert "evaluate efficientnet_lite0_fpn: 7/7 images" in capsys.readouterr().err
    names = {f"{n}_{kind}.jpg" for n in range(1, 5) for kind in ("input", "truth", "predicted")}
    assert {path.name for path in (out.parent / "result").iterdir()} == names


def test_accuracy_of_a_perfect_model_is_one_and_threshold_counts(tiny_dataset):
    manifest, root = tiny_dataset
    rows = split_rows(manifest, root, "test")
    perfect = measure_accuracy(Oracle(), rows, root, 0.5)
    assert perfect.iou_human == perfect.recall == 1.0
    labelled = sum(int((read_sample(root, r.image_path, r.mask_path)[1] != 255).sum()) for r in rows.itertuples())
    assert perfect.tp + perfect.tn == labelled
    everything = measure_accuracy(Oracle(), rows, root, 0.0)
    assert everything.recall == 1.0
    assert everything.tn == 0


def test_empty_test_split_is_bad_data(params, candidate_dir, tmp_path):
    with pytest.raises(DataError, match="no kept image in its test split"):
        evaluate(params, candidate_dir, *make_tiny_dataset(tmp_path, splits=("train",)), tmp_path / "result.json")
    assert not (tmp_path / "result.json").exists()


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
        measure_accuracy(Oracle(), split_rows(manifest, root, "test"), root, 0.5)


@given(st.integers(1, 300), st.integers(1, 300))
def test_evenly_spaced_takes_distinct_rows_in_order_over_the_whole_table(count, limit):
    taken = list(evenly_spaced(pd.DataFrame({"n": range(count)}), limit)["n"])
    assert len(taken) == min(count, limit)
    assert taken == sorted(set(taken))
    gaps = np.diff([*taken, count])
    assert gaps.max() - gaps.min() <= 1


def test_complexity_counts_two_operations_a_multiply_accumulate():
    found = measure_complexity(OneConvolution(), 64)
    assert found.parameters == 3 * 5 * 9 + 5
    assert found.flops == 2 * (3 * 9) * 5 * 64 * 64


def test_latency_times_the_runs_after_the_warm_up():
    model = OneConvolution()
    found = measure_latency(model, 64, warm_up_runs=2, timed_runs=5)
    assert model.calls == 7
    assert (found.runs, found.size, found.runtime) == (5, 64, "pytorch")
    assert 0 < found.p50_ms <= found.p95_ms


def test_overlay_tints_people_only():
    image = np.full((4, 4, 3), 100, np.uint8)
    human = np.zeros((4, 4), bool)
    human[0, 0] = True
    tinted = overlay(image, human)
    assert tinted[0, 0].tolist() == [193, 98, 40]
    assert (tinted[~human] == 100).all()
