"""What a running server keeps of the pictures, and who can read it."""

from __future__ import annotations

import os
import resource
import signal
import stat
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from privseg.serving import launching, local_triton
from privseg.serving.admin import Endpoint
from privseg.serving.ending import end
from privseg.serving.repository import publish
from privseg.serving.supervisor import supervised
from privseg.serving.triton_state import RunningTriton, processes
from privseg.testing.triton import make_person_model

BEACON = b"privseg-beacon-5b1f"
SHARED_MEMORY = Path("/dev/shm")
NOBODY = 65534
USER_NAMESPACE = ("unshare", "--map-root-user", "--mount")


@pytest.fixture(params=["own /dev/shm as root", "own /dev/shm in a user namespace", "closed files"])
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    ways = {"own /dev/shm as root": ("unshare", "--mount"), "own /dev/shm in a user namespace": USER_NAMESPACE}
    chosen = ways.get(request.param)
    if chosen and subprocess.run([*chosen, "true"], capture_output=True, check=False).returncode != 0:
        pytest.skip(f"{' '.join(chosen)} is not permitted here")
    monkeypatch.setattr(launching, "PRIVATE_WAYS", (chosen,) if chosen else ())
    return str(request.param)


@pytest.fixture
def server(tmp_path: Path, way: str) -> Iterator[RunningTriton]:
    repository, state = tmp_path / "repository", tmp_path / "state"
    make_person_model(tmp_path / "bright", kind="bright")
    publish(repository, tmp_path / "bright", endpoints=[], skip_smoke_load="tried elsewhere")
    child = local_triton.LocalTriton(repository, state)
    try:
        yield child.start()
    finally:
        child.stop()


def show_the_beacon(server: RunningTriton) -> None:
    picture = np.frombuffer((BEACON * 1000)[: 64 * 64 * 3], np.uint8).reshape(1, 64, 64, 3)
    with Endpoint(server.grpc_url) as endpoint:
        for _ in range(3):
            endpoint.infer(picture)


def holders(folder: Path) -> list[Path]:
    """Return the files that hold the beacon."""
    return [path for path in folder.iterdir() if path.is_file() and BEACON in path.read_bytes()]


def assert_closed_to_others(server: RunningTriton) -> None:
    for path in holders(SHARED_MEMORY):
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
    if os.geteuid() == 0:
        places = [SHARED_MEMORY, *(Path(f"/proc/{pid}/root/dev/shm") for pid in processes(server))]
        stranger = ["setpriv", "--reuid", str(NOBODY), "--regid", str(NOBODY), "--clear-groups"]
        command = [*stranger, "grep", "-rlaF", BEACON.decode(), *map(str, places)]
        assert subprocess.run(command, capture_output=True, text=True, check=False).stdout == ""


def test_nobody_else_reads_a_picture_while_it_serves_after_a_promotion_or_a_crash(
    server: RunningTriton, way: str, tmp_path: Path
) -> None:
    show_the_beacon(server)
    held = holders(Path(f"/proc/{server.pid}/root/dev/shm"))
    assert held, "the pictures do not pass where this test looks for them"
    assert bool(holders(SHARED_MEMORY)) == (way == "closed files")
    assert_closed_to_others(server)

    make_person_model(tmp_path / "inverse", kind="inverse")  # a promotion makes a new stub and a new file
    publish(
        tmp_path / "repository", tmp_path / "inverse", endpoints=[server.grpc_url], skip_smoke_load="tried elsewhere"
    )
    show_the_beacon(server)
    assert set(holders(Path(f"/proc/{server.pid}/root/dev/shm"))) - set(held)
    assert_closed_to_others(server)

    os.kill(server.pid, signal.SIGKILL)
    assert_closed_to_others(server)
    local_triton.down(tmp_path / "state")
    assert processes(server) == []
    assert holders(SHARED_MEMORY) == []
    assert list(SHARED_MEMORY.glob(f"{server.region}*")) == []


def test_the_next_start_removes_what_a_crash_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(launching, "PRIVATE_WAYS", ())
    repository, state = tmp_path / "repository", tmp_path / "state"
    make_person_model(repository / "person_segmentation" / "1")
    server = local_triton.LocalTriton(repository, state)
    try:
        first = server.start()
        show_the_beacon(first)
        end(first, signal.SIGKILL)
        assert holders(SHARED_MEMORY)
        assert server.start().pid != first.pid
        assert holders(SHARED_MEMORY) == []
    finally:
        server.stop()


def test_a_server_started_again_by_its_supervisor_has_its_own_directory_too(tmp_path: Path) -> None:
    repository, state = tmp_path / "repository", tmp_path / "state"
    make_person_model(repository / "person_segmentation" / "1")
    child = local_triton.LocalTriton(repository, state)
    try:
        first = child.start()
        own = first.shared_memory_directory.stat().st_dev
        if own == SHARED_MEMORY.stat().st_dev:
            pytest.skip("no mount of its own is permitted here")
        os.kill(first.pid, signal.SIGKILL)
        with supervised(child) as supervisor:
            deadline = time.monotonic() + 60
            while supervisor.record.restarts == 0:
                assert time.monotonic() < deadline
                time.sleep(0.05)
            again = supervisor.record
            show_the_beacon(again)
            assert holders(again.shared_memory_directory)
            assert holders(SHARED_MEMORY) == []
            assert again.shared_memory_directory.stat().st_dev != SHARED_MEMORY.stat().st_dev
    finally:
        child.stop()


def test_a_core_dump_would_hold_no_picture(server: RunningTriton) -> None:
    pids = processes(server)
    assert len(pids) == 2  # the server and its stub
    for pid in pids:
        assert resource.prlimit(pid, resource.RLIMIT_CORE) == (0, 0)
        assert int(Path(f"/proc/{pid}/coredump_filter").read_text(), 16) == 0


def test_a_machine_that_permits_no_mount_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(launching, "PRIVATE_WAYS", (("false",), ("there-is-no-such-program",)))
    command = launching.sealed(["echo", "started"], {"PATH": os.environ["PATH"]})
    assert subprocess.run(command, capture_output=True, text=True, check=True).stdout == "started\n"
    assert "mode 0600" in capsys.readouterr().err
