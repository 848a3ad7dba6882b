"""Run the real ``tritonserver`` on this machine, on loopback, without a container or a GPU."""

from __future__ import annotations

import contextlib
import fcntl
import os
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import Final, Self

import numpy as np

from privseg.errors import GateFailedError, ServerUnavailableError, StorageError
from privseg.serving.admin import Endpoint
from privseg.serving.artifact import MODEL_NAME, SIZE_MULTIPLE
from privseg.serving.config import ensure_config
from privseg.serving.ending import EXIT_SECONDS, down, end
from privseg.serving.installation import TritonInstallation, find_installation
from privseg.serving.launching import address_was_taken, choose_ports, launch_child, launch_detached, why_it_ended
from privseg.serving.triton_state import (
    LOOPBACK,
    RunningTriton,
    http_ok,
    is_alive,
    listens,
    recorded,
    start_time,
    status,
    write_record,
)
from privseg.serving.versions import Store, current

__all__ = ["LocalTriton", "RunningTriton", "down", "status", "up"]

START_SECONDS: Final = 90.0
USUAL_PORTS: Final = (8001, 8000, 8002)  # gRPC, HTTP, metrics: what Triton's documentation and our examples name
SETTLE_SECONDS: Final = 10.0
ATTEMPTS: Final = 3  # a free port may be taken by somebody else before Triton binds it


class LocalTriton:
    """One ``tritonserver`` process over a model repository.

    Args:
        repository: The model repository; its newest version is loaded at the start, if it has one.
        state_dir: Where the log, ``triton.json`` and the backend directory go.
        grpc_port: A port to insist on; None takes a free one. Likewise the other two.
        http_port: See above.
        metrics_port: See above.
        detached: Outlive this process (``privseg triton up``). Otherwise the kernel ends the server when the
            thread that started it ends, even by SIGKILL.
        extra_arguments: Further ``tritonserver`` arguments.
    """

    def __init__(
        self,
        repository: Path,
        state_dir: Path,
        *,
        grpc_port: int | None = None,
        http_port: int | None = None,
        metrics_port: int | None = None,
        detached: bool = False,
        extra_arguments: tuple[str, ...] = (),
    ) -> None:
        self.repository = repository.absolute()
        self.state_dir = state_dir.absolute()
        self._ports = (grpc_port, http_port, metrics_port)
        self._detached = detached
        self._extra = extra_arguments
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> RunningTriton:
        """Start the server and return once it is ready.

        A version whose checks never ended, left by a publisher that died, is taken back first; a publisher that is
        at work is waited for. So a restart serves nothing unchecked.

        Raises:
            ServerUnavailableError: Triton is not installed, a given port is taken, a server of this state
                directory runs already, or the server did not become ready; the message names the cause.
            StorageError: The state directory or the repository cannot be written.
        """
        if status(self.state_dir) is not None:
            raise ServerUnavailableError(self.state_dir, "its Triton runs already", "run `privseg triton down`")
        down(self.state_dir)  # what a crashed predecessor left: stubs, shared memory
        installation = find_installation()
        store = Store(self.repository)
        with store.locked():  # a publisher that is at work ends its checks first
            unchecked = store.set_aside_interrupted()
            if unchecked is not None:
                print(f"version {unchecked} of an interrupted publication was taken back", file=sys.stderr, flush=True)
            attempts = ATTEMPTS
            while True:
                attempts -= 1
                record = self._launch(installation)
                if self._becomes_ready(record):
                    return replace(record, ready=True, versions=tuple(filter(None, [current(self.repository)])))
                log = Path(record.log)
                if not (attempts and None in self._ports and address_was_taken(log)):
                    fault = f"did not become ready: {why_it_ended(log)}"
                    raise ServerUnavailableError("tritonserver", fault, f"read {log}")

    def _launch(self, installation: TritonInstallation) -> RunningTriton:
        grpc, http, metrics = choose_ports(self._ports)
        record = RunningTriton(
            pid=0,
            started=0,
            grpc_port=grpc,
            http_port=http,
            metrics_port=metrics,
            repository=str(self.repository),
            log=str(self.state_dir / "triton.log"),
            region=f"privseg_{uuid.uuid4().hex[:12]}",
        )
        try:
            ensure_config(self.repository)
            return self._execute(installation, record)
        except OSError as error:
            raise StorageError.from_os_error(self.state_dir, error) from error

    def _execute(self, installation: TritonInstallation, record: RunningTriton) -> RunningTriton:
        backends = installation.assemble_backends(self.state_dir / "backends")
        log = Path(record.log)
        if log.exists():
            log.replace(log.with_suffix(".previous.log"))
        command = [
            str(installation.server),
            f"--model-repository={self.repository}",
            f"--backend-directory={backends}",
            f"--backend-config=python,shm-region-prefix-name={record.region}",
            "--model-control-mode=explicit",
            *([f"--load-model={MODEL_NAME}"] if current(self.repository) else []),
            "--disable-auto-complete-config",
            "--strict-readiness=true",
            "--allow-gpu-metrics=false",
            f"--exit-timeout-secs={EXIT_SECONDS}",
            *(f"--{service}-address={LOOPBACK}" for service in ("grpc", "http", "metrics")),
            f"--grpc-port={record.grpc_port}",
            f"--http-port={record.http_port}",
            f"--metrics-port={record.metrics_port}",
            *self._extra,
        ]
        environment = installation.environment(self.state_dir)
        if self._detached:
            pid = launch_detached(command, environment, log)
        else:
            self._process = launch_child(command, environment, log)
            pid = self._process.pid
        record = replace(record, pid=pid, started=start_time(pid))
        try:
            write_record(self.state_dir, record)
        except BaseException:
            end(record, signal.SIGKILL)
            self.stop()
            raise
        return record

    def _becomes_ready(self, record: RunningTriton) -> bool:
        """Wait until the server is ready, and these ports its own; a server that does not get there is ended."""
        deadline = time.monotonic() + START_SECONDS
        ready = False
        try:
            while is_alive(record) and time.monotonic() < deadline:
                ready = http_ok(f"{record.http_url}/v2/health/ready") and listens(record)
                if ready:
                    break
                time.sleep(0.05)
        finally:  # Ctrl-C too: nobody else would end the process
            if not ready:
                self.stop()
        return ready

    def stop(self) -> None:
        """Stop the server and its stubs; nothing happens when it is not running."""
        down(self.state_dir)
        if self._process is not None:
            self._process.wait()
            self._process = None

    def kill(self) -> None:
        """End the server and its stubs at once (SIGKILL), as a crash or the kernel's memory killer would."""
        record = recorded(self.state_dir)
        if record is not None:
            end(record, signal.SIGKILL)
        self.stop()

    def status(self) -> RunningTriton | None:
        """Return what the server is doing now; None when it does not run."""
        return status(self.state_dir)

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()


