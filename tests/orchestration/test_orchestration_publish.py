"""What is published after a selection, on a real Triton: the winner, or the champion that stays."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

import numpy as np
import pytest

from privseg import pipeline, workspace
from privseg.errors import DataError, GateFailedError
from privseg.serving import local_triton, shipped
from privseg.serving.admin import Endpoint
from privseg.serving.artifact import MODEL_NAME
from privseg.serving.repository import current, list_versions
from privseg.serving.repository import publish as publish_version
from privseg.testing.bad_models import make_bad_model
from privseg.testing.triton import ServedModel, make_person_model, running_triton

PICTURE = np.random.default_rng(1).integers(1, 255, (1, 64, 96, 3), dtype=np.uint8)
ANSWERS = {"bright": PICTURE[..., 0], "inverse": 255 - PICTURE[..., 0], "green": PICTURE[..., 1]}


@pytest.fixture(scope="module")
def triton(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServedModel]:
    with running_triton(tmp_path_factory.mktemp("served"), kind=None) as served:
        yield served


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = workspace.prepare(tmp_path_factory.mktemp("publish") / "home").path
    (root / "data").mkdir()
    (root / "data/validated.json").write_text('{"dataset_version": "ds-test"}')
    return root


@pytest.fixture
def root(prepared: Path, triton: ServedModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A workspace whose export is ``inverse``, beside a server that answers with ``bright``."""
    monkeypatch.setenv("PRIVSEG_MODEL_REPOSITORY", str(triton.repository))
    monkeypatch.setenv("PRIVSEG_TRITON_ENDPOINTS", triton.grpc_url)
    monkeypatch.setenv("PRIVSEG_SKIP_SMOKE_LOAD", "not what is tested")
    make_person_model(prepared / "models_export/person_segmentation", kind="inverse")
    serve(triton, "bright", tmp_path)
    return prepared


def serve(triton: ServedModel, kind: Literal["bright", "inverse", "green"], folder: Path) -> int:
    if kind == "green":
        make_bad_model(folder / kind, kind)
    else:
        make_person_model(folder / kind, kind=kind)
    how = {"endpoints": [triton.grpc_url], "skip_smoke_load": "not what is tested"}
    return publish_version(triton.repository, folder / kind, **how).version  # type: ignore[arg-type]


def decide(root: Path, outcome: str, champion: int | None) -> None:
    known = {"version": champion} if champion else None
    selection = {
        "winner": "test_inverse",
        "winner_checkpoint_sha256": None,
        "outcome": outcome,
        "reason": "so it is",
        "champion": known,
    }
    (root / "reports").mkdir(exist_ok=True)
    (root / "reports/selection.json").write_text(json.dumps(selection))


def answer(url: str) -> tuple[np.ndarray, int]:
    with Endpoint(url) as endpoint:
        return endpoint.infer(PICTURE)


def assert_serves(url: str, kind: str, version: int | None) -> None:
    person, answered_by = answer(url)
    assert answered_by == version
    np.testing.assert_array_equal(person, ANSWERS[kind])


def test_a_winner_is_published_and_a_second_time_is_no_news(
    root: Path, triton: ServedModel, capsys: pytest.CaptureFixture[str]
) -> None:
    before = current(triton.repository) or 0
    decide(root, "promote", before)
    published = pipeline.publish(str(root), str(root.parent))
    assert published["version"] == before + 1
    assert (published["candidate"], published["outcome"], published["reason"]) == (
        "test_inverse",
        "promote",
        "so it is",
    )
    assert json.loads((root.parent / "out/published.json").read_text()) == published
    assert_serves(triton.grpc_url, "inverse", before + 1)
    assert f"version {before + 1}: published" in capsys.readouterr().out
    assert pipeline.publish(str(root), str(root.parent))["version"] == before + 1
    assert f"version {before + 1}: already served" in capsys.readouterr().out


