"""Tags that say which revision made the model that serves: read back with GTO's and DVC's own interfaces."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import dvc.api
import gto.api
import pytest
import yaml
from dvc.exceptions import ArtifactNotFoundError

from privseg import publishing
from privseg.serving.admin import Endpoint
from privseg.serving.artifact import MODEL_NAME
from privseg.serving.golden import golden_frame
from privseg.serving.registry import assign, register
from privseg.serving.versions import read_record
from privseg.testing.bad_models import make_bad_model
from privseg.testing.triton import Kind, ServedModel, make_person_model, running_triton

CHECKOUT = Path(publishing.__file__).resolve().parents[1]
EXPORTED = Path("models_export/person_segmentation")


def run(folder: Path, *command: str) -> str:
    environment = os.environ | {"DVC_NO_ANALYTICS": "1"}
    return subprocess.run(command, cwd=folder, env=environment, check=True, capture_output=True, text=True).stdout


def commit(root: Path, message: str) -> str:
    run(root, "git", "add", "--all")
    run(root, "git", "-c", "user.name=t", "-c", "user.email=t@localhost", "commit", "-qm", message, "--allow-empty")
    return run(root, "git", "rev-parse", "HEAD").strip()


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    root = tmp_path / "plain"
    root.mkdir()
    run(root, "git", "init", "--quiet", "--initial-branch=main")
    return root


def in_prod(root: Path) -> list[str]:
    found = gto.api.find_versions_in_stage(str(root), MODEL_NAME, "prod") or []
    return [version.version for version in found]


def test_of_changes_within_one_second_the_last_one_counts(repository: Path) -> None:
    commits = [commit(repository, str(number)) for number in range(2)]
    for number, revision in enumerate(commits, start=1):
        assert register(repository, number, f"hash{number}", revision) == f"{MODEL_NAME}@v0.0.{number}"
    for number in (1, 2, 1, 1, 2, 1):
        assert assign(repository, f"hash{number}") == f"{MODEL_NAME}@v0.0.{number}"
        assert in_prod(repository) == [f"v0.0.{number}"]
    tags = run(repository, "git", "tag", "--list", f"{MODEL_NAME}#prod*").split()
    assert len(tags) == 9  # five changes, each but the first with the end of what served before


def test_a_model_is_registered_once_and_no_number_twice(repository: Path) -> None:
    first, second = (commit(repository, str(number)) for number in range(2))
    assert register(repository, 4, "one", first) == f"{MODEL_NAME}@v0.0.4"
    assert register(repository, 7, "one", second) == f"{MODEL_NAME}@v0.0.4"
    assert register(repository, 4, "two", second) == f"{MODEL_NAME}@v0.0.5"


def test_a_model_that_no_revision_made_leaves_nobody_in_the_stage(repository: Path) -> None:
    register(repository, 1, "one", commit(repository, "one"))
    assign(repository, "one")
    assert assign(repository, "shipped with privseg") is None
    assert in_prod(repository) == []
    assert assign(repository, "one") == f"{MODEL_NAME}@v0.0.1"
    assert in_prod(repository) == ["v0.0.1"]


@pytest.fixture(scope="module")
def triton(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServedModel]:
    with running_triton(tmp_path_factory.mktemp("served")) as served:
        yield served


@pytest.fixture
def home(tmp_path: Path, triton: ServedModel, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home whose workspace is a DVC repository with the checkout's ``artifacts`` and one stage."""
    monkeypatch.setenv("PRIVSEG_MODEL_REPOSITORY", str(triton.repository))
    monkeypatch.setenv("PRIVSEG_TRITON_ENDPOINTS", triton.grpc_url)
    monkeypatch.setenv("PRIVSEG_SKIP_SMOKE_LOAD", "not what is tested")
    root = tmp_path / "home/workspace"
    root.mkdir(parents=True)
    run(root, "git", "init", "--quiet", "--initial-branch=main")
    run(root, sys.executable, "-m", "dvc", "init", "--quiet")
    pipeline = {
        "stages": {"export": {"cmd": "true", "outs": [str(EXPORTED)]}},
        "artifacts": yaml.safe_load((CHECKOUT / "dvc.yaml").read_text())["artifacts"],
    }
    (root / "dvc.yaml").write_text(yaml.safe_dump(pipeline))
    (root / "reports").mkdir()
    return root.parent


def export_and_publish(home: Path, kind: Kind, champion: int | None) -> int:
    root = home / "workspace"
    make_person_model(root / EXPORTED, kind=kind)
    run(root, sys.executable, "-m", "dvc", "commit", "--quiet", "--force", "export")
    winner = {"winner": f"test_{kind}", "winner_checkpoint_sha256": None}
    selection = winner | {"outcome": "promote", "reason": "it won", "champion": {"version": champion}}
    (root / "reports/selection.json").write_text(json.dumps(selection))
    return int(publishing.publish(str(root), str(home))["version"])


def assert_the_stage_names_what_triton_serves(home: Path, triton: ServedModel, kind: str) -> None:
    named = dvc.api.artifacts_show(MODEL_NAME, stage="prod", repo=str(home / "workspace"))
    assert named["path"] == str(EXPORTED)
    text = dvc.api.read(f"{named['path']}/model.json", repo=str(home / "workspace"), rev=named["rev"])
    with Endpoint(triton.grpc_url) as endpoint:
        _, version = endpoint.infer(golden_frame())
    served = read_record(triton.repository, version)
    assert json.loads(text)["sha256"] == served["sha256"]
    assert served["candidate"] == f"test_{kind}"


def test_dvc_names_the_revision_of_the_model_that_triton_serves(home: Path, triton: ServedModel) -> None:
    first = export_and_publish(home, "inverse", champion=1)
    assert_the_stage_names_what_triton_serves(home, triton, "inverse")
    second = export_and_publish(home, "bright", champion=first)
    assert_the_stage_names_what_triton_serves(home, triton, "bright")
    assert publishing.roll_back(home) == first
    assert_the_stage_names_what_triton_serves(home, triton, "inverse")
    assert publishing.promote(home, second).version == second + 1
    assert_the_stage_names_what_triton_serves(home, triton, "bright")
    make_bad_model(home / "elsewhere", "green")
    publishing.promote(home, home / "elsewhere")
    with pytest.raises(ArtifactNotFoundError):
        dvc.api.artifacts_show(MODEL_NAME, stage="prod", repo=str(home / "workspace"))
