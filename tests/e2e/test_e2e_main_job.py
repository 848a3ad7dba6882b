"""The main job on real parts: Airflow, DVC, Great Expectations, mmsegmentation, Triton, gRPC, PyAV."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import av
import dvc.api
import pytest

from privseg.errors import GateFailedError
from privseg.serving import local_triton
from privseg.serving.admin import Endpoint
from privseg.serving.artifact import MODEL_NAME, read_artifact
from privseg.serving.shipped import SHIPPED
from privseg.serving.versions import current, list_versions, read_record
from privseg.testing.airflow import airflow, standalone
from privseg.testing.datasets import make_tiny_pairs
from privseg.testing.triton import make_person_model

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

SIGNING_KEY = "known-to-nobody-but-the-signer-0123456789"


def privseg(*arguments: str, home: Path | None = None, data: Path | None = None) -> subprocess.CompletedProcess[str]:
    environment = {k: v for k, v in os.environ.items() if not k.startswith("PRIVSEG_")}
    environment["PRIVSEG_SIGNING_KEY"] = SIGNING_KEY
    if home is not None:
        environment["PRIVSEG_HOME"] = str(home)
    if data is not None:
        environment["PRIVSEG_DATA"] = str(data)
    return subprocess.run(
        [sys.executable, "-m", "privseg", *arguments], env=environment, capture_output=True, text=True, check=False
    )


@dataclass(frozen=True)
class MainJob:
    home: Path
    overrides: list[str]
    output: str

    @property
    def summary(self) -> dict[str, Any]:
        value: dict[str, Any] = json.loads((self.home / "out" / "summary.json").read_text())
        return value


@pytest.fixture(scope="module")
def job(tmp_path_factory: pytest.TempPathFactory, tiny_overrides: dict[str, str]) -> Iterator[MainJob]:
    home = tmp_path_factory.mktemp("main-job") / "home"
    # hardly trained, a candidate is hardly sure of anybody, yet better than a champion that never sees a person
    changes = tiny_overrides | {"benchmark.threshold": "0.1"}
    overrides = [word for name, text in changes.items() for word in ("--set", f"{name}={text}")]
    make_person_model(home / "model_repository" / MODEL_NAME / "1", kind="blank")
    try:
        done = privseg("run", *overrides, home=home)
        assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
        yield MainJob(home, overrides, done.stdout)
    finally:
        local_triton.down(home / "triton")


def test_it_ends_with_a_table_of_what_there_is(job: MainJob) -> None:
    summary = job.summary
    assert summary["gate"] == "passed"
    assert {entry["candidate"] for entry in summary["candidates"]} == {"bisenetv2", "stdc1", "efficientnet_lite0_fpn"}
    assert (summary["version"], summary["outcome"]) == (2, "promote")
    for name in ("protected_video", "report", "gate_report", "gateway_metrics"):
        assert Path(summary[name]).stat().st_size > 0
    for word in (summary["dataset_version"], summary["winner"], "human IoU", "FPS"):
        assert word in job.output
    with urllib.request.urlopen(summary["triton_metrics"], timeout=10) as answer:  # noqa: S310
        assert b'nv_inference_request_success{model="person_segmentation"' in answer.read()
    metrics = Path(summary["gateway_metrics"]).read_text()
    assert "privseg_raw_frames_published_total 0.0" in metrics


def test_the_protected_clip_is_whole_and_without_sound(job: MainJob) -> None:
    with av.open(job.summary["protected_video"]) as container:
        assert [stream.type for stream in container.streams] == ["video"]
        assert container.streams.video[0].codec_context.name == "h264"
        frames = sum(1 for _ in container.decode(video=0))
    assert frames == job.summary["clip"]["frames_out"] == job.summary["clip"]["frames_in"] == 150


def test_the_dataset_is_a_version_that_dvc_can_bring_back(job: MainJob) -> None:
    root = job.home / "workspace"
    tags = subprocess.run(["git", "tag"], cwd=root, capture_output=True, text=True, check=True).stdout.split()
    assert [tag for tag in tags if tag.startswith("dataset/")] == [f"dataset/{job.summary['dataset_version']}"]
    manifest = root / "data" / "manifest.parquet"
    before = manifest.read_bytes()
    manifest.unlink()
    subprocess.run([sys.executable, "-m", "dvc", "pull", "--force", "split"], cwd=root, check=True, capture_output=True)
    assert manifest.read_bytes() == before


def test_the_published_record_says_where_the_model_comes_from(job: MainJob) -> None:
    record = json.loads((job.home / "model_repository/person_segmentation/2/model.json").read_text())
    assert record["dataset_version"] == job.summary["dataset_version"]
    assert record["candidate"] == job.summary["winner"]
    revision = subprocess.run(
        ["git", "cat-file", "-t", record["dvc_revision"]],
        cwd=job.home / "workspace",
        capture_output=True,
        text=True,
        check=True,
    )
    assert revision.stdout.strip() == "commit"


def test_dvc_names_the_model_that_triton_serves(job: MainJob) -> None:
    root = str(job.home / "workspace")
    named = dvc.api.artifacts_show(MODEL_NAME, stage="prod", repo=root)
    record = json.loads(dvc.api.read(f"{named['path']}/model.json", repo=root, rev=named["rev"]))
    running = local_triton.status(job.home / "triton")
    assert running is not None
    with Endpoint(running.grpc_url) as endpoint:
        (serving,) = endpoint.statistics()
    assert serving == 2
    assert record["sha256"] == read_record(job.home / "model_repository", serving)["sha256"]


def test_the_model_is_signed_and_the_key_is_written_nowhere(job: MainJob, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PRIVSEG_VERIFY_KEY", SIGNING_KEY)
    assert read_artifact(job.home / "model_repository" / MODEL_NAME / "2").record["signature"]["algorithm"]
    monkeypatch.setenv("PRIVSEG_VERIFY_KEY", SIGNING_KEY[::-1])
    with pytest.raises(GateFailedError, match="is signed with hmac-sha256 key"):
        read_artifact(job.home / "model_repository" / MODEL_NAME / "2")
    found = subprocess.run(["grep", "-rlF", SIGNING_KEY, str(job.home)], capture_output=True, text=True, check=False)
    assert (found.stdout, found.returncode) == ("", 1)


def test_a_second_run_reuses_everything(job: MainJob) -> None:
    log = job.home / "out" / "run.log"
    before = log.stat().st_mtime_ns

    again = privseg("run", *job.overrides, home=job.home)

    assert again.returncode == 0, again.stderr
    assert "reusing its results" in again.stdout
    assert log.stat().st_mtime_ns == before
    assert list_versions(job.home / "model_repository") == [1, 2]


def test_anonymize_uses_the_published_model(job: MainJob, tmp_path: Path) -> None:
    clip = job.home / "out" / "scene.mp4"
    out, report = tmp_path / "out.mp4", tmp_path / "report.json"
    done = privseg(
        "anonymize", str(clip), str(out), "--method", "blank", "--param", "color=#00ff00", "--report", str(report),
        home=job.home,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    written = json.loads(report.read_text())
    assert (written["frames_in"], written["frames_out"], written["frames_blanked"]) == (150, 150, 0)
    assert written["model_versions"] == ["2"]
    assert written["fps"] > 0


def test_airflow_standalone_shows_and_runs_the_dag(job: MainJob) -> None:
    with standalone(job.home) as url:
        assert "No data found" in airflow(job.home, "dags", "list-import-errors")
        assert "privseg_retrain" in airflow(job.home, "dags", "list", "--output", "plain")
        conf = json.dumps({"overrides": dict(word.split("=", 1) for word in job.overrides if word != "--set")})
        airflow(job.home, "dags", "unpause", "privseg_retrain", "--yes")
        airflow(job.home, "dags", "trigger", "privseg_retrain", "--run-id", "by_scheduler", "--conf", conf)
        state = _wait_for_run(job.home, "by_scheduler")
        events = _api(url, "/api/v2/assets/events")["asset_events"]
    assert state == "success"
    (event,) = [event for event in events if event["source_run_id"] == "by_scheduler"]
    assert event["name"] == "person_segmentation"
    assert event["extra"]["version"] == 2
    assert event["extra"]["dataset_version"] == job.summary["dataset_version"]
    assert list_versions(job.home / "model_repository") == [1, 2]  # nothing had changed: the same model serves on


def decisions(home: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (home / "out" / "decisions.jsonl").read_text().splitlines()]


def test_a_winner_that_is_not_better_leaves_the_champion_where_it_is(job: MainJob) -> None:
    done = privseg("run", *job.overrides, "--set", "select.confidence=0.97", home=job.home)

    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    assert "champion stays: the winner is the model that serves as version 2" in " ".join(done.stdout.split())
    assert (job.summary["version"], job.summary["outcome"]) == (2, "keep")
    assert list_versions(job.home / "model_repository") == [1, 2]
    assert [decision["outcome"] for decision in decisions(job.home)] == ["promote", "keep"]
    assert Path(job.summary["protected_video"]).stat().st_size > 0


def test_without_a_candidate_in_the_budget_the_run_fails_and_the_champion_serves_on(job: MainJob) -> None:
    selection = job.home / "workspace" / "reports" / "selection.json"
    before = selection.read_bytes()

    done = privseg("run", *job.overrides, "--set", "select.max_latency_ms=0.001", home=job.home)

    assert done.returncode == 4, done.stdout[-3000:] + done.stderr[-3000:]
    assert done.stderr.strip().splitlines()[-1].startswith("privseg: select: no candidate is within 0.001 ms")
    assert decisions(job.home)[-1]["outcome"] == "refused"
    assert selection.read_bytes() == before
    assert list_versions(job.home / "model_repository") == [1, 2]


def test_a_corrupt_file_stops_the_run_and_the_old_version_serves_on(job: MainJob, tmp_path: Path) -> None:
    data = tmp_path / "data"
    make_tiny_pairs(data / "people", images=12, size=96)
    victim = sorted((data / "people" / "train" / "images").iterdir())[5]
    victim.write_bytes(b"\xff\xd8 no picture")
    sources = (
        "sources={people: {kind: pairs, path: people, human: [1], ignore: [255], terms: generated, "
        "partitions: [{pool: train, images: train/images, masks: train/masks}]}}"
    )

    done = privseg("run", "--set", sources, "--set", "image.size=96", home=job.home, data=data)

    assert done.returncode == 4, done.stdout + done.stderr
    last = done.stderr.strip().splitlines()[-1]
    assert last.startswith("privseg: ")
    assert victim.name in last
    assert list_versions(job.home / "model_repository") == [1, 2]
    clip, out = job.home / "out" / "scene.mp4", tmp_path / "out.mp4"
    assert privseg("anonymize", str(clip), str(out), "--max-frames", "5", home=job.home).returncode == 0


@pytest.mark.skipif(current(SHIPPED) is None, reason="this checkout comes without a model")
def test_a_new_user_is_protected_by_the_shipped_model_at_once(job: MainJob, tmp_path: Path) -> None:
    home, out, report = tmp_path / "home", tmp_path / "out.mp4", tmp_path / "report.json"
    try:
        assert privseg("triton", "up", home=home).returncode == 0
        clip = job.home / "out" / "scene.mp4"
        done = privseg("anonymize", str(clip), str(out), "--report", str(report), "--home", str(home))
        assert done.returncode == 0, done.stderr
        written = json.loads(report.read_text())
        assert (written["frames_out"], written["frames_blanked"]) == (150, 0)
        assert written["model_versions"] == ["1"]
    finally:
        local_triton.down(home / "triton")


@pytest.mark.skipif(current(SHIPPED) is None, reason="this checkout comes without a model")
def test_local_protects_a_recording_without_any_server(job: MainJob, tmp_path: Path) -> None:
    out, report = tmp_path / "out.mp4", tmp_path / "report.json"
    clip, home = job.home / "out" / "scene.mp4", tmp_path / "home"
    done = privseg(
        "anonymize", str(clip), str(out), "--local", "--max-frames", "20", "--report", str(report), home=home
    )
    assert done.returncode == 0, done.stderr
    written = json.loads(report.read_text())
    assert (written["frames_out"], written["frames_blanked"], written["model_versions"]) == (20, 0, ["1"])
    assert local_triton.status(home / "triton") is None


def test_without_triton_nothing_is_written(job: MainJob, tmp_path: Path) -> None:
    out = tmp_path / "out.mp4"
    done = privseg("anonymize", str(job.home / "out" / "scene.mp4"), str(out), home=tmp_path / "no-server-here")
    assert done.returncode == 5
    assert "privseg triton up" in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1
    assert not out.exists()


def _api(url: str, path: str) -> Any:
    with urllib.request.urlopen(f"{url}/auth/token", timeout=30) as answer:  # noqa: S310
        token = json.load(answer)["access_token"]
    request = urllib.request.Request(f"{url}{path}", headers={"Authorization": f"Bearer {token}"})  # noqa: S310
    with urllib.request.urlopen(request, timeout=30) as answer:  # noqa: S310
        return json.load(answer)


def _wait_for_run(home: Path, run_id: str, seconds: float = 400) -> str:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        listed = airflow(home, "dags", "list-runs", "privseg_retrain", "--output", "json")
        runs = json.loads(next(line for line in listed.splitlines() if line.startswith("[{")))  # log lines precede it
        state = next(str(run["state"]) for run in runs if run["run_id"] == run_id)
        if state in {"success", "failed"}:
            return state
        time.sleep(2)
    return "timed out"
