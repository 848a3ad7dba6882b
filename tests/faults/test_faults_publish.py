"""What can go wrong on the servers while a model is published: whatever it is, the old one answers on."""

from __future__ import annotations

import contextlib
import functools
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from privseg.errors import GateFailedError, ServerUnavailableError, StorageError
from privseg.serving import repository as repository_module
from privseg.serving.admin import Endpoint
from privseg.serving.exam import Exam
from privseg.serving.history import read_history
from privseg.serving.local_triton import LocalTriton
from privseg.serving.rejected import list_rejected
from privseg.serving.repository import current, list_versions, promote, roll_back, verify
from privseg.serving.repository import publish as publish_and_try
from privseg.testing.asking import AskingClients
from privseg.testing.bad_models import BadKind, make_bad_model
from privseg.testing.triton import Kind, ServedModel, make_person_model, running_triton

PICTURE = np.random.default_rng(1).integers(1, 255, (1, 64, 96, 3), dtype=np.uint8)
ANSWERS = {"bright": PICTURE[..., 0], "inverse": 255 - PICTURE[..., 0]}
NO_SMOKE = "not what is tested"
publish = functools.partial(publish_and_try, skip_smoke_load=NO_SMOKE)


@pytest.fixture(scope="module")
def triton(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServedModel]:
    with running_triton(tmp_path_factory.mktemp("faults"), kind=None) as served:
        yield served


@pytest.fixture
def served(triton: ServedModel, tmp_path: Path) -> ServedModel:
    publish(
        triton.repository, model(tmp_path, "bright"), endpoints=[triton.grpc_url], skip_smoke_load="tried elsewhere"
    )
    return triton


def model(folder: Path, kind: Kind) -> Path:
    make_person_model(folder / kind, kind=kind)
    return folder / kind


def assert_serves(triton: ServedModel, kind: str, version: int | None) -> None:
    with Endpoint(triton.grpc_url) as endpoint:
        person, answered_by = endpoint.infer(PICTURE)
    assert answered_by == version
    np.testing.assert_array_equal(person, ANSWERS[kind])


@pytest.mark.parametrize("kind", ["truncated", "signature", "shape", "nan", "nobody", "everybody", "same"])
def test_a_bad_model_is_refused_and_remembered_with_its_reason(
    served: ServedModel, tmp_path: Path, kind: BadKind
) -> None:
    before = list_versions(served.repository)
    artifact = make_bad_model(tmp_path / kind, kind)
    with pytest.raises(GateFailedError) as caught:
        publish(served.repository, tmp_path / kind, endpoints=[served.grpc_url])
    assert list_versions(served.repository) == before
    assert_serves(served, "bright", before[-1])
    refused = list_rejected(served.repository)[-1]
    assert (refused.version, refused.kind, refused.sha256) == (None, "gatefailed", artifact.sha256)
    assert refused.reason == f"{caught.value.subject}: {caught.value.fault}"


@pytest.mark.parametrize("kind", ["truncated", "signature", "shape", "nan", "nobody"])
def test_servers_refuse_what_a_blind_publisher_lets_through(
    served: ServedModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: BadKind
) -> None:
    """Fault: in the publisher's own process the candidate looks like a good one."""
    good = Exam.of(make_person_model(tmp_path / "inverse", kind="inverse").onnx)
    make_bad_model(tmp_path / kind, kind)
    before = list_versions(served.repository)
    with monkeypatch.context() as blind:
        blind.setattr(repository_module.Exam, "of", lambda *_: good)
        with pytest.raises(GateFailedError, match=f"was taken back.*version {before[-1]} serves again"):
            publish(served.repository, tmp_path / kind, endpoints=[served.grpc_url])
    assert list_versions(served.repository) == before
    assert_serves(served, "bright", before[-1])
    taken_back = [entry for entry in list_rejected(served.repository) if entry.version][-1]
    assert taken_back.kind == "gatefailed"
    assert served.grpc_url in taken_back.reason


def test_a_server_killed_while_it_loads_restarts_with_the_old_version(served: ServedModel, tmp_path: Path) -> None:
    before = list_versions(served.repository)
    loading = f"loading: person_segmentation:{max(before[-1], *taken(served)) + 1}"

    def kill_while_it_loads() -> None:
        while loading not in served.log.read_text(errors="replace"):
            os.sched_yield()
        served.kill()

    killer = threading.Thread(target=kill_while_it_loads)
    killer.start()
    try:
        with pytest.raises(ServerUnavailableError, match=f"version {before[-1]} serves again, but not confirmed"):
            publish(served.repository, model(tmp_path, "inverse"), endpoints=[served.grpc_url])
    finally:
        killer.join()
        served.restart()
    assert list_versions(served.repository) == before
    assert_serves(served, "bright", before[-1])
    assert publish(served.repository, model(tmp_path, "inverse"), endpoints=[served.grpc_url]).version > before[-1]