def up(
    repository: Path,
    state_dir: Path,
    *,
    grpc_port: int | None = None,
    http_port: int | None = None,
    metrics_port: int | None = None,
) -> RunningTriton:
    """Start a server that outlives this process, or return the one that already runs from ``state_dir``.

    Ports that are not given are those of the server that ran here before, so that a client of a crashed server finds
    it again; else Triton's own 8001, 8000 and 8002; else, where one of them is taken, free ones.

    A running server that refuses to segment is replaced, on the same ports: when its stub process died, Triton (seen
    with 2.51) neither starts it again nor reports it.

    Raises:
        ServerUnavailableError: See ``LocalTriton.start``; also when the running server has another repository.
        StorageError: The state directory cannot be written.
    """
    with _locked(state_dir):
        running = _settled(state_dir)
        if running is not None:
            if Path(running.repository) != repository.absolute():
                fault = f"runs already, on {running.repository}"
                raise ServerUnavailableError("tritonserver", fault, "run `privseg triton down`")
            if not _refuses(running):
                return running
            grpc_port = grpc_port or running.grpc_port
            http_port = http_port or running.http_port
            metrics_port = metrics_port or running.metrics_port
            end(running, signal.SIGKILL)
            down(state_dir)
        grpc, http, metrics = (grpc_port, http_port, metrics_port)
        if (grpc, http, metrics) == (None, None, None):
            grpc, http, metrics = _usual_ports(state_dir)
        server = LocalTriton(repository, state_dir, grpc_port=grpc, http_port=http, metrics_port=metrics, detached=True)
        return server.start()


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
        end(before, signal.SIGKILL)  # a crashed server's stubs may hold its ports
    usual = (before.grpc_port, before.http_port, before.metrics_port) if before else USUAL_PORTS
    try:
        choose_ports(usual)
    except ServerUnavailableError:
        return None, None, None
    return usual


def _refuses(running: RunningTriton) -> bool:
    if not running.versions:
        return False
    try:
        with Endpoint(running.grpc_url) as endpoint:
            endpoint.infer(np.zeros((1, SIZE_MULTIPLE, SIZE_MULTIPLE, 3), np.uint8))
    except GateFailedError:
        return True
    except ServerUnavailableError:  # busy or starting is no reason to end it
        return False
    return False


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
