"""Run the real ``tritonserver`` on this machine, on loopback, without a container or a GPU."""

from __future__ import annotations

import contextlib
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

from privseg.errors import ServerUnavailableError, StorageError
from privseg.serving.artifact import MODEL_NAME
from privseg.serving.config import ensure_config
from privseg.serving.ending import EXIT_SECONDS, down, end, stop_server
from privseg.serving.installation import TritonInstallation, find_installation
from privseg.serving.launching import address_was_taken, choose_ports, launch_child, why_it_ended
from privseg.serving.loopback import http_ok
from privseg.serving.triton_state import (
    LOOPBACK,
    RunningTriton,
    is_alive,
    listens,
    recorded,
    start_time,
    status,
    write_record,
)
from privseg.serving.upkeep import up, why_not_running
from privseg.serving.versions import Store, current

__all__ = ["LocalTriton", "RunningTriton", "down", "status", "up", "why_not_running"]

START_SECONDS: Final = 90.0
ATTEMPTS: Final = 3  # a free port may be taken by somebody else before Triton binds it


class LocalTriton:
    """One ``tritonserver`` process over a model repository; the kernel ends it with the thread that started it.

    Args:
        repository: The model repository; its newest version is loaded at the start, if it has one.
        state_dir: Where the log, ``triton.json`` and the backend directory go.
        grpc_port: A port to insist on; None takes a free one. Likewise the other two.
        http_port: See above.
        metrics_port: See above.
        supervisor: Process id to record as the one that mends this server (``privseg triton up``); 0: nobody.
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
        supervisor: int = 0,
        extra_arguments: tuple[str, ...] = (),
    ) -> None:
        self.repository = repository.absolute()
        self.state_dir = state_dir.absolute()
        self._ports = (grpc_port, http_port, metrics_port)
        self._supervisor = supervisor
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
        self.stop()  # what a crashed predecessor left: stubs, shared memory
        return self._start()

    def start_again(self, crashed: RunningTriton) -> RunningTriton:
        """Start a server that ended by itself anew, on the ports its clients know.

        Args:
            crashed: Its record; what it left is removed first.

        Raises:
            ServerUnavailableError: See ``start``.
            StorageError: See ``start``.
        """
        stop_server(crashed)
        self._reap()
        self._ports = (crashed.grpc_port, crashed.http_port, crashed.metrics_port)
        return self._start()

    @contextlib.contextmanager
    def only_checked_versions(self) -> Iterator[None]:
        """Be alone with the repository, without the version of a publisher that died before its checks ended.

        Raises:
            StorageError: The repository cannot be written, or a publisher is at work for too long.
        """
        store = Store(self.repository)
        with store.locked():  # a publisher that is at work ends its checks first
            unchecked = store.set_aside_interrupted()
            if unchecked is not None:
                print(f"version {unchecked} of an interrupted publication was taken back", file=sys.stderr, flush=True)
            yield

    def _start(self) -> RunningTriton:
        installation = find_installation()
        with self.only_checked_versions():
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
        self._process = launch_child(command, installation.environment(self.state_dir), log)
        pid, keeper = self._process.pid, self._supervisor
        keeper_started = start_time(keeper) if keeper else 0
        record = replace(record, pid=pid, started=start_time(pid), supervisor=keeper, supervisor_started=keeper_started)
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
        self._reap()

    def _reap(self) -> None:
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
