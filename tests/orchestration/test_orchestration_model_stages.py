"""The stages from training on, called as DVC calls them: failed candidates, champion and challenger, refusals."""

from __future__ import annotations

import errno
import json
import os
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from privseg import stages, workspace
from privseg.benchmark import evaluate as measuring
from privseg.errors import DataError, GateFailedError, StorageError
from privseg.serving.artifact import MODEL_NAME, read_artifact
from privseg.stage_files import write_json
from privseg.testing.tiny_dataset import make_tiny_dataset
from privseg.testing.triton import Kind, make_person_model
from privseg.training import train as training

BROKEN, GOOD = "stdc1", "efficientnet_lite0_fpn"
LOCKED = {"path": f"models/{GOOD}", "md5": "0f.dir"}
OVERRIDES = {
    "candidates": f"[{BROKEN}, {GOOD}]",
    "image.size": "96",
    "benchmark.threshold": "0.25",  # hardly trained, a candidate is hardly sure of anybody
    "train.smoke": "{seconds: 600, max_iterations: 3, batch_size: 2, crop: 64, learning_rate: 0.003}",
    "benchmark.smoke": "{max_test_images: 8, timed_runs: 3, warm_up_runs: 0, shapes: [[96, 96]]}",
    "select": "{max_latency_ms: 60000, min_survivors: 1}",
    "export.smoke": "{calibration_pictures: 3, parity_pictures: 2}",
    "export.parity_triton": "false",  # tests/serving has a real one in the comparison
}


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A workspace with one candidate that diverged and one that was trained and measured."""
    root = workspace.prepare(tmp_path_factory.mktemp("models") / "home", overrides=OVERRIDES).path
    manifest, pictures = make_tiny_dataset(root / "drawn", splits=("train",) * 8 + ("test",) * 8)
    (root / "data").mkdir()
    shutil.copy(manifest, root / "data/manifest.parquet")
    shutil.copytree(pictures, root / "data/ingested")
    (root / "data/validated.json").write_text('{"dataset_version": "ds-drawn"}')
    real = training.train

    def train(params: Any, candidate: str, *places: Path) -> Any:
        if candidate == BROKEN:
            raise GateFailedError(f"candidate {candidate}", "diverged: the loss is nan", "lower learning_rate")
        return real(params, candidate, *places)

    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(root)
        patch.setattr(training, "train", train)
        for step in ("train", "evaluate"):
            for candidate in (BROKEN, GOOD):
                stages.run_stage(step, candidate)
    return root


@pytest.fixture
def root(trained: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The workspace, as the current folder, before anything was decided."""
    monkeypatch.chdir(trained)
    for leftover in (trained / "reports/selection.json", trained.parent / "out/decisions.jsonl"):
        leftover.unlink(missing_ok=True)
    return trained


def set_parameter(root: Path, section: str, name: str, value: float | dict[str, float]) -> None:
    values = yaml.safe_load((root / "params.yaml").read_text())
    values[section][name] = value
    (root / "params.yaml").write_text(yaml.safe_dump(values))


def meet(root: Path, champion: Kind | None, folder: Path) -> dict[str, Any]:
    """Let the candidates meet a model that serves; return the selection."""
    if champion:
        make_person_model(folder / "repository" / MODEL_NAME / "1", kind=champion)
    workspace.take_champion(root, folder / "repository", None)
    stages.run_stage("champion", None)
    stages.run_stage("select", None)
    selection: dict[str, Any] = json.loads((root / "reports/selection.json").read_text())
    return selection


def decisions(root: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (root.parent / "out/decisions.jsonl").read_text().splitlines()]


