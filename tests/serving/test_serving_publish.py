"""Publishing to real servers: load-over, golden frame, taking back, full disks, dead publishers."""

from __future__ import annotations

import functools
import json
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from privseg.errors import GateFailedError, ServerUnavailableError, UsageError
from privseg.serving.access import Access
from privseg.serving.admin import Endpoint
from privseg.serving.artifact import MODEL_NAME, Artifact
from privseg.serving.local_triton import LocalTriton
from privseg.serving.repository import current, list_versions, read_record, roll_back, verify
from privseg.serving.repository import publish as publish_and_try
from privseg.serving.triton_state import processes
from privseg.serving.versions import Store
from privseg.testing.triton import Kind, ServedModel, make_person_model, running_triton

publish = functools.partial(publish_and_try, skip_smoke_load="test_serving_smoke_load.py has it")
PICTURE = np.random.default_rng(1).integers(0, 256, (1, 64, 96, 3), dtype=np.uint8)
RED = PICTURE[..., 0]
EXPECTED = {"bright": np.maximum(RED, 1), "inverse": np.maximum(255 - RED, 1), "blank": np.ones_like(RED)}


@pytest.fixture(scope="module")
def triton(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServedModel]:
    """A server with an empty repository; every test publishes what it needs."""
    with running_triton(tmp_path_factory.mktemp("publish"), kind=None) as served:
        yield served


@pytest.fixture
def served(triton: ServedModel, tmp_path: Path) -> ServedModel:
    """The server, answering with the ``bright`` model."""
    publish(
        triton.repository, model(tmp_path, "bright"), endpoints=[triton.grpc_url], skip_smoke_load="tried elsewhere"
    )
    return triton


def model(folder: Path, kind: Kind) -> Path:
    make_person_model(folder / kind, kind=kind)
    return folder / kind


def answer(url: str) -> tuple[np.ndarray, int]:
    with Endpoint(url) as endpoint:
        return endpoint.infer(PICTURE)


def assert_serves(triton: ServedModel, kind: str, version: int) -> None:
    person, answered_by = answer(triton.grpc_url)
    assert answered_by == version
    np.testing.assert_array_equal(person, EXPECTED[kind])


def assert_tidy(repository: Path) -> None:
    assert list((repository / ".staging").iterdir()) == []
    assert not (repository / ".pending").exists()
    for version in list_versions(repository):
        verify(repository, version)
        files = {entry.name for entry in (repository / MODEL_NAME / str(version)).iterdir()}
        assert files == {"model.onnx", "model.json"}
    assert {e.name for e in (repository / MODEL_NAME).iterdir()} == {
        "config.pbtxt",
        *map(str, list_versions(repository)),
    }


def test_first_version_then_the_next_without_a_failed_request(tmp_path: Path) -> None:
    with running_triton(tmp_path, kind=None) as triton:
        first = publish(
            triton.repository, model(tmp_path, "bright"), endpoints=[triton.grpc_url], skip_smoke_load="tried elsewhere"
        )
        assert (first.version, first.reused) == (1, False)
        assert first.model_json["candidate"] == "test_bright"
        for size in [(64, 96), (512, 512)]:
            picture = np.random.default_rng(3).integers(0, 256, (1, *size, 3), dtype=np.uint8)
            with Endpoint(triton.grpc_url) as endpoint:
                np.testing.assert_array_equal(endpoint.infer(picture)[0], np.maximum(picture[..., 0], 1))
        config = triton.repository / MODEL_NAME / "config.pbtxt"
        before = (config.read_bytes(), config.stat().st_mtime_ns)

        answers: list[tuple[np.ndarray, int]] = []
        failures: list[Exception] = []
        enough, done = threading.Event(), threading.Event()

        def loop() -> None:
            with Endpoint(triton.grpc_url) as endpoint:
                after = 0
                while after < 20:
                    after += done.is_set()
                    try:
                        answers.append(endpoint.infer(PICTURE))
                    except Exception as error:
                        failures.append(error)
                    if len(answers) > 20:
                        enough.set()

        client = threading.Thread(target=loop)
        client.start()
        assert enough.wait(30)
        second = publish(
            triton.repository,
            model(tmp_path, "inverse"),
            endpoints=[triton.grpc_url],
            skip_smoke_load="tried elsewhere",
        )
        done.set()
        client.join(60)
        assert failures == []
        assert second.version == 2
        assert {version for _, version in answers} == {1, 2}
        for person, version in answers:
            np.testing.assert_array_equal(person, EXPECTED["bright" if version == 1 else "inverse"])
        assert [version for _, version in answers] == sorted(version for _, version in answers)
        assert (config.read_bytes(), config.stat().st_mtime_ns) == before
        assert list_versions(triton.repository) == [1, 2]
        assert read_record(triton.repository, 2) == second.model_json

        assert roll_back(triton.repository, endpoints=[triton.grpc_url]) == 1
        assert_serves(triton, "bright", 1)
        again = publish(
            triton.repository,
            model(tmp_path, "inverse"),
            endpoints=[triton.grpc_url],
            skip_smoke_load="tried elsewhere",
        )
        assert again.version == 3  # a number is never used twice
        with pytest.raises(UsageError, match="no version 2"):
            verify(triton.repository, 2)
        publish(triton.repository, model(tmp_path, "bright"), endpoints=[triton.grpc_url], keep=2)
        assert list_versions(triton.repository) == [3, 4]  # N and N-1 stay
        assert_serves(triton, "bright", 4)
        assert_tidy(triton.repository)


