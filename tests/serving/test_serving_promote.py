"""Older versions that serve again, verification, pruning and the overview: through the command, on a real server."""

from __future__ import annotations

import json
import re
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from privseg.cli import app
from privseg.errors import GateFailedError, ServerUnavailableError, UsageError
from privseg.serving.admin import Endpoint
from privseg.serving.artifact import MODEL_NAME
from privseg.serving.repository import list_versions, promote, prune, publish, read_record, roll_back
from privseg.serving.versions import Store, current
from privseg.testing.bad_models import make_bad_model
from privseg.testing.triton import ServedModel, make_person_model, running_triton

PICTURE = np.random.default_rng(1).integers(1, 255, (1, 64, 96, 3), dtype=np.uint8)
ANSWERS = {"bright": PICTURE[..., 0], "inverse": 255 - PICTURE[..., 0], "green": PICTURE[..., 1]}


@pytest.fixture(scope="module")
def triton(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServedModel]:
    with running_triton(tmp_path_factory.mktemp("promote"), kind=None) as served:
        yield served


@pytest.fixture
def served(triton: ServedModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ServedModel:
    """Three versions, of which ``green`` serves; the command works on them."""
    monkeypatch.setenv("PRIVSEG_MODEL_REPOSITORY", str(triton.repository))
    monkeypatch.setenv("PRIVSEG_TRITON_ENDPOINTS", triton.grpc_url)
    monkeypatch.setenv("PRIVSEG_SKIP_SMOKE_LOAD", "not what is tested")
    monkeypatch.setenv("PRIVSEG_HOME", str(tmp_path / "home"))
    make_person_model(tmp_path / "bright", kind="bright")
    make_person_model(tmp_path / "inverse", kind="inverse")
    make_bad_model(tmp_path / "green", "green")
    for name in ("bright", "inverse", "green"):
        publish(triton.repository, tmp_path / name, endpoints=[triton.grpc_url], skip_smoke_load="-")
    return triton


def ask(*arguments: str) -> object:
    """What a ``model`` command prints as JSON."""
    done = CliRunner().invoke(app, ["model", *arguments, "--json"], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return json.loads(done.stdout)


def assert_serves(triton: ServedModel, kind: str, version: int) -> None:
    with Endpoint(triton.grpc_url) as endpoint:
        person, answered_by = endpoint.infer(PICTURE)
    assert answered_by == version
    np.testing.assert_array_equal(person, ANSWERS[kind])


def test_an_older_version_serves_again_under_the_next_number(served: ServedModel) -> None:
    newest = list_versions(served.repository)[-1]
    found = ask("promote", str(newest - 1))
    sha256 = read_record(served.repository, newest - 1)["sha256"]
    assert found == {
        "version": newest + 1,
        "promoted_from": newest - 1,
        "reused": False,
        "sha256": sha256,
        "replicas": [served.grpc_url],
        "came": [],
        "gone": [],
    }
    assert_serves(served, "inverse", newest + 1)
    assert read_record(served.repository, newest + 1) == read_record(served.repository, newest - 1)
    again = ask("promote", str(newest + 1))
    assert (again["version"], again["reused"]) == (newest + 1, True)  # type: ignore[index]


def test_a_version_that_was_rolled_back_can_come_back(served: ServedModel) -> None:
    newest = list_versions(served.repository)[-1]
    assert ask("rollback", "--reason", "too many parked cars") == {"version": newest - 1}
    assert_serves(served, "inverse", newest - 1)
    (listed,) = [entry for entry in ask("list") if entry["version"] == newest]  # type: ignore[attr-defined]
    assert (listed["state"], listed["reason"]) == ("rolled_back", "too many parked cars")
    assert promote(served.repository, newest, endpoints=[served.grpc_url], skip_smoke_load="-").version == newest + 1
    assert_serves(served, "green", newest + 1)


def test_a_model_in_a_folder_can_be_published(served: ServedModel, tmp_path: Path) -> None:
    newest = list_versions(served.repository)[-1]
    found = ask("promote", str(tmp_path / "bright"))
    assert (found["version"], found["promoted_from"]) == (newest + 1, None)  # type: ignore[index]
    assert_serves(served, "bright", newest + 1)


def test_what_was_taken_back_for_a_fault_cannot_be_promoted(served: ServedModel, tmp_path: Path) -> None:
    make_person_model(tmp_path / "random", kind="random")
    with pytest.raises(GateFailedError):
        publish(served.repository, tmp_path / "random", endpoints=[served.grpc_url], skip_smoke_load="-")
    newest = list_versions(served.repository)[-1]
    with pytest.raises(UsageError, match=f"has no version {newest + 1} that was accepted"):
        promote(served.repository, newest + 1, endpoints=[served.grpc_url])
    assert_serves(served, "green", newest)
    (entry,) = [entry for entry in ask("list") if entry["version"] == newest + 1]  # type: ignore[attr-defined]
    assert entry["state"] == "gatefailed"
    assert "golden frame's answer is off" in entry["reason"]


def test_the_overview_says_which_one_serves(served: ServedModel) -> None:
    versions = list_versions(served.repository)
    entries = {entry["version"]: entry for entry in ask("list")}  # type: ignore[attr-defined]
    assert [entries[version]["state"] for version in versions] == [*["kept"] * (len(versions) - 1), "serves"]
    assert entries[versions[-1]]["candidate"] == "test_green"
    table = CliRunner().invoke(app, ["model", "list"]).stdout
    assert "serves" in table


def metric(served: ServedModel, name: str) -> dict[int, int]:
    """A counter of Triton's metrics, by version."""
    with urllib.request.urlopen(served.metrics_url) as response:  # noqa: S310 - loopback
        text = response.read().decode()
    counted: dict[int, int] = {}
    for version, value in re.findall(rf'^{name}\{{.*version="(\d+)".*\}} (\d+)', text, re.MULTILINE):
        counted[int(version)] = counted.get(int(version), 0) + int(value)
    return counted


def assert_list_and_metrics_agree(served: ServedModel, version: int) -> dict[str, Any]:
    """What ``model list --live`` says of the version that serves."""
    entries = {entry["version"]: entry for entry in ask("list", "--live")}  # type: ignore[attr-defined]
    entry = entries.pop(version)
    answered, failed = (metric(served, f"nv_inference_request_{name}") for name in ("success", "failure"))
    assert (entry["state"], entry["servers"]) == ("serves", 1)
    assert (entry["answered"], entry["failed"]) == (answered[version], failed[version])
    assert {(other["servers"], other["answered"]) for other in entries.values()} == {(0, 0)}  # unloaded
    return dict(entry)


def test_after_a_promotion_the_list_and_the_servers_metrics_agree(served: ServedModel, tmp_path: Path) -> None:
    promoted = ask("promote", str(tmp_path / "inverse"))
    version = promoted["version"]  # type: ignore[index,call-overload]
    before = assert_list_and_metrics_agree(served, version)
    for _ in range(7):
        assert_serves(served, "inverse", version)
    after = assert_list_and_metrics_agree(served, version)
    assert after["answered"] == before["answered"] + 7
    assert "answered" in CliRunner().invoke(app, ["model", "list", "--live"]).stdout


def test_verification_names_a_damaged_version_and_a_server_that_answers_otherwise(
    served: ServedModel, tmp_path: Path
) -> None:
    newest = list_versions(served.repository)[-1]
    findings = ask("verify", "--live")
    assert [finding["fault"] for finding in findings] == [None] * len(findings)  # type: ignore[attr-defined]
    assert findings[-1]["subject"] == served.grpc_url  # type: ignore[index]

    folder = served.repository / MODEL_NAME / str(newest)
    hidden = folder.rename(tmp_path / "hidden")  # the server still answers with it
    done = CliRunner().invoke(app, ["model", "verify", "--live"])
    assert isinstance(done.exception, GateFailedError)
    assert f"version {newest} answers, not {newest - 1}" in str(done.exception)
    assert served.grpc_url in str(done.exception)
    hidden.rename(folder)

    content = (folder / "model.onnx").read_bytes()
    (folder / "model.onnx").write_bytes(content[:-1] + b"?")
    done = CliRunner().invoke(app, ["model", "verify", "--json"])
    assert isinstance(done.exception, GateFailedError)
    assert done.exception.subject == str(folder / "model.onnx")
    assert "sha256" in json.loads(done.stdout)[-1]["fault"]
    (folder / "model.onnx").write_bytes(content)


def test_a_server_that_is_down_is_told_from_a_mismatch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make_person_model(tmp_path / "bright", kind="bright")
    publish(tmp_path / "repository", tmp_path / "bright", endpoints=[], skip_smoke_load="-")
    monkeypatch.setenv("PRIVSEG_MODEL_REPOSITORY", str(tmp_path / "repository"))
    monkeypatch.setenv("PRIVSEG_TRITON_ENDPOINTS", "127.0.0.1:9")
    done = CliRunner().invoke(app, ["model", "verify", "--live"])
    assert isinstance(done.exception, ServerUnavailableError)


def test_pruning_spares_what_serves_and_what_was_before(tmp_path: Path) -> None:
    repository, number = tmp_path / "repository", 0
    for number, kind in enumerate(("bright", "inverse", "bright", "inverse")):
        make_person_model(tmp_path / str(number), kind=kind)  # type: ignore[arg-type]
        publish(repository, tmp_path / str(number), endpoints=[], skip_smoke_load="-")
    with pytest.raises(UsageError, match="keep=1"):
        prune(repository, 1)
    store = Store(repository)
    with store.locked():
        unchecked = store.add(make_bad_model(tmp_path / "green", "green"))
    assert unchecked == number + 2
    assert prune(repository, 2) == [1, 2]
    assert list_versions(repository) == [3, 4, unchecked]
    assert prune(repository, 2) == []


def test_a_roll_back_to_a_damaged_version_is_refused(tmp_path: Path) -> None:
    repository = tmp_path / "repository"
    for kind in ("bright", "inverse"):
        make_person_model(tmp_path / kind, kind=kind)  # type: ignore[arg-type]
        publish(repository, tmp_path / kind, endpoints=[], skip_smoke_load="-")
    (repository / MODEL_NAME / "1" / "model.onnx").write_bytes(b"rot")
    with pytest.raises(GateFailedError, match="sha256"):
        roll_back(repository, endpoints=[])
    assert current(repository) == 2