def test_a_failed_candidate_leaves_its_reason_and_does_not_stop_the_others(
    root: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    failed = json.loads((root / "models" / BROKEN / "failed.json").read_text())
    reason = f"candidate {BROKEN}: diverged: the loss is nan"
    assert failed == {"candidate": BROKEN, "reason": reason, "next_step": "lower learning_rate"}
    result = json.loads((root / "reports/benchmark" / BROKEN / "result.json").read_text())
    assert result == {"candidate": BROKEN, "failed": reason}

    selection = meet(root, None, tmp_path)
    assert selection["failed"] == [{"candidate": BROKEN, "reason": reason}]
    assert [row["candidate"] for row in selection["candidates"]] == [GOOD]
    assert (selection["winner"], selection["outcome"]) == (GOOD, "promote")
    assert BROKEN in (root / "reports/benchmark.html").read_text()

    capfd.readouterr()
    stages.run_stage("evaluate", BROKEN)
    assert capfd.readouterr().err.count(reason) == 1


def test_a_worse_challenger_is_refused_and_that_is_recorded(root: Path, tmp_path: Path) -> None:
    selection = meet(root, "bright", tmp_path)  # it sees exactly the drawn people, who are bright
    assert selection["outcome"] == "keep"
    assert selection["champion"]["version"] == 1
    assert selection["champion"]["score"] == 1
    assert selection["bootstrap"]["wins"] == 0
    assert selection["bootstrap"]["mean_difference"] < 0
    (decision,) = decisions(root)
    assert decision["time"]
    assert {"outcome": "keep", "dataset_version": "ds-drawn", "winner": selection["winner"]}.items() <= decision.items()
    assert decision["reason"] == selection["reason"]
    assert decision["champion"] == selection["champion"]


def test_a_better_challenger_is_promoted_and_that_is_recorded(root: Path, tmp_path: Path) -> None:
    selection = meet(root, "inverse", tmp_path)
    assert selection["outcome"] == "promote"
    assert selection["champion"]["score"] == 0
    assert selection["bootstrap"]["wins"] == 1
    (root / "dvc.lock").write_text(yaml.safe_dump({"stages": {"train": {"outs": [LOCKED, {"path": "x", "md5": "y"}]}}}))
    stages.run_stage("export", None)
    assert not (root / "models_export/person_segmentation").exists(), "the runtimes were not compared yet"
    stages.run_stage("parity", None)
    record = read_artifact(root / "models_export/person_segmentation").record
    assert record["candidate"] == selection["winner"]
    assert (record["dvc_md5"], record["dataset_version"]) == ({LOCKED["path"]: LOCKED["md5"]}, "ds-drawn")
    assert len(record["dvc_revision"]) == 40
    assert record["runtimes"]["onnxruntime"]["may_serve"]
    assert json.loads((root / "reports/parity.json").read_text())["passed"]
    assert (root / "reports/parity.html").is_file()
    int8 = read_artifact(root / "models_export/variants/int8").record
    assert set(int8["metrics"]) == set(record["metrics"])
    weights = json.loads((root / "models" / selection["winner"] / "training.json").read_text())["checkpoint_sha256"]
    assert record["checkpoint_sha256"] == weights

    # the same model as champion: whatever the pictures say, it does not replace itself
    shutil.copytree(root / "models_export/person_segmentation", tmp_path / "repository" / MODEL_NAME / "2")
    again = meet(root, None, tmp_path)
    assert (again["outcome"], again["reason"]) == ("keep", "the winner is the model that serves as version 2")
    assert [decision["outcome"] for decision in decisions(root)] == ["promote", "keep"]


def test_runtimes_that_disagree_leave_the_old_export_and_a_report(root: Path, tmp_path: Path) -> None:
    meet(root, "inverse", tmp_path)
    stages.run_stage("export", None)
    stages.run_stage("parity", None)
    before = (root / "models_export/person_segmentation/model.json").read_bytes()
    set_parameter(root, "export", "max_mean_difference", 0)
    set_parameter(root, "export", "min_mask_agreement", 1)
    chosen = root / "models_export/variants/chosen.json"
    other = json.loads(chosen.read_text()) | {"variant": "int8"}
    chosen.write_text(json.dumps(other))
    set_parameter(root, "export", "int8", {"max_mean_difference": 0, "min_mask_agreement": 1})
    try:
        with pytest.raises(GateFailedError, match="onnxruntime may not serve it") as caught:
            stages.run_stage("parity", None)
    finally:
        for name, value in (("max_mean_difference", 1), ("min_mask_agreement", 0.999), ("int8", {})):
            set_parameter(root, "export", name, value)
    assert caught.value.exit_code == 4
    assert (root / "models_export/person_segmentation/model.json").read_bytes() == before
    assert not json.loads((root / "reports/parity.json").read_text())["passed"]


def test_a_champion_that_cannot_be_loaded_is_replaced(
    root: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    selection = meet(root, "garbage", tmp_path)
    assert selection["outcome"] == "promote"
    assert selection["reason"].startswith("version 1, which serves, cannot be used: ")
    assert "champion: version 1 cannot be measured" in capfd.readouterr().err
    assert decisions(root)[-1]["champion"]["fault"]


def test_without_a_candidate_in_the_budget_nothing_changes_but_the_record(root: Path, tmp_path: Path) -> None:
    meet(root, "bright", tmp_path)
    before = {name: (root / "reports" / name).read_bytes() for name in ("selection.json", "benchmark.html")}
    set_parameter(root, "select", "max_latency_ms", 0.001)
    try:
        with pytest.raises(GateFailedError, match=r"no candidate is within 0\.001 ms") as caught:
            stages.run_stage("select", None)
    finally:
        set_parameter(root, "select", "max_latency_ms", 60000)
    assert caught.value.exit_code == 4
    assert {name: (root / "reports" / name).read_bytes() for name in before} == before
    refused = decisions(root)[-1]
    assert refused["outcome"] == "refused"
    assert "no candidate is within 0.001 ms" in refused["reason"]


def test_bad_data_still_stops_the_run(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def train(*_: object) -> None:
        raise DataError("training sample", "cannot be read", "dvc repro --force ingest")

    monkeypatch.setattr(training, "train", train)
    with pytest.raises(DataError, match="training sample"):
        stages.run_stage("train", BROKEN)


def test_too_few_survivors_fail_the_run(root: Path) -> None:
    set_parameter(root, "select", "min_survivors", 2)
    try:
        with pytest.raises(GateFailedError, match="1 of 2 candidates could be trained and measured, 2 are needed"):
            stages.run_stage("select", None)
    finally:
        set_parameter(root, "select", "min_survivors", 1)
    assert decisions(root)[-1]["outcome"] == "refused"
    assert not (root / "reports/selection.json").exists()


def test_a_candidate_that_trains_again_is_no_longer_failed(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    failure = root / "models" / BROKEN / "failed.json"
    before = failure.read_bytes()
    monkeypatch.setattr(training, "train", lambda *_: None)
    try:
        stages.run_stage("train", BROKEN)
        assert not failure.exists()
    finally:
        failure.write_bytes(before)


def test_of_processes_that_fail_together_the_first_one_says_why(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    failure = root / "models" / BROKEN / "failed.json"
    before = failure.read_bytes()

    def train(*_: object) -> None:
        raise GateFailedError("candidate", f"failed in process {os.environ['RANK']}", "wait")

    monkeypatch.setattr(training, "train", train)
    monkeypatch.setenv("WORLD_SIZE", "2")
    try:
        failure.unlink()
        for rank in "10":
            monkeypatch.setenv("RANK", rank)
            monkeypatch.setenv("LOCAL_RANK", rank)
            stages.run_stage("train", BROKEN)
            assert failure.exists() == (rank == "0")
        assert json.loads(failure.read_text())["reason"] == "candidate: failed in process 0"
    finally:
        failure.write_bytes(before)


@pytest.mark.parametrize("error", [torch.OutOfMemoryError("CUDA out of memory."), RuntimeError("std::bad_alloc")])
def test_memory_short_in_a_measurement_is_that_candidate_s_failure(
    root: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, error: Exception
) -> None:
    def short(*_: object, **__: object) -> None:
        raise error

    results = root / "reports/benchmark" / GOOD
    shutil.copytree(results, tmp_path / "results")
    monkeypatch.setattr(measuring, "measure_accuracy", short)
    try:
        stages.run_stage("evaluate", GOOD)
        result = json.loads((results / "result.json").read_text())
        assert set(result) == {"candidate", "failed"}
        assert f"candidate {GOOD}: does not fit into memory when it is measured ({error})" in result["failed"]
        assert f"dvc repro --single-item --force evaluate@{GOOD}" in result["failed"]
    finally:
        shutil.rmtree(results)
        shutil.copytree(tmp_path / "results", results)


def test_a_bug_in_a_measurement_stays_what_it_is(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def faulty(*_: object, **__: object) -> None:
        raise RuntimeError("a bug")

    monkeypatch.setattr(measuring, "measure_accuracy", faulty)
    before = (root / "reports/benchmark" / GOOD / "result.json").read_bytes()
    with pytest.raises(RuntimeError, match="a bug"):
        stages.run_stage("evaluate", GOOD)
    assert (root / "reports/benchmark" / GOOD / "result.json").read_bytes() == before


def test_of_two_that_write_a_file_at_once_neither_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The second one writes between the first one's writing and its renaming."""
    real, file = Path.replace, tmp_path / "failed.json"

    def replace(path: Path, target: Path) -> Path:
        monkeypatch.setattr(Path, "replace", real)
        write_json(file, {"writer": 2})
        return real(path, target)

    monkeypatch.setattr(Path, "replace", replace)
    write_json(file, {"writer": 1})
    assert json.loads(file.read_text()) == {"writer": 1}
    assert list(tmp_path.iterdir()) == [file]


def test_a_full_disk_keeps_the_file_that_was_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    file = tmp_path / "failed.json"
    write_json(file, {"writer": 1})
    monkeypatch.setattr(Path, "replace", full)
    with pytest.raises(StorageError, match=r"failed\.json: no space left"):
        write_json(file, {"writer": 2})
    assert json.loads(file.read_text()) == {"writer": 1}
    assert list(tmp_path.iterdir()) == [file]