def test_the_same_model_is_not_published_twice(served: ServedModel, tmp_path: Path) -> None:
    before = list_versions(served.repository)
    again = publish(
        served.repository, model(tmp_path, "bright"), endpoints=[served.grpc_url], skip_smoke_load="tried elsewhere"
    )
    assert again.reused
    assert again.version == before[-1]
    assert list_versions(served.repository) == before


@pytest.mark.parametrize("kind", ["garbage", "tampered", "incomplete"])
def test_a_damaged_artifact_never_reaches_the_repository(served: ServedModel, tmp_path: Path, kind: str) -> None:
    artifact = model(tmp_path, "garbage" if kind == "garbage" else "inverse")
    if kind == "tampered":
        (artifact / "model.onnx").write_bytes((artifact / "model.onnx").read_bytes() + b"\0")
    if kind == "incomplete":
        (artifact / "model.json").unlink()
    before = list_versions(served.repository)
    with pytest.raises(GateFailedError):
        publish(served.repository, artifact, endpoints=[served.grpc_url], skip_smoke_load="tried elsewhere")
    assert list_versions(served.repository) == before
    assert_serves(served, "bright", before[-1])


def test_a_model_that_answers_0_is_refused_before_any_server_sees_it(served: ServedModel, tmp_path: Path) -> None:
    before = list_versions(served.repository)
    with pytest.raises(GateFailedError, match=r"answers 0, which means not computed, at 100\.0%"):
        publish(
            served.repository, model(tmp_path, "zeros"), endpoints=[served.grpc_url], skip_smoke_load="tried elsewhere"
        )
    assert list_versions(served.repository) == before
    assert_serves(served, "bright", before[-1])


