from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest

from privseg.benchmark.challenge import challenge, measure_champion, onnx_predictor, write_champion
from privseg.errors import DataError, GateFailedError
from privseg.testing.triton import make_person_model

PICTURES = 12


def rules(params, **options):
    return params.model_copy(update={"select": params.select.model_copy(update=options)})


def counts(tp, fp, fn, *, pictures=PICTURES, start=0):
    names = [f"tiny/{index:03d}" for index in range(start, start + pictures)]
    columns = {name: np.broadcast_to(value, pictures) for name, value in (("tp", tp), ("fp", fp), ("fn", fn))}
    return pd.DataFrame({"sample_id": names, **columns, "tn": 10})


@pytest.fixture
def meet(params, tmp_path):
    """Let a challenger meet a champion, both by their counts; None: no champion."""

    def decide(ours, theirs, *, checkpoint=None, identity=None, **options):
        folder = tmp_path / "champion"
        accuracy = {"iou_human": 0.5, "precision": 0.5, "recall": 0.5}
        write_champion(folder, {"version": 3, "sha256": "s3", "accuracy": accuracy} | (identity or {}))
        theirs.to_parquet(folder / "images.parquet")
        ours.to_parquet(tmp_path / "images.parquet")
        return challenge(rules(params, **options), tmp_path / "images.parquet", folder, checkpoint_sha256=checkpoint)

    return decide


def test_without_a_model_that_serves_the_winner_is_promoted(params, tmp_path):
    write_champion(tmp_path, {"version": None})
    for champion in (None, tmp_path):
        found = challenge(params, tmp_path / "none.parquet", champion)
        assert found == {
            "outcome": "promote",
            "reason": "no model serves yet",
            "champion": None,
            "bootstrap": None,
        }


def test_a_better_challenger_is_promoted_and_a_worse_one_refused(meet):
    good, poor = counts(90, 10, 10), counts(60, 10, 40)
    better, worse = meet(good, poor), meet(poor, good)
    assert (better["outcome"], worse["outcome"]) == ("promote", "keep")
    assert better["bootstrap"]["wins"] == 1
    assert worse["bootstrap"]["wins"] == 0
    assert better["bootstrap"]["mean_difference"] == -worse["bootstrap"]["mean_difference"] > 0
    assert (
        better["reason"]
        == "the winner is better than version 3 in 100.0% of 2000 resamples of the test pictures, by 0.2617"
    )
    assert worse["reason"].endswith("in 0.0% of 2000 resamples of the test pictures; 95.0% is asked")
    assert worse["champion"]["score"] == pytest.approx(5 * 90 / (5 * 90 + 4 * 10 + 10))
    assert {"version": 3, "sha256": "s3", "recall": 0.5}.items() <= worse["champion"].items()


def test_a_tie_keeps_what_serves(meet):
    same = counts(90, 10, 10)
    found = meet(same, same.copy())
    assert found["outcome"] == "keep"
    assert found["bootstrap"]["wins"] == 0


def test_better_by_luck_is_not_better(meet):
    theirs = counts(np.full(PICTURES, 90), 10, 10)
    ours = theirs.copy()
    ours.loc[0, ["tp", "fn"]] = [100, 0]
    assert meet(ours, theirs)["outcome"] == "keep"  # the resamples without that picture are ties
    assert meet(ours, theirs)["bootstrap"]["difference"] > 0
    assert meet(ours, theirs, confidence=0.51)["outcome"] == "promote"


def test_a_gain_may_be_asked(meet):
    ours, theirs = counts(91, 10, 9), counts(90, 10, 10)
    assert meet(ours, theirs, min_gain=0.005)["outcome"] == "promote"
    found = meet(ours, theirs, min_gain=0.02)
    assert found["outcome"] == "keep"
    assert found["reason"].endswith("0.02 is asked")


