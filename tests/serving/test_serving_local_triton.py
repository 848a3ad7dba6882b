"""The local server: a real tritonserver on loopback."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from tritonclient.grpc import InferenceServerClient

from privseg.errors import GateFailedError, ServerUnavailableError, UsageError
from privseg.serving import local_triton
from privseg.serving.admin import Endpoint
from privseg.serving.artifact import MODEL_NAME
from privseg.serving.installation import find_installation
from privseg.serving.local_triton import LocalTriton
from privseg.serving.triton_state import RunningTriton, processes, recorded
from privseg.testing.triton import ServedModel, make_person_model, running_triton

ROOT = Path(__file__).parents[2]
PICTURE = np.random.default_rng(1).integers(0, 256, (1, 64, 96, 3), dtype=np.uint8)


@pytest.fixture(scope="module")
def triton(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServedModel]:
    with running_triton(tmp_path_factory.mktemp("triton")) as served:
        yield served


def wait_until(condition: Callable[[], bool], seconds: float = 20) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "did not happen in time"
        time.sleep(0.02)


def regions(server: RunningTriton) -> list[Path]:
    return list(Path("/dev/shm").glob(f"{server.region}*"))


@pytest.mark.parametrize("size", [(64, 96), (512, 512)])
def test_answers_the_contract_at_any_size(triton: ServedModel, size: tuple[int, int]) -> None:
    pictures = np.random.default_rng(2).integers(0, 256, (2, *size, 3), dtype=np.uint8)
    with Endpoint(triton.grpc_url) as endpoint:
        person, version = endpoint.infer(pictures)
    assert version == 1
    assert person.dtype == np.uint8
    np.testing.assert_array_equal(person, np.maximum(pictures[..., 0], 1))


def test_refuses_a_size_that_is_no_multiple_of_32_and_goes_on(triton: ServedModel) -> None:
    with Endpoint(triton.grpc_url) as endpoint:
        with pytest.raises(GateFailedError, match="multiples of 32"):
            endpoint.infer(np.zeros((1, 64, 65, 3), np.uint8))
        endpoint.infer(PICTURE)


def test_concurrent_requests_of_mixed_sizes_each_get_their_own_answer(triton: ServedModel) -> None:
    from concurrent.futures import ThreadPoolExecutor

    random = np.random.default_rng(3)
    pictures = [random.integers(0, 256, (1, 32 * (1 + k % 3), 64, 3), dtype=np.uint8) for k in range(24)]

    def ask(picture: np.ndarray) -> np.ndarray:
        with Endpoint(triton.grpc_url) as endpoint:
            return endpoint.infer(picture)[0]

    with ThreadPoolExecutor(8) as pool:
        for picture, person in zip(pictures, pool.map(ask, pictures), strict=True):
            np.testing.assert_array_equal(person, np.maximum(picture[..., 0], 1))


def test_listens_on_loopback_only_and_counts_requests(triton: ServedModel) -> None:
    running = triton.status()
    assert running is not None
    assert running.ready
    assert running.versions == (1,)
    listening = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    ports = {running.grpc_port, running.http_port, running.metrics_port}
    addresses = {f[1].split(":")[0] for f in listening if f[3] == "0A" and int(f[1].split(":")[1], 16) in ports}
    assert addresses == {"0100007F"}
    connection = http.client.HTTPConnection("127.0.0.1", running.metrics_port, timeout=5)
    with contextlib.closing(connection):
        connection.request("GET", "/metrics")
        metrics = connection.getresponse().read().decode()
    assert 'nv_inference_request_success{model="person_segmentation",version="1"}' in metrics


def test_a_request_may_wait_as_long_as_a_recording_does_and_ask_for_less(triton: ServedModel) -> None:
    with InferenceServerClient(triton.grpc_url) as client:
        policy = client.get_model_config(MODEL_NAME).config.dynamic_batching.default_queue_policy
    assert policy.default_timeout_microseconds == 10_000_000
    assert policy.allow_timeout_override


def test_starts_again_on_its_ports_after_a_crash(tmp_path: Path) -> None:
    with running_triton(tmp_path) as served:
        before = served.status()
        assert before is not None
        served.kill()
        assert served.status() is None
        assert processes(before) == []
        with Endpoint(served.grpc_url) as endpoint, pytest.raises(ServerUnavailableError):
            endpoint.infer(PICTURE)
        served.restart()
        after = served.status()
        assert after is not None
        assert (after.grpc_port, after.http_port) == (before.grpc_port, before.http_port)
        with Endpoint(served.grpc_url) as endpoint:
            assert endpoint.infer(PICTURE)[1] == 1
    assert processes(after) == []
    assert regions(before) == regions(after) == []


def test_up_returns_the_running_server_and_down_leaves_nothing(tmp_path: Path) -> None:
    repository, state = tmp_path / "repository", tmp_path / "state"
    make_person_model(repository / "person_segmentation" / "1")
    try:
        first = local_triton.up(repository, state)
        assert (state / "triton.json").is_file()
        assert len(processes(first)) == 2  # the server and its stub
        second = local_triton.up(repository, state)
        assert second.pid == first.pid
        with pytest.raises(ServerUnavailableError, match="runs already, on"):
            local_triton.up(tmp_path / "another", state)
        with pytest.raises(ServerUnavailableError, match="runs already"):
            LocalTriton(repository, state).start()
    finally:
        assert local_triton.down(state)
    assert processes(first) == []
    assert regions(first) == []
    assert local_triton.status(state) is None
    assert not local_triton.down(state)


def test_up_after_a_crash_keeps_the_address_that_clients_know(tmp_path: Path) -> None:
    repository, state_dir = tmp_path / "models", tmp_path / "state"
    try:
        first = local_triton.up(repository, state_dir)
        os.kill(first.supervisor, signal.SIGSTOP)  # or it would be quicker
        os.kill(first.pid, signal.SIGKILL)

        again = local_triton.up(repository, state_dir)

        assert again.pid != first.pid
        assert (again.grpc_url, again.http_url, again.metrics_url) == (
            first.grpc_url,
            first.http_url,
            first.metrics_url,
        )
    finally:
        local_triton.down(state_dir)


def test_up_takes_free_ports_where_the_usual_ones_are_taken(tmp_path: Path) -> None:
    one, two = tmp_path / "one", tmp_path / "two"
    try:
        first, second = local_triton.up(tmp_path / "models-one", one), local_triton.up(tmp_path / "models-two", two)
        ports = [int(url.rpartition(":")[2].split("/")[0]) for url in (first.grpc_url, second.grpc_url)]
        assert len(set(ports)) == 2
    finally:
        local_triton.down(one)
        local_triton.down(two)


def test_up_replaces_a_server_that_refuses_to_segment_and_has_nobody_to_mend_it(tmp_path: Path) -> None:
    with running_triton(tmp_path) as served:
        first = served.status()
        assert first is not None
        (stub,) = set(processes(first)) - {first.pid}
        os.kill(stub, signal.SIGKILL)
        with Endpoint(first.grpc_url) as endpoint, pytest.raises(GateFailedError, match="not healthy"):
            endpoint.infer(PICTURE)
        try:
            second = local_triton.up(served.repository, served.state_dir)
            assert second.pid != first.pid
            assert second.grpc_port == first.grpc_port
            with Endpoint(second.grpc_url) as endpoint:
                endpoint.infer(PICTURE)
        finally:
            local_triton.down(served.state_dir)


def test_a_taken_port_is_named(tmp_path: Path) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        with pytest.raises(ServerUnavailableError, match=f"port {port} on 127.0.0.1"):
            LocalTriton(tmp_path / "repository", tmp_path / "state", grpc_port=port).start()
    assert local_triton.status(tmp_path / "state") is None


@pytest.mark.parametrize("service", ["grpc", "http", "metrics"])
def test_a_chosen_port_that_a_stranger_takes_first_is_chosen_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, service: str
) -> None:
    """Fault: between the choice of free ports and Triton's bind, somebody else listens."""
    choose, rounds = local_triton.choose_ports, []
    with socket.socket() as stranger:
        stranger.bind(("127.0.0.1", 0))
        stranger.listen()
        taken = stranger.getsockname()[1]

        def choose_too_late(wanted: tuple[int | None, ...]) -> list[int]:
            ports = choose(wanted)
            if not rounds:
                ports[["grpc", "http", "metrics"].index(service)] = taken
            rounds.append(ports)
            return ports

        monkeypatch.setattr(local_triton, "choose_ports", choose_too_late)
        with LocalTriton(tmp_path / "repository", tmp_path / "state") as server:
            running = server.status()
            assert running is not None
            assert running.ready
            assert [running.grpc_port, running.http_port, running.metrics_port] == rounds[1]