def taken(triton: ServedModel) -> list[int]:
    return [0, *(entry.version for entry in list_rejected(triton.repository) if entry.version)]


def test_a_full_disk_stops_a_publication_and_neither_the_old_version_nor_a_roll_back(
    small_disk: Path, tmp_path: Path
) -> None:
    repository = small_disk / "repository"
    with LocalTriton(repository, tmp_path / "state") as server:
        running = server.status()
        assert running is not None
        for kind in ("inverse", "bright"):
            publish(repository, model(tmp_path, kind), endpoints=[running.grpc_url])
        with (small_disk / "filler").open("wb", buffering=0) as filler, contextlib.suppress(OSError):
            while True:
                filler.write(b"\0" * 4096)
        make_bad_model(tmp_path / "green", "green")
        with pytest.raises(StorageError, match="no space left") as caught:
            publish(repository, tmp_path / "green", endpoints=[running.grpc_url])
        assert caught.value.exit_code == 7
        assert list_versions(repository) == [1, 2]
        assert list((repository / ".staging").iterdir()) == []
        with Endpoint(running.grpc_url) as endpoint:
            np.testing.assert_array_equal(endpoint.infer(PICTURE)[0], ANSWERS["bright"])
            assert roll_back(repository, endpoints=[running.grpc_url]) == 1
            np.testing.assert_array_equal(endpoint.infer(PICTURE)[0], ANSWERS["inverse"])
        (small_disk / "filler").unlink()
        assert publish(repository, tmp_path / "green", endpoints=[running.grpc_url]).version == 3


def test_a_disk_that_fills_after_the_load_takes_the_version_back(
    served: ServedModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Fault: there is room for the model, and none for the line in the history."""
    before = list_versions(served.repository)

    def full(repository: Path, *_: object) -> None:
        raise StorageError(repository, "no space left on the disk", "free space there")

    monkeypatch.setattr(repository_module, "note", full)
    with pytest.raises(StorageError, match=f"was taken back: no space left.*version {before[-1]} serves again"):
        publish(served.repository, model(tmp_path, "inverse"), endpoints=[served.grpc_url])
    assert list_versions(served.repository) == before
    assert_serves(served, "bright", before[-1])


_PUBLISHER = """
import sys
from pathlib import Path
from privseg.serving.repository import publish
sys.stdin.readline()
print(publish(Path(sys.argv[1]), Path(sys.argv[2]), endpoints=[sys.argv[3]], skip_smoke_load="-").version)
"""


def test_two_publishers_at_once_go_one_after_the_other(served: ServedModel, tmp_path: Path) -> None:
    before = current(served.repository) or 0
    make_bad_model(tmp_path / "green", "green")
    artifacts = [model(tmp_path, "inverse"), tmp_path / "green"]
    publishers = [
        subprocess.Popen(
            [sys.executable, "-c", _PUBLISHER, served.repository, artifact, served.grpc_url],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for artifact in artifacts
    ]
    done = [publisher.communicate("go\n", timeout=120) for publisher in publishers]
    assert [publisher.returncode for publisher in publishers] == [0, 0], done
    numbers = [int(out) for out, _ in done]
    assert sorted(numbers) == [max(before, *taken(served)) + 1, max(before, *taken(served)) + 2]
    for artifact, number in zip(artifacts, numbers, strict=True):
        assert verify(served.repository, number)["candidate"] == f"test_{artifact.name}"
    with Endpoint(served.grpc_url) as endpoint:
        assert endpoint.infer(PICTURE)[1] == max(numbers)


def test_clients_that_ask_all_the_time_notice_nothing(served: ServedModel, tmp_path: Path) -> None:
    """Three promotions and two roll backs; `make soak` does fifty and twenty."""
    how = {"endpoints": [served.grpc_url], "skip_smoke_load": NO_SMOKE}
    served_before = current(served.repository) or 0
    with AskingClients(served.grpc_url, PICTURE) as clients:
        clients.wait_for_more(5)
        publish(served.repository, model(tmp_path, "inverse"), endpoints=[served.grpc_url])
        clients.wait_for_more(5)
        assert roll_back(served.repository, endpoints=[served.grpc_url]) == served_before
        clients.wait_for_more(5)
        again = publish(served.repository, model(tmp_path, "inverse"), endpoints=[served.grpc_url]).version
        older = promote(served.repository, served_before, **how).version
        clients.wait_for_more(5)
        assert roll_back(served.repository, endpoints=[served.grpc_url]) == again
        clients.wait_for_more(5)
    assert clients.failures == []
    assert clients.differing == {}
    for runs in clients.versions:
        assert runs[0][0] == served_before
        assert runs[-1][0] == again
    for version, person in clients.answers.items():
        kind = "bright" if version in {served_before, older} else "inverse"
        np.testing.assert_array_equal(person, ANSWERS[kind])
    events = [event["event"] for event in read_history(served.repository)][-5:]
    assert events == ["published", "rolled_back", "published", "promoted", "rolled_back"]