def test_a_server_that_answers_0_where_the_model_does_not_is_refused(
    served: ServedModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Fault: the server alone leaves a pixel uncomputed, too few to show in a mean."""
    infer = Endpoint.infer

    def infer_with_a_hole(server: Endpoint, images: np.ndarray) -> tuple[np.ndarray, int]:
        person, version = infer(server, images)
        person = person.copy()
        person[:, 0, 0] = 0
        return person, version

    before = list_versions(served.repository)
    monkeypatch.setattr(Endpoint, "infer", infer_with_a_hole)
    with pytest.raises(GateFailedError, match=f"not computed.*version {before[-1]} serves again"):
        publish(
            served.repository,
            model(tmp_path, "inverse"),
            endpoints=[served.grpc_url],
            skip_smoke_load="tried elsewhere",
        )
    monkeypatch.undo()
    assert_serves(served, "bright", before[-1])


def test_a_server_that_answers_something_else_gets_the_old_version_back(served: ServedModel, tmp_path: Path) -> None:
    before = list_versions(served.repository)
    with pytest.raises(GateFailedError, match=f"golden frame.*version {before[-1]} serves again") as caught:
        publish(
            served.repository, model(tmp_path, "random"), endpoints=[served.grpc_url], skip_smoke_load="tried elsewhere"
        )
    assert caught.value.exit_code == 4
    assert list_versions(served.repository) == before
    assert any(entry.name.endswith("-gatefailed") for entry in (served.repository / ".rejected").iterdir())
    assert_serves(served, "bright", before[-1])
    assert_tidy(served.repository)


def test_a_version_that_rots_on_the_way_is_refused_by_the_server(
    served: ServedModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Fault: the file changes between the rename and the server's load."""
    add = Store.add

    def add_and_damage(store: Store, artifact: Artifact) -> int:
        version = add(store, artifact)
        path = served.repository / MODEL_NAME / str(version) / "model.onnx"
        path.write_bytes(path.read_bytes()[:-4] + b"rot!")
        return version

    monkeypatch.setattr(Store, "add", add_and_damage)
    before = list_versions(served.repository)
    with pytest.raises(GateFailedError, match=r"refused: sha256 of model\.onnx"):
        publish(
            served.repository,
            model(tmp_path, "inverse"),
            endpoints=[served.grpc_url],
            skip_smoke_load="tried elsewhere",
        )
    assert_serves(served, "bright", before[-1])
    assert list_versions(served.repository) == before


def test_a_first_version_that_fails_is_not_served(tmp_path: Path) -> None:
    with running_triton(tmp_path, kind=None) as triton:
        with pytest.raises(GateFailedError, match="no version serves"):
            publish(
                triton.repository,
                model(tmp_path, "random"),
                endpoints=[triton.grpc_url],
                skip_smoke_load="tried elsewhere",
            )
        assert current(triton.repository) is None
        with pytest.raises((GateFailedError, ServerUnavailableError)):
            answer(triton.grpc_url)


def test_a_server_that_is_down_leaves_the_repository_as_it_was(tmp_path: Path) -> None:
    with running_triton(tmp_path) as triton:
        triton.kill()
        with pytest.raises(ServerUnavailableError) as caught:
            publish(
                triton.repository,
                model(tmp_path, "inverse"),
                endpoints=[triton.grpc_url],
                skip_smoke_load="tried elsewhere",
            )
        assert caught.value.exit_code == 5
        assert list_versions(triton.repository) == [1]
        assert_tidy(triton.repository)
        triton.restart()
        assert_serves(triton, "bright", 1)


def test_a_dead_stub_is_revived_by_publishing_the_same_model_again(served: ServedModel, tmp_path: Path) -> None:
    running = served.status()
    assert running is not None
    deadline = time.monotonic() + 20
    while len(processes(running)) > 2 and time.monotonic() < deadline:  # the version before may be unloading
        time.sleep(0.02)
    (stub,) = set(processes(running)) - {running.pid}
    subprocess.run(["kill", "-9", str(stub)], check=True)
    with pytest.raises(GateFailedError):
        answer(served.grpc_url)
    again = publish(
        served.repository, model(tmp_path, "bright"), endpoints=[served.grpc_url], skip_smoke_load="tried elsewhere"
    )
    assert again.reused
    assert_serves(served, "bright", again.version)


def test_an_admin_key_guards_model_control_and_publish_takes_it(tmp_path: Path) -> None:
    repository = tmp_path / "repository"
    guard = "--grpc-restricted-protocol=model-repository:admin-key=secret"
    with LocalTriton(repository, tmp_path / "state", extra_arguments=(guard,)) as server:
        running = server.status()
        assert running is not None
        with pytest.raises(ServerUnavailableError, match="admin key"):
            publish(
                repository, model(tmp_path, "bright"), endpoints=[running.grpc_url], skip_smoke_load="tried elsewhere"
            )
        assert list_versions(repository) == []
        published = publish(
            repository, model(tmp_path, "bright"), endpoints=[running.grpc_url], access=Access(admin_key="secret")
        )
        assert answer(running.grpc_url)[1] == published.version


def test_what_cannot_be_kept_or_rolled_back_is_said(tmp_path: Path) -> None:
    repository = tmp_path / "repository"
    with pytest.raises(UsageError, match="keep=1"):
        publish(repository, model(tmp_path, "bright"), endpoints=[], keep=1)
    publish(repository, model(tmp_path, "bright"), endpoints=[], skip_smoke_load="tried elsewhere")
    with pytest.raises(UsageError, match="no older version"):
        roll_back(repository, endpoints=[])


def test_a_version_damaged_on_disk_is_seen_and_replaced(tmp_path: Path) -> None:
    repository = tmp_path / "repository"
    publish(repository, model(tmp_path, "bright"), endpoints=[], skip_smoke_load="tried elsewhere")
    path = repository / MODEL_NAME / "1" / "model.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "sha256": "0" * 64}))
    with pytest.raises(GateFailedError, match="sha256"):
        verify(repository, 1)
    assert publish(repository, model(tmp_path, "bright"), endpoints=[], skip_smoke_load="tried elsewhere").version == 2