def test_the_same_weights_never_replace_themselves(meet):
    good, poor = counts(90, 10, 10), counts(60, 10, 40)
    found = meet(good, poor, checkpoint="c0ffee", identity={"checkpoint_sha256": "c0ffee"})
    assert (found["outcome"], found["reason"]) == ("keep", "the winner is the model that serves as version 3")
    assert meet(good, poor, checkpoint="c0ffee", identity={"checkpoint_sha256": None})["outcome"] == "promote"


def test_pictures_are_matched_by_name(meet):
    ours = counts(np.arange(50, 50 + PICTURES), 0, 5)
    found = meet(ours.iloc[::-1], ours)
    assert found["bootstrap"]["interval"] == [0, 0]
    with pytest.raises(DataError, match="counts other pictures than the champion"):
        meet(ours, counts(50, 0, 5, start=1))


def test_a_champion_that_cannot_be_used_is_replaced(meet):
    found = meet(counts(1, 99, 99), counts(90, 10, 10), identity={"fault": "model.onnx: is gone"})
    assert found["outcome"] == "promote"
    assert found["reason"] == "version 3, which serves, cannot be used: model.onnx: is gone"
    assert found["champion"]["fault"] == "model.onnx: is gone"


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"version": 3}', '{"version": 3, "accuracy": {"iou_human": "?"}}'])
def test_a_broken_measurement_is_named(params, tmp_path, text):
    (tmp_path / "result.json").write_text(text)
    with pytest.raises(DataError, match=r"result\.json: is not a measurement of a champion"):
        challenge(params, tmp_path / "images.parquet", tmp_path)


def test_counts_that_are_missing_or_broken_are_named(params, meet, tmp_path):
    good = counts(90, 10, 10)
    for broken in (good.drop(columns="fn"), good.iloc[:0], pd.concat([good, good])):
        with pytest.raises(DataError, match=r"images\.parquet: (does not hold pixels|counts no picture)"):
            meet(broken, good)
    for content, fault in ((b"no table", "does not hold pixels by picture"), (None, "does not exist")):
        (tmp_path / "images.parquet").unlink(missing_ok=True)
        if content is not None:
            (tmp_path / "images.parquet").write_bytes(content)
        with pytest.raises(DataError, match=rf"images\.parquet: {fault}"):
            challenge(params, tmp_path / "images.parquet", tmp_path / "champion")


def test_the_champion_is_measured_on_the_candidates_pictures(params, tiny_dataset, tmp_path):
    # the drawn people are bright, so `bright` finds them all and nothing else, and `inverse` the contrary
    made = {}
    for kind in ("bright", "inverse"):
        artifact = make_person_model(tmp_path / kind, kind=kind)
        out = tmp_path / f"champion_{kind}"
        made[kind] = measure_champion(
            params, {"version": 7, "sha256": artifact.sha256}, artifact.onnx, *tiny_dataset, out
        )
        assert json.loads((out / "result.json").read_text()) == made[kind]
    assert made["bright"]["accuracy"]["iou_human"] == 1
    assert made["inverse"]["accuracy"]["recall"] == 0
    assert (made["bright"]["version"], made["bright"]["images"]) == (7, 7)
    pixels = pd.read_parquet(tmp_path / "champion_bright" / "images.parquet")
    assert list(pixels.columns) == ["sample_id", "tp", "fp", "fn", "tn"]
    assert pixels["sample_id"].is_unique
    found = challenge(params, tmp_path / "champion_bright" / "images.parquet", tmp_path / "champion_inverse")
    assert found["outcome"] == "promote"
    assert found["champion"]["score"] == 0


def test_a_model_that_does_not_run_is_refused(tmp_path):
    with pytest.raises(GateFailedError, match="ONNX Runtime refuses it"):
        onnx_predictor(make_person_model(tmp_path / "garbage", kind="garbage").onnx)
    predict = onnx_predictor(make_person_model(tmp_path / "bright", kind="bright").onnx)
    with pytest.raises(GateFailedError):
        predict(np.zeros((32, 32), np.uint8))
