from __future__ import annotations

import json

import pandas as pd
import pytest

from privseg.benchmark.challenge import write_champion
from privseg.benchmark.select import select
from privseg.errors import DataError, GateFailedError, UsageError


def rules(params, **options):
    return params.model_copy(update={"select": params.select.model_copy(update=options)})


def test_recall_outweighs_precision(params, write_result, tmp_path):
    results = [write_result("careful", precision=0.6, recall=0.95), write_result("strict", precision=0.95, recall=0.6)]
    selection = select(rules(params, beta=2.0), results, tmp_path / "selection.json")
    assert selection["winner"] == "careful"
    assert json.loads((tmp_path / "selection.json").read_text()) == selection
    assert select(rules(params, beta=0.5), results, tmp_path / "selection.json")["winner"] == "strict"


def test_too_slow_cannot_win_and_every_candidate_has_its_reason(params, write_result, tmp_path):
    results = [
        write_result("slow", recall=0.99, p50_ms=500),
        write_result("good", recall=0.9),
        write_result("poor", recall=0.5),
    ]
    selection = select(rules(params, max_latency_ms=400.0), results, tmp_path / "selection.json")
    assert selection["winner"] == "good"
    rows = {row["candidate"]: row for row in selection["candidates"]}
    assert rows["slow"]["reason"] == "too slow: 500 ms of 400 ms"
    assert not rows["slow"]["accepted"]
    assert rows["good"]["reason"] == "highest score within 400 ms"
    assert rows["poor"]["reason"] == "within the budget, but scores less than good"
    assert [row["candidate"] for row in selection["candidates"]] == ["slow", "good", "poor"]


def test_budget_includes_its_bound(params, write_result, tmp_path):
    chosen = select(rules(params, max_latency_ms=400.0), [write_result("edge", p50_ms=400.0)], tmp_path / "s.json")
    assert chosen["winner"] == "edge"


def test_equal_scores_go_to_the_faster(params, write_result, tmp_path):
    results = [write_result("slower", p50_ms=90), write_result("faster", p50_ms=80)]
    assert select(params, results, tmp_path / "selection.json")["winner"] == "faster"


@pytest.mark.parametrize(
    ("options", "fault"),
    [
        ({"max_latency_ms": 50.0}, "no candidate is within 50 ms; only needs 100"),
        ({"min_iou": 0.9}, r"candidate only: is the best, but its human IoU 0\.667 is below 0\.9"),
    ],
)
def test_refusal_leaves_the_last_selection_alone(params, write_result, tmp_path, options, fault):
    out = tmp_path / "selection.json"
    out.write_text("the last one")
    with pytest.raises(GateFailedError, match=fault):
        select(rules(params, **options), [write_result("only")], out)
    assert out.read_text() == "the last one"


def test_same_candidate_twice_and_none_at_all(params, write_result, tmp_path):
    path = write_result("one")
    with pytest.raises(UsageError, match="got one more than once"):
        select(params, [path, path], tmp_path / "selection.json")
    with pytest.raises(UsageError, match="no benchmark result"):
        select(params, [], tmp_path / "selection.json")


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"accuracy": {"iou_human": "high"}}'])
def test_broken_result_is_named(params, tmp_path, text):
    path = tmp_path / "result.json"
    path.write_text(text)
    with pytest.raises(DataError, match=r"result\.json: is not a benchmark result"):
        select(params, [path], tmp_path / "selection.json")


def test_candidate_that_finds_nobody_scores_zero(params, write_result, tmp_path):
    path = write_result("blind")
    result = json.loads(path.read_text())
    result["accuracy"] |= {"precision": 0.0, "recall": 0.0, "iou_human": 0.0}
    path.write_text(json.dumps(result))
    selection = select(rules(params, min_iou=0.0), [path], tmp_path / "selection.json")
    assert selection["candidates"][0]["score"] == 0.0


def fail(path, reason="candidate x: diverged"):
    path.write_text(json.dumps({"candidate": path.parent.name, "failed": reason}))
    return path