def test_a_start_that_never_gets_its_ports_ends(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as stranger:
        stranger.bind(("127.0.0.1", 0))
        stranger.listen()
        choose, rounds = local_triton.choose_ports, []

        def choose_too_late(wanted: tuple[int | None, ...]) -> list[int]:
            rounds.append(wanted)
            return [stranger.getsockname()[1], *choose(wanted)[1:]]

        monkeypatch.setattr(local_triton, "choose_ports", choose_too_late)
        with pytest.raises(ServerUnavailableError, match="already in use"):
            LocalTriton(tmp_path / "repository", tmp_path / "state").start()
        assert len(rounds) == 3
        with pytest.raises(ServerUnavailableError, match="already in use"):  # ports to insist on are not replaced
            LocalTriton(tmp_path / "repository", tmp_path / "state", grpc_port=1, http_port=2, metrics_port=3).start()
        assert len(rounds) == 4


def test_a_model_that_does_not_load_is_the_stated_cause(tmp_path: Path) -> None:
    version = tmp_path / "repository" / "person_segmentation" / "1"
    make_person_model(version)
    record = json.loads((version / "model.json").read_text())
    (version / "model.json").write_text(json.dumps({**record, "sha256": "0" * 64}))
    with pytest.raises(ServerUnavailableError, match=r"refused: sha256 of model\.onnx") as caught:
        LocalTriton(tmp_path / "repository", tmp_path / "state").start()
    assert str(tmp_path / "state" / "triton.log") in caught.value.next_step
    assert local_triton.status(tmp_path / "state") is None


def test_a_reused_process_id_is_not_taken_for_the_server(tmp_path: Path) -> None:
    record = {
        **{"pid": os.getpid(), "started": 1, "grpc_port": 1, "http_port": 1, "metrics_port": 1},
        **{"repository": "/r", "log": "/l", "region": f"privseg_{'0' * 11}x", "versions": []},
    }
    (tmp_path / "triton.json").write_text(json.dumps(record))
    assert local_triton.status(tmp_path) is None
    assert not local_triton.down(tmp_path)  # and this process lives on


def test_ends_with_the_process_that_started_it(tmp_path: Path) -> None:
    program = (
        "import sys; from pathlib import Path; from privseg.serving.local_triton import LocalTriton\n"
        "folder = Path(sys.argv[1]); LocalTriton(folder / 'repository', folder / 'state').start()\n"
        "print('started', flush=True); sys.stdin.read()"
    )
    make_person_model(tmp_path / "repository" / "person_segmentation" / "1")
    parent = subprocess.Popen(
        [sys.executable, "-c", program, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=ROOT
    )
    with parent:
        assert parent.stdout is not None
        assert parent.stdout.readline() == b"started\n"
        record = recorded(tmp_path / "state")
        assert record is not None
        assert len(processes(record)) == 2
        parent.kill()
    wait_until(lambda: processes(record) == [])
    local_triton.down(tmp_path / "state")


def test_a_missing_installation_names_the_next_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PRIVSEG_TRITON_VENV", raising=False)
    monkeypatch.setattr(sys, "prefix", str(tmp_path / "venv"))
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ServerUnavailableError, match="make setup"):
        find_installation()
    monkeypatch.setenv("PRIVSEG_TRITON_VENV", str(tmp_path / "nowhere"))
    with pytest.raises(UsageError, match="PRIVSEG_TRITON_VENV"):
        find_installation()
