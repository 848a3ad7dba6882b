"""Which model the workspace holds as champion, and that the shipped one is the first."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml

from privseg import pipeline, repro, workspace
from privseg.serving import shipped
from privseg.serving.artifact import MODEL_NAME
from privseg.serving.repository import list_versions, publish
from privseg.testing.triton import Kind, make_person_model

STAGES = {"stages": {"compare": {"cmd": "cp params.yaml compared.yaml", "deps": ["champion", "params.yaml"]}}}


@pytest.fixture(autouse=True)
def no_deployment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("PRIVSEG_TRITON_ENDPOINTS", "PRIVSEG_MODEL_REPOSITORY"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A workspace whose one stage depends on the champion."""
    ready = workspace.prepare(tmp_path / "home")
    (ready.path / "dvc.yaml").write_text(yaml.safe_dump(STAGES))
    return ready.path


@pytest.fixture
def ship(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A shipped model."""
    make_person_model(tmp_path / "shipped" / MODEL_NAME / "1", kind="bright")
    monkeypatch.setattr(shipped, "SHIPPED", tmp_path / "shipped")
    return tmp_path / "shipped"


def put(repository: Path, kind: Kind) -> dict[str, object]:
    """Publish a model and return what a run would remember of it."""
    artifact = make_person_model(repository.parent / kind, kind=kind)
    published = publish(repository, repository.parent / kind, endpoints=[], skip_smoke_load="tried elsewhere")
    return {"version": published.version, "sha256": artifact.sha256}


def held(root: Path) -> dict[str, object]:
    value: dict[str, object] = json.loads((root / workspace.CHAMPION / workspace.CHAMPION_FILE).read_text())
    return value


def test_an_empty_repository_has_no_champion(root: Path, tmp_path: Path) -> None:
    assert workspace.take_champion(root, tmp_path / "repository", None) is None
    assert held(root) == {"version": None, "sha256": None}
    assert repro.reproduce(root, "compare", emit=lambda line: None)  # what a stage depends on is there


def test_the_newest_version_is_copied_as_it_is(root: Path, tmp_path: Path) -> None:
    repository = tmp_path / "repository"
    for version, kind in enumerate(("bright", "inverse"), start=1):
        known = put(repository, kind)
        assert workspace.take_champion(root, repository, None) == version
        assert held(root) == known
        for name in ("model.onnx", "model.json"):
            original = repository / MODEL_NAME / str(version) / name
            assert (root / workspace.CHAMPION / name).read_bytes() == original.read_bytes()
    model = repository / MODEL_NAME / "2" / "model.onnx"
    model.write_bytes(model.read_bytes() + b"\0")
    assert workspace.take_champion(root, repository, None) == 2
    assert held(root) == {"version": 2, "sha256": None}  # so that it is copied anew once it is mended


def test_a_version_whose_publication_has_not_ended_is_no_champion(root: Path, tmp_path: Path) -> None:
    repository = tmp_path / "repository"
    put(repository, "bright")
    put(repository, "inverse")
    (repository / ".pending").write_text("2")
    assert workspace.take_champion(root, repository, None) == 1


def test_what_the_workspace_published_is_taken_once_something_has_changed(root: Path, tmp_path: Path) -> None:
    repository = tmp_path / "repository"
    put(repository, "bright")
    workspace.take_champion(root, repository, None)
    repro.reproduce(root, "compare", emit=lambda line: None)
    published = put(repository, "inverse")

    assert workspace.take_champion(root, repository, published) == 1
    assert repro.up_to_date(root)  # a second run repeats nothing

    params = root / "params.yaml"
    params.write_text(params.read_text() + "# changed\n")
    assert workspace.take_champion(root, repository, published) == 2
    assert not repro.up_to_date(root)


def test_what_somebody_else_published_is_taken_at_once(root: Path, tmp_path: Path) -> None:
    repository = tmp_path / "repository"
    published = put(repository, "bright")
    workspace.take_champion(root, repository, None)
    repro.reproduce(root, "compare", emit=lambda line: None)
    put(repository, "inverse")
    assert workspace.take_champion(root, repository, published) == 2


@pytest.mark.parametrize("text", ["", "[]", '{"version": 1}'])
def test_a_damaged_note_is_written_anew(root: Path, tmp_path: Path, text: str) -> None:
    known = put(tmp_path / "repository", "bright")
    workspace.take_champion(root, tmp_path / "repository", None)
    (root / workspace.CHAMPION / workspace.CHAMPION_FILE).write_text(text)
    assert workspace.take_champion(root, tmp_path / "repository", known) == 1
    assert held(root) == known


def test_the_shipped_model_is_the_first_champion(
    ship: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    home = tmp_path / "home"
    ready = pipeline.prepare(str(home), None)
    assert held(Path(ready["path"]))["version"] == 1
    assert list_versions(home / "model_repository") == list_versions(ship)
    printed = capsys.readouterr().out
    assert "version 1: comes with privseg" in printed
    assert "version 1 is the champion" in printed
    status = repro.run(["git", "status", "--porcelain"], Path(ready["path"])).stdout
    assert status == ""  # the workspace's history does not hold models

    pipeline.prepare(str(home), None)
    assert "comes with privseg" not in capsys.readouterr().out


def test_a_local_run_leaves_a_deployment_alone(ship: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PRIVSEG_MODEL_REPOSITORY", str(tmp_path / "deployed"))
    monkeypatch.setenv("PRIVSEG_TRITON_ENDPOINTS", "127.0.0.1:1")
    pipeline.prepare(str(tmp_path / "home"), None, local=True)
    assert not (tmp_path / "deployed").exists()
    pipeline.prepare(str(tmp_path / "home"), None)  # its servers are down: the model waits for them
    assert list_versions(tmp_path / "deployed") == [1]