def test_a_champion_stays(root: Path, triton: ServedModel, capsys: pytest.CaptureFixture[str]) -> None:
    before = list_versions(triton.repository)
    decide(root, "keep", before[-1])
    published = pipeline.publish(str(root), str(root.parent))
    assert (published["version"], published["candidate"]) == (before[-1], "test_bright")
    assert published["outcome"] == "keep"
    assert published["dataset_version"] is None
    assert list_versions(triton.repository) == before
    assert_serves(triton.grpc_url, "bright", before[-1])
    assert f"version {before[-1]}: stays on {triton.grpc_url} (so it is)" in capsys.readouterr().out


def test_a_winner_may_be_published_by_hand_although_the_champion_stays(root: Path, triton: ServedModel) -> None:
    before = current(triton.repository) or 0
    decide(root, "keep", before)
    record = root.parent / "out/decisions.jsonl"
    record.unlink(missing_ok=True)
    for _ in range(2):
        published = pipeline.publish(str(root), str(root.parent), force=True)
        assert (published["version"], published["outcome"]) == (before + 1, "forced")
    assert_serves(triton.grpc_url, "inverse", before + 1)
    (decision,) = [json.loads(line) for line in record.read_text().splitlines()]
    assert (decision["outcome"], decision["dataset_version"]) == ("forced", "ds-test")
    assert decision["reason"] == "published by hand; the comparison said: so it is"


def test_a_winner_that_met_another_champion_is_not_published(root: Path, triton: ServedModel, tmp_path: Path) -> None:
    decide(root, "promote", current(triton.repository))
    newer = serve(triton, "green", tmp_path)
    with pytest.raises(GateFailedError, match=f"serves version {newer}, with which the winner was not compared"):
        pipeline.publish(str(root), str(root.parent))
    assert_serves(triton.grpc_url, "green", newer)
    assert pipeline.publish(str(root), str(root.parent), force=True)["version"] == newer + 1


def test_a_champion_that_is_gone_leaves_its_place_to_the_winner(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    decide(root, "keep", 5)
    with running_triton(tmp_path / "served", kind=None) as empty:
        monkeypatch.setenv("PRIVSEG_MODEL_REPOSITORY", str(empty.repository))
        monkeypatch.setenv("PRIVSEG_TRITON_ENDPOINTS", empty.grpc_url)
        published = pipeline.publish(str(root), str(root.parent))
        assert (published["version"], published["outcome"]) == (1, "promote")
        assert_serves(empty.grpc_url, "inverse", 1)


def test_a_selection_of_an_earlier_release_is_named(root: Path) -> None:
    (root / "reports/selection.json").write_text('{"winner": "stdc1"}')
    with pytest.raises(DataError, match=r"selection\.json: does not say champion"):
        pipeline.publish(str(root), str(root.parent))


def test_a_new_home_serves_the_shipped_model_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    home = tmp_path / "home"
    monkeypatch.setattr(shipped, "SHIPPED", tmp_path / "nothing")
    try:
        empty = pipeline.start_triton(home)
        assert empty.versions == ()
        make_person_model(tmp_path / "shipped" / MODEL_NAME / "1", kind="bright")
        monkeypatch.setattr(shipped, "SHIPPED", tmp_path / "shipped")
        running = pipeline.start_triton(home)
        assert (running.pid, running.versions) == (empty.pid, (1,))
        assert_serves(running.grpc_url, "bright", 1)
        assert pipeline.start_triton(home).versions == (1,)
        assert list_versions(home / "model_repository") == [1]
    finally:
        local_triton.down(home / "triton")


def test_preparing_a_run_loads_the_shipped_model_where_triton_runs_empty(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_person_model(tmp_path / "shipped" / MODEL_NAME / "1", kind="bright")
    monkeypatch.setattr(shipped, "SHIPPED", tmp_path / "shipped")
    with running_triton(tmp_path / "served", kind=None) as empty:
        monkeypatch.setenv("PRIVSEG_MODEL_REPOSITORY", str(empty.repository))
        monkeypatch.setenv("PRIVSEG_TRITON_ENDPOINTS", empty.grpc_url)
        pipeline.prepare(str(tmp_path / "home"), None)
        assert_serves(empty.grpc_url, "bright", 1)