def test_failed_candidate_is_reported_and_does_not_stop_the_rest(params, write_result, tmp_path):
    results = [write_result("one"), fail(write_result("broken")), write_result("two", recall=0.9)]
    selection = select(params, results, tmp_path / "selection.json")
    assert selection["winner"] == "two"
    assert selection["failed"] == [{"candidate": "broken", "reason": "candidate x: diverged"}]
    assert {row["candidate"] for row in selection["candidates"]} == {"one", "two"}


def test_too_few_survivors_fail_the_run(params, write_result, tmp_path):
    out = tmp_path / "selection.json"
    results = [write_result("one"), fail(write_result("bad")), fail(write_result("worse"), "candidate y: no memory")]
    with pytest.raises(GateFailedError, match=r"1 of 3 candidates .* 2 are needed \(bad: .* diverged; worse: .*memory"):
        select(params, results, out)
    assert not out.exists()
    assert select(rules(params, min_survivors=1), results, out)["winner"] == "one"


def test_a_run_of_one_candidate_needs_only_that(params, write_result, tmp_path):
    assert select(params, [write_result("only")], tmp_path / "s.json")["winner"] == "only"
    with pytest.raises(GateFailedError, match="0 of 1 candidates"):
        select(params, [fail(write_result("gone"))], tmp_path / "s.json")


def test_the_budget_holds_for_the_runtime_and_size_that_count(params, write_result, tmp_path):
    path = write_result("served", p50_ms=500)
    shape = {"device": "cpu", "height": 96, "width": 96, "batch": 1, "p95_ms": 1.0, "fps": 1.0, "runs": 3}
    timings = [
        shape | {"runtime": "pytorch", "p50_ms": 500.0},
        shape | {"runtime": "onnxruntime", "width": 192, "p50_ms": 80.0},
        shape | {"runtime": "onnxruntime", "batch": 4, "p50_ms": 100.0},
        shape | {"runtime": "onnxruntime", "p50_ms": 40.0},
    ]
    path.write_text(json.dumps(json.loads(path.read_text()) | {"measurements": timings}))
    served = rules(params, max_latency_ms=50.0, latency_runtime="onnxruntime")
    assert select(served, [path], tmp_path / "s.json")["candidates"][0]["p50_ms"] == 40.0
    for runtime in ("pytorch", "openvino"):  # the latter was not measured: the result's own figure counts
        with pytest.raises(GateFailedError, match="needs 500"):
            select(rules(params, max_latency_ms=50.0, latency_runtime=runtime), [path], tmp_path / "s.json")


def test_the_winner_meets_the_model_that_serves(params, write_result, tmp_path):
    results = [write_result("weak", recall=0.5), write_result("strong")]
    pixels = {"weak": [10, 0, 90], "strong": [90, 0, 10], "champion": [50, 0, 50]}
    for name, (tp, fp, fn) in pixels.items():
        (tmp_path / name).mkdir(exist_ok=True)
        table = {"sample_id": [f"s/{n}" for n in range(8)], "tp": tp, "fp": fp, "fn": fn, "tn": 0}
        pd.DataFrame(table).to_parquet(tmp_path / name / "images.parquet")
    accuracy = {"iou_human": 0.5, "precision": 1.0, "recall": 0.5}
    write_champion(tmp_path / "champion", {"version": 4, "accuracy": accuracy, "checkpoint_sha256": "c0ffee"})
    meet = {"out_file": tmp_path / "selection.json", "champion": tmp_path / "champion"}
    won = select(params, results, **meet)
    assert (won["winner"], won["outcome"], won["champion"]["version"]) == ("strong", "promote", 4)
    assert json.loads((tmp_path / "selection.json").read_text()) == won
    assert select(params, results[:1], **meet)["outcome"] == "keep"
    assert select(params, results, checkpoints={"strong": "c0ffee", "weak": "1"}, **meet)["outcome"] == "keep"
