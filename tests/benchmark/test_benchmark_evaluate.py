from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from privseg.benchmark.evaluate import evaluate, write_failed
from privseg.benchmark.speed import Timing
from privseg.errors import DataError, StorageError
from privseg.testing.tiny_dataset import make_tiny_dataset


@pytest.fixture(scope="module")
def evaluated(params, candidate_dir, tiny_dataset, tmp_path_factory):
    out = tmp_path_factory.mktemp("benchmark") / "efficientnet_lite0_fpn" / "result.json"
    stale = out.parent / "masks" / "99999.png"
    stale.parent.mkdir(parents=True)
    stale.write_bytes(b"of an earlier run")
    return out, evaluate(params, candidate_dir, *tiny_dataset, out)


def test_evaluate_writes_what_it_returns(evaluated, params):
    out, result = evaluated
    assert json.loads(out.read_text()) == result
    assert result["candidate"] == "efficientnet_lite0_fpn"
    assert (result["images"], result["people_images"]) == (7, 6)
    assert result["threshold"] == params.benchmark.threshold
    shares = {key: value for key, value in result["accuracy"].items() if isinstance(value, float) and key != "beta"}
    assert {"iou_human", "recall", "boundary_f"} <= set(shares)
    assert all(0 <= value <= 1 for value in shares.values())
    assert 2e6 < result["complexity"]["parameters"] < 6e6
    assert result["hardware"]["threads"] >= 1
    assert result["training"]["iterations"] == 3


def test_speed_is_the_timing_that_the_budget_is_for(evaluated, params):
    result = evaluated[1]
    speed = result["speed"]
    assert speed == result["measurements"][0]
    assert (speed["runtime"], speed["height"], speed["width"], speed["batch"]) == (
        params.select.latency_runtime,
        params.image.size,
        params.image.size,
        1,
    )
    assert {timing["runtime"] for timing in result["measurements"]} >= set(params.benchmark_profile.runtimes)
    assert 0 < speed["p50_ms"] <= speed["p95_ms"]
    assert speed["fps"] == pytest.approx(1000 / speed["p50_ms"])


def test_saved_masks_give_the_same_figures(evaluated, tiny_dataset):
    """Counted again with nothing but Pillow and NumPy."""
    out, result = evaluated
    manifest, root = tiny_dataset
    truths = pd.read_parquet(manifest).set_index("sample_id")["mask_path"]
    images = pd.read_parquet(out.with_name("images.parquet"))
    assert list(images.columns) == ["sample_id", "tp", "fp", "fn", "tn", "mask"]
    assert sorted(path.name for path in (out.parent / "masks").iterdir()) == sorted(images["mask"])
    intersection = union = correct = labelled = 0
    for row in images.itertuples():
        mask = Image.open(out.parent / "masks" / row.mask)
        assert mask.mode == "1", "a bit a pixel"
        found = np.asarray(mask)
        truth = np.asarray(Image.open(root / truths[row.sample_id]))
        known = truth != 255
        counted = [
            np.count_nonzero(known & (truth == expected) & (found == seen))
            for expected, seen in ((1, True), (0, True), (1, False), (0, False))
        ]
        assert counted == [row.tp, row.fp, row.fn, row.tn]
        intersection += counted[0]
        union += sum(counted[:3])
        correct += counted[0] + counted[3]
        labelled += sum(counted)
    assert intersection / union == pytest.approx(result["accuracy"]["iou_human"])
    assert correct / labelled == pytest.approx(result["accuracy"]["pixel_accuracy"])


def test_pictures_lie_beside_the_result(evaluated):
    found = {path.name for path in (evaluated[0].parent / "pictures").iterdir()}
    assert found == {f"{n}_{kind}.jpg" for n in range(1, 7) for kind in ("input", "truth", "predicted")}


def test_empty_test_split_is_bad_data_and_an_earlier_result_stays(params, candidate_dir, tmp_path):
    out = tmp_path / "result.json"
    out.write_text("the earlier one")
    with pytest.raises(DataError, match="no kept image in its test split"):
        evaluate(params, candidate_dir, *make_tiny_dataset(tmp_path, splits=("train",)), out)
    assert out.read_text() == "the earlier one"


def test_what_was_half_written_does_not_count(params, candidate_dir, tiny_dataset, tmp_path, monkeypatch):
    out = tmp_path / "result.json"
    out.write_text("the earlier one")

    def fail(path, data):
        raise StorageError(path, "no space left on the disk", "free space")

    monkeypatch.setattr("privseg.benchmark.evaluate.write_atomic", fail)
    timing = Timing("pytorch", "cpu", "float32", 96, 96, 1, 1, 3, 1.0, 1.0, 1000.0)
    monkeypatch.setattr("privseg.benchmark.evaluate.measure_speed", lambda *_: [timing])
    with pytest.raises(StorageError):
        evaluate(params, candidate_dir, *tiny_dataset, out)
    assert not out.exists()


def test_a_failed_candidate_says_why_and_has_nothing_else(tmp_path):
    out = tmp_path / "broken" / "result.json"
    for stale in (out, out.with_name("images.parquet"), out.parent / "masks" / "00000.png"):
        stale.parent.mkdir(parents=True, exist_ok=True)
        stale.write_text("of an earlier run")
    write_failed(out, "broken", "loss is not a number")
    assert json.loads(out.read_text()) == {"candidate": "broken", "failed": "loss is not a number"}
    assert [path.name for path in out.parent.iterdir()] == ["result.json"]
