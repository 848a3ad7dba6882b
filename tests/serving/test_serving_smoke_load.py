"""The throw-away Triton in which a candidate is tried before the servers that serve hear of it."""

from __future__ import annotations

import fcntl
import tempfile
from pathlib import Path

import pytest

from privseg.errors import GateFailedError, ServerUnavailableError
from privseg.serving import smoke_load as smoke_load_module
from privseg.serving.exam import Exam
from privseg.serving.history import read_history
from privseg.serving.repository import list_versions, publish
from privseg.serving.smoke_load import smoke_load
from privseg.serving.triton_state import recorded
from privseg.testing.triton import make_person_model, running_triton


@pytest.fixture(autouse=True)
def own_temporary_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Leftovers of other tests on this machine are not this test's business."""
    folder = tmp_path / "temporary"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    return folder


def test_a_good_candidate_is_tried_then_published(own_temporary_folder: Path, tmp_path: Path) -> None:
    make_person_model(tmp_path / "bright", kind="bright")
    assert publish(tmp_path / "repository", tmp_path / "bright", endpoints=[]).version == 1
    assert [(e["event"], e["smoke_load"]) for e in read_history(tmp_path / "repository")] == [("published", "passed")]
    assert list(own_temporary_folder.iterdir()) == []


def test_what_fails_there_never_reaches_the_real_repository(own_temporary_folder: Path, tmp_path: Path) -> None:
    make_person_model(tmp_path / "random", kind="random")
    with pytest.raises(GateFailedError, match="fails in a throw-away Triton: a golden frame's answer is off"):
        publish(tmp_path / "repository", tmp_path / "random", endpoints=[])
    assert list_versions(tmp_path / "repository") == []
    (event,) = read_history(tmp_path / "repository")
    assert (event["event"], "throw-away" in event["reason"]) == ("refused", True)
    assert list(own_temporary_folder.iterdir()) == []


def test_a_candidate_that_ends_its_server_is_at_fault(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Fault: the server is gone when the candidate has been loaded, as after a crash in a runtime's native code."""
    candidate = make_person_model(tmp_path / "bright", kind="bright")
    load, servers = smoke_load_module.Endpoint.load, []

    class Watched(smoke_load_module.LocalTriton):
        def __enter__(self) -> Watched:
            servers.append(self)
            super().__enter__()
            return self

    def load_and_crash(endpoint: smoke_load_module.Endpoint) -> None:
        load(endpoint)
        servers[0].kill()

    monkeypatch.setattr(smoke_load_module, "LocalTriton", Watched)
    monkeypatch.setattr(smoke_load_module.Endpoint, "load", load_and_crash)
    with pytest.raises(GateFailedError, match="Triton died of it"):
        smoke_load(candidate, Exam.of(candidate.onnx))


def test_without_a_triton_here_the_way_around_is_named_and_its_reason_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_installation() -> None:
        raise ServerUnavailableError("tritonserver", "is not installed", "run `make setup`")

    monkeypatch.setattr(smoke_load_module, "find_installation", no_installation)
    make_person_model(tmp_path / "bright", kind="bright")
    with pytest.raises(ServerUnavailableError, match="--skip-smoke-load"):
        publish(tmp_path / "repository", tmp_path / "bright", endpoints=[])
    assert list_versions(tmp_path / "repository") == []
    publish(tmp_path / "repository", tmp_path / "bright", endpoints=[], skip_smoke_load="no Triton on the scheduler")
    assert read_history(tmp_path / "repository")[-1]["smoke_load"] == "skipped: no Triton on the scheduler"


def test_what_a_killed_publisher_left_running_is_ended(own_temporary_folder: Path, tmp_path: Path) -> None:
    abandoned, at_work = own_temporary_folder / "privseg-smoke-dead", own_temporary_folder / "privseg-smoke-alive"
    for folder in (abandoned, at_work):
        folder.mkdir()
        (folder / "owner").touch()
    candidate = make_person_model(tmp_path / "bright", kind="bright")
    with running_triton(tmp_path / "served") as triton, (at_work / "owner").open() as owner:
        fcntl.flock(owner, fcntl.LOCK_EX)
        (abandoned / "triton").symlink_to(triton.state_dir, target_is_directory=True)
        smoke_load(candidate, Exam.of(candidate.onnx))
        assert triton.status() is None
        assert recorded(triton.state_dir) is None
        assert list(own_temporary_folder.iterdir()) == [at_work]
