"""``privseg triton up``: a server that outlives the command, with a supervisor that mends it."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import signal
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from privseg.errors import PrivsegError, ServerUnavailableError, StorageError
from privseg.serving.ending import down, end
from privseg.serving.launching import choose_ports, launch_detached
from privseg.serving.loopback import refuses
from privseg.serving.triton_state import RunningTriton, recorded, status, supervisor_is_alive

__all__ = ["SUPERVISOR_LOG", "up", "why_not_running"]

USUAL_PORTS: Final = (8001, 8000, 8002)  # gRPC, HTTP, metrics: what Triton's documentation and our examples name
SETTLE_SECONDS: Final = 10.0
SUPERVISOR_LOG: Final = "supervisor.log"
_OUTCOME: Final = "start.json"  # the error a supervisor leaves if the first start fails


def up(
    repository: Path,
    state_dir: Path,
    *,
    grpc_port: int | None = None,
    http_port: int | None = None,
    metrics_port: int | None = None,
) -> RunningTriton:
    """Start a server that outlives this process, or return the one that already runs from ``state_dir``.

    A process of its own, the supervisor, starts it and starts it again after a crash (``supervisor.py``). Ports that
    are not given are those of the server that ran here before, so that a client of a crashed server finds it again;
    else Triton's own 8001, 8000 and 8002; else, where one of them is taken, free ones. A running server that refuses
    to segment, or whose supervisor is gone, is replaced on the same ports.

    Raises:
        ServerUnavailableError: See ``LocalTriton.start``; also when the running server has another repository.
        StorageError: The state directory cannot be written.
    """
    with _locked(state_dir):
        running = _settled(state_dir)
        ports = (grpc_port, http_port, metrics_port)
        if running is not None:
            if Path(running.repository) != repository.absolute():
                fault = f"runs already, on {running.repository}"
                raise ServerUnavailableError("tritonserver", fault, "run `privseg triton down`")
            abandoned = running.supervisor != 0 and not supervisor_is_alive(running)
            if not abandoned and not (running.versions and refuses(running.http_url)):
                return running
            known = (running.grpc_port, running.http_port, running.metrics_port)
            ports = (ports[0] or known[0], ports[1] or known[1], ports[2] or known[2])
            down(state_dir)
        elif ports == (None, None, None):
            ports = _usual_ports(state_dir)
        down(state_dir)  # a supervisor that waits before it tries again
        return _launch(repository.absolute(), state_dir.absolute(), ports)


def why_not_running(state_dir: Path) -> str:
    """Say about a server that does not run what its supervisor, if it had one, saw last."""
    record = recorded(state_dir)
    if record is None or not record.last_event:
        return "is not running"
    doing = "is being started again" if supervisor_is_alive(record) else "is not running"
    return f"{doing} ({record.last_event})"


def _launch(repository: Path, state_dir: Path, ports: tuple[int | None, ...]) -> RunningTriton:
    """Start the supervisor and wait until its server is ready."""
    log, outcome = state_dir / SUPERVISOR_LOG, state_dir / _OUTCOME
    outcome.unlink(missing_ok=True)
    reader, writer = os.pipe()
    request = {
        "repository": str(repository),
        "state_dir": str(state_dir),
        "ports": ports,
        "outcome": str(outcome),
        "ready": writer,
    }
    command = [sys.executable, "-P", "-m", "privseg.serving.supervisor", json.dumps(request)]
    try:
        if log.exists():
            log.replace(log.with_suffix(".previous.log"))
        pid = launch_detached(command, dict(os.environ), log, pass_descriptor=writer)
    except OSError as error:
        raise StorageError.from_os_error(state_dir, error) from error
    finally:
        os.close(writer)
    try:
        with os.fdopen(reader, "rb") as pipe:
            ready = pipe.read() != b""  # until it says so, or ends
    except BaseException:  # Ctrl-C: nobody else would end it
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGTERM)
        raise
    said = log.read_text(encoding="utf-8", errors="replace").strip()
    if not ready:
        if outcome.exists():
            raise PrivsegError.load(outcome)
        raise ServerUnavailableError("the server's supervisor", f"ended ({said[-300:]})", f"read {log}")
    if said:
        print(said, file=sys.stderr, flush=True)
    running = status(state_dir)
    if running is None:
        raise ServerUnavailableError("tritonserver", "ended at once", f"read {log}")
    return running


def _settled(state_dir: Path) -> RunningTriton | None:
    """Return the server's status once it answers or is gone: one that is being killed looks alive for a moment."""
    deadline = time.monotonic() + SETTLE_SECONDS
    while True:
        running = status(state_dir)
        if running is None or running.ready or time.monotonic() > deadline:
            return running
        time.sleep(0.05)


def _usual_ports(state_dir: Path) -> tuple[int | None, int | None, int | None]:
    before = recorded(state_dir)
    if before is not None:
        usual = (before.grpc_port, before.http_port, before.metrics_port)
        down(state_dir)  # its supervisor may be about to take these ports, and its stubs may hold them
        end(before, signal.SIGKILL)
    else:
        usual = USUAL_PORTS
    try:
        choose_ports(usual)
    except ServerUnavailableError:
        return None, None, None
    return usual


@contextlib.contextmanager
def _locked(state_dir: Path) -> Iterator[None]:
    try:
        state_dir.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(state_dir / ".triton.lock", os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise StorageError.from_os_error(state_dir, error) from error
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)
