"""A local server that is mended: its stub, itself and its supervisor are killed, with SIGKILL."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from privseg.errors import PrivsegError, ServerUnavailableError
from privseg.serving import local_triton
from privseg.serving.admin import Endpoint
from privseg.serving.artifact import MODEL_NAME
from privseg.serving.profiles import RuntimeChoice
from privseg.serving.repository import list_versions
from privseg.serving.triton_state import RunningTriton, processes, recorded, supervisor_is_alive
from privseg.serving.versions import Store
from privseg.testing.triton import ServedModel, make_person_model, running_triton

pytestmark = pytest.mark.slow

PICTURE = np.random.default_rng(1).integers(0, 256, (1, 64, 96, 3), dtype=np.uint8)
SECONDS = 100.0


@pytest.fixture
def kept(tmp_path: Path) -> Iterator[RunningTriton]:
    """A server as ``privseg triton up`` starts it; its state lies in ``state``."""
    make_person_model(tmp_path / "repository" / MODEL_NAME / "1")
    try:
        yield local_triton.up(tmp_path / "repository", tmp_path / "state")
    finally:
        local_triton.down(tmp_path / "state")


@pytest.fixture
def served(tmp_path: Path) -> Iterator[ServedModel]:
    with running_triton(tmp_path) as triton:
        yield triton


def wait_until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + SECONDS
    while not condition():
        assert time.monotonic() < deadline, "did not happen in time"
        time.sleep(0.05)


def answers(url: str) -> bool:
    try:
        with Endpoint(url) as endpoint:
            person, _ = endpoint.infer(PICTURE)
    except PrivsegError:
        return False
    return bool((person == np.maximum(PICTURE[..., 0], 1)).all())


def stubs(running: RunningTriton) -> set[int]:
    return set(processes(running)) - {running.pid}


def gone(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] in "ZX"
    except OSError:
        return True


def test_a_killed_stub_then_a_killed_server_then_a_killed_supervisor(kept: RunningTriton, tmp_path: Path) -> None:
    state = tmp_path / "state"
    (stub,) = stubs(kept)
    os.kill(stub, signal.SIGKILL)
    wait_until(lambda: (recorded(state) or kept).reloads == 1)
    assert answers(kept.grpc_url)
    reloaded = local_triton.status(state)
    assert reloaded is not None
    assert (reloaded.pid, reloaded.restarts) == (kept.pid, 0)
    assert "the model was loaded again" in reloaded.last_event

    os.kill(kept.pid, signal.SIGKILL)
    wait_until(lambda: (recorded(state) or kept).restarts == 1)
    restarted = local_triton.status(state)
    assert restarted is not None
    assert restarted.pid != kept.pid
    assert restarted.reloads == 1
    assert (restarted.grpc_url, restarted.http_url, restarted.metrics_url) == (
        kept.grpc_url,
        kept.http_url,
        kept.metrics_url,
    )
    assert answers(kept.grpc_url)
    assert restarted.shared_memory_directory == Path(f"/proc/{restarted.pid}/root/dev/shm")
    assert restarted.shared_memory_directory.is_dir()
    assert stubs(kept) == set()
    log = (state / "supervisor.log").read_text()
    assert log.index("a stub died; try 1 of") < log.index("the server died; try")

    os.kill(restarted.supervisor, signal.SIGKILL)
    wait_until(lambda: processes(restarted) == [])  # the kernel ends the server with its parent, and it its stubs
    assert local_triton.status(state) is None

    again = local_triton.up(tmp_path / "repository", state)
    assert again.grpc_url == kept.grpc_url
    assert again.supervisor != restarted.supervisor
    assert answers(again.grpc_url)
    assert (state / "triton.previous.log").is_file()
    assert (state / "supervisor.previous.log").is_file()


def test_down_ends_the_supervisor_with_its_server(kept: RunningTriton, tmp_path: Path) -> None:
    assert supervisor_is_alive(kept)
    assert local_triton.down(tmp_path / "state")
    assert gone(kept.supervisor)
    assert processes(kept) == []
    assert local_triton.status(tmp_path / "state") is None
    assert not local_triton.down(tmp_path / "state")


def test_down_finds_what_a_stopped_supervisor_and_a_killed_server_left(kept: RunningTriton, tmp_path: Path) -> None:
    """A supervisor that cannot react: it is ended by SIGKILL, and starts no server any more."""
    os.kill(kept.supervisor, signal.SIGSTOP)
    os.kill(kept.pid, signal.SIGKILL)
    assert local_triton.down(tmp_path / "state")
    assert gone(kept.supervisor)
    assert processes(kept) == []


def test_a_first_start_that_fails_says_why_and_leaves_nothing(tmp_path: Path) -> None:
    make_person_model(tmp_path / "repository" / MODEL_NAME / "1", kind="garbage")
    with pytest.raises(ServerUnavailableError, match="did not become ready") as caught:
        local_triton.up(tmp_path / "repository", tmp_path / "state")
    assert str(tmp_path / "state" / "triton.log") in caught.value.next_step
    assert recorded(tmp_path / "state") is None


def test_every_instance_counts(tmp_path: Path) -> None:
    """The other instance answers on, but half of the requests would be refused."""
    with (
        running_triton(tmp_path, choice=RuntimeChoice(instances=2)) as triton,
        triton.supervised() as supervisor,
    ):
        running = triton.status()
        assert running is not None
        first, second = stubs(running)
        os.kill(first, signal.SIGKILL)
        wait_until(lambda: supervisor.record.reloads == 1)
        assert len(stubs(running) - {first, second}) == 2
        assert all(answers(triton.grpc_url) for _ in range(8))


def test_what_a_dead_publisher_left_is_not_loaded_with_the_reload(served: ServedModel, tmp_path: Path) -> None:
    store = Store(served.repository)
    with store.locked():
        store.add(make_person_model(tmp_path / "unchecked", kind="inverse"))
    running = served.status()
    assert running is not None
    with served.supervised() as supervisor:
        os.kill(stubs(running).pop(), signal.SIGKILL)
        wait_until(lambda: supervisor.record.reloads == 1)
        assert answers(served.grpc_url)  # as version 1 does
    assert list_versions(served.repository) == [1]


def test_it_gives_up_when_nothing_helps_and_says_so(served: ServedModel) -> None:
    """Fault: the model's file is damaged on the disk after it was loaded, then its server dies."""
    running = served.status()
    assert running is not None
    with served.supervised(delays=(0.0, 0.0)) as supervisor:
        model = served.repository / MODEL_NAME / "1" / "model.onnx"
        model.write_bytes(model.read_bytes() + b"!")
        os.kill(running.pid, signal.SIGKILL)
        wait_until(lambda: "given up after 2 tries" in supervisor.record.last_event)
    assert served.status() is None
    assert "is not running" in local_triton.why_not_running(served.state_dir)
    assert "given up after 2 tries" in local_triton.why_not_running(served.state_dir)
