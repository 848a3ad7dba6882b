from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from privseg.benchmark.bootstrap import f_beta
from privseg.benchmark.challenge import challenge
from privseg.benchmark.champion import write_champion
from privseg.errors import DataError

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

    def decide(ours, theirs, *, checkpoint=None, identity=None, candidates=1, **options):
        folder, images = tmp_path / "champion", tmp_path / "stdc1" / "images.parquet"
        accuracy = {"iou_human": 0.5, "precision": 0.5, "recall": 0.5}
        figures = {"accuracy": accuracy, "speed": {"p50_ms": 50.0, "runtime": "onnxruntime"}}
        write_champion(folder, {"version": 3, "sha256": "s3"} | figures | (identity or {}))
        theirs.to_parquet(folder / "images.parquet")
        images.parent.mkdir(exist_ok=True)
        ours.to_parquet(images)
        chosen = rules(params, **options)
        return challenge(chosen, images, folder, candidates=candidates, checkpoint_sha256=checkpoint)

    return decide


def test_without_a_model_that_serves_the_winner_is_promoted(params, tmp_path):
    write_champion(tmp_path, {"version": None})
    for champion in (None, tmp_path):
        found = challenge(params, tmp_path / "none.parquet", champion, candidates=1)
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
        == "the winner is better than version 3 in 100% of 2000 resamples of the test pictures, by 0.2617"
    )
    assert worse["reason"].endswith("in 0% of 2000 resamples of the test pictures; 95% is asked")
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


def equals(generator, people):
    """Pixels of a model that is as good as any other this gives."""
    found = (people * generator.beta(16, 4, len(people))).astype(int)
    return counts(found, generator.gamma(1, 200, len(people)).astype(int), people - found, pictures=len(people))


def test_the_best_of_many_that_are_no_better_is_not_promoted_by_luck(meet):
    generator, found, trials = np.random.default_rng(5), [], 40
    for _ in range(trials):
        people = generator.gamma(2, 2000, 40).astype(int)
        champion, *candidates = (equals(generator, people) for _ in range(21))
        best = max(candidates, key=lambda table: f_beta(table[["tp", "fp", "fn"]].sum().to_numpy(float), 2.0))
        found.append(meet(best, champion, candidates=20))
    # chosen as the best on these pictures, they often win what is asked of one model
    assert sum(one["bootstrap"]["wins"] >= 0.95 for one in found) > 0.25 * trials
    assert sum(one["outcome"] == "promote" for one in found) <= 0.1 * trials


def test_the_best_of_several_must_win_more(meet):
    theirs = counts(np.full(PICTURES, 90), 10, 10)
    ours = theirs.copy()
    ours.loc[:3, "tp"] += 4
    ours.loc[:3, "fn"] -= 4
    wins = meet(ours, theirs)["bootstrap"]["wins"]
    assert 0.98 < wins < 0.9975
    assert meet(ours, theirs)["outcome"] == "promote"
    found = meet(ours, theirs, candidates=20)
    assert found["outcome"] == "keep"
    assert found["bootstrap"]["samples"] == 4000  # ten of them in the quarter per cent
    assert found["reason"].endswith("of 4000 resamples of the test pictures; 99.75% is asked of the best of 20")


def test_a_champion_slower_than_the_budget_is_named_and_stays(meet):
    good, poor = counts(90, 10, 10), counts(60, 10, 40)
    slow = {"speed": {"p50_ms": 1234.0, "runtime": "onnxruntime"}}
    said = "; version 3 itself needs 1234 ms in onnxruntime, more than the 400 ms that a candidate may"
    for ours, theirs, outcome in ((poor, good, "keep"), (good, poor, "promote"), (good, good, "keep")):
        found = meet(ours, theirs, identity=slow, max_latency_ms=400.0)
        assert found["outcome"] == outcome
        assert found["reason"].endswith(said)
        assert {"p50_ms": 1234.0, "runtime": "onnxruntime", "within_budget": False}.items() <= found["champion"].items()
    fast = meet(poor, good, max_latency_ms=400.0)
    assert fast["champion"]["within_budget"]
    assert "itself needs" not in fast["reason"]


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
    with pytest.raises(DataError, match="counts other pictures than the champion") as caught:
        meet(ours, counts(50, 0, 5, start=1))
    again = "in the workspace: dvc repro --force --single-item champion evaluate@stdc1"
    assert caught.value.next_step == again  # and nothing is trained again


def test_a_champion_that_cannot_be_used_is_replaced(meet):
    found = meet(counts(1, 99, 99), counts(90, 10, 10), identity={"fault": "model.onnx: is gone"})
    assert found["outcome"] == "promote"
    assert found["reason"] == "version 3, which serves, cannot be used: model.onnx: is gone"
    assert found["champion"]["fault"] == "model.onnx: is gone"


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"version": 3}', '{"version": 3, "accuracy": {"iou_human": "?"}}'])
def test_a_broken_measurement_is_named(params, tmp_path, text):
    (tmp_path / "result.json").write_text(text)
    with pytest.raises(DataError, match=r"result\.json: is not a measurement of a champion"):
        challenge(params, tmp_path / "images.parquet", tmp_path, candidates=1)


def test_counts_that_are_missing_or_broken_are_named(params, meet, tmp_path):
    good = counts(90, 10, 10)
    for broken in (good.drop(columns="fn"), good.iloc[:0], pd.concat([good, good])):
        with pytest.raises(DataError, match=r"images\.parquet: (does not hold pixels|counts no picture)"):
            meet(broken, good)
    ours, theirs = tmp_path / "stdc1" / "images.parquet", tmp_path / "champion" / "images.parquet"
    for broken, stage in ((ours, "evaluate@stdc1"), (theirs, "champion")):
        good.to_parquet(ours)
        for content, fault in ((b"no table", "does not hold pixels by picture"), (None, "does not exist")):
            broken.unlink(missing_ok=True)
            if content is not None:
                broken.write_bytes(content)
            with pytest.raises(DataError, match=rf"images\.parquet: {fault}") as caught:
                challenge(params, ours, tmp_path / "champion", candidates=1)
            assert caught.value.next_step == f"in the workspace: dvc repro --force --single-item {stage}"
