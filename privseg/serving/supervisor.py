"""The process that keeps a local Triton answering: it mends dead stubs and starts a dead server again.

When the stub process behind a model dies, Triton (seen with 2.51) goes on reporting the model ready, refuses every
request, and takes a load for done; only unloading and loading brings it back. While a model or server is down clients
get errors, and their frames leave as slates.

``privseg triton up`` starts this module as a process of its own; it is the server's parent, so the kernel ends the
server with it, even by SIGKILL. ``supervised`` runs the same watch as a thread, for a server inside a test.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from types import FrameType
from typing import Any, Final, Literal, NoReturn

from privseg.errors import PrivsegError, ServerUnavailableError
from privseg.serving import loopback
from privseg.serving.ending import stop_server
from privseg.serving.local_triton import LocalTriton
from privseg.serving.triton_state import RunningTriton, is_alive, processes, recorded, write_record

__all__ = ["Supervisor", "supervised"]

TICK_SECONDS: Final = 0.25
SCAN_TICKS: Final = 8  # every so many ticks all processes are looked through
SURE_SECONDS: Final = 0.3  # a version that is being unloaded may be counted once
STABLE_SECONDS: Final = 60.0  # after this long without a fault the tries are counted anew
DELAYS: Final = (0.0, 1.0, 2.0, 5.0, 10.0, 20.0)  # seconds before each try; then it gives up

Fault = Literal["server", "stub"]


class Supervisor:
    """Watches one server.

    Args:
        server: What started it, and starts it again.
        record: The server as it runs now.
        delays: Seconds to wait before each try to mend it.
        say: Gets one line for each thing that happened.
    """

    def __init__(
        self,
        server: LocalTriton,
        record: RunningTriton,
        *,
        delays: tuple[float, ...] = DELAYS,
        say: Callable[[str], Any] = print,
    ) -> None:
        self._server = server
        self._record = record
        self._delays = delays
        self._say = say
        self._stubs: set[int] = set()
        self._ticks = 0
        self._tries = 0
        self._mended = 0.0
        self._reload_failed = False

    @property
    def record(self) -> RunningTriton:
        """The server as it runs now, with what happened to it."""
        return self._record

    def run(self, stopped: threading.Event) -> bool:
        """Watch until ``stopped`` is set; return False as soon as every try to mend the server has failed."""
        while not stopped.wait(TICK_SECONDS):
            fault = self._fault()
            if fault is None:
                if self._tries and time.monotonic() - self._mended > STABLE_SECONDS:
                    self._tries = 0
                continue
            what = "the server died" if fault == "server" else "a stub died"
            if self._tries == len(self._delays):
                self._note(f"{what}; given up after {self._tries} tries: read {self._record.log}")
                return False
            delay = self._delays[self._tries]
            self._tries += 1
            self._note(f"{what}; try {self._tries} of {len(self._delays)} in {delay:g} s")
            if stopped.wait(delay):
                break
            try:
                self._mend(fault)
            except (PrivsegError, OSError) as error:
                self._note(f"try {self._tries} of {len(self._delays)} failed: {error}")
            self._mended = time.monotonic()
        return True

    def _fault(self) -> Fault | None:
        if not is_alive(self._record):
            return "server"
        self._ticks += 1
        vanished = any(not Path(f"/proc/{pid}").exists() or _is_zombie(pid) for pid in self._stubs)
        if not vanished and self._ticks % SCAN_TICKS:
            return None
        if self._stub_is_missing():
            time.sleep(SURE_SECONDS)
            if is_alive(self._record) and self._stub_is_missing():
                return "stub"
        return None if is_alive(self._record) else "server"

    def _stub_is_missing(self) -> bool:
        """Return whether the server calls more versions ready than have a stub for each of their instances."""
        expected = len(loopback.ready_versions(self._record.http_url)) * loopback.instances(self._record.http_url)
        self._stubs = set(processes(self._record)) - {self._record.pid}
        return len(self._stubs) < expected

    def _mend(self, fault: Fault) -> None:
        if fault == "stub" and not self._reload_failed:
            self._reload_failed = True  # until it succeeds; else the whole server is the next thing to try
            self._reload()
        else:
            before = self._record
            after = self._server.start_again(before)
            self._record = replace(
                after, restarts=before.restarts + 1, reloads=before.reloads, last_event=before.last_event
            )
            self._note(f"the server was started again, process {after.pid}")
        self._reload_failed = False

    def _reload(self) -> None:
        with self._server.only_checked_versions():  # never while a publisher loads
            if not self._stub_is_missing():
                self._note("a publisher loaded the model meanwhile")
                return
            loopback.unload(self._record.http_url)
            loopback.load(self._record.http_url)
        if loopback.refuses(self._record.http_url):
            raise ServerUnavailableError("tritonserver", "refuses to segment after its reload", "read its log")
        self._record = replace(self._record, reloads=self._record.reloads + 1)
        self._note("the model was loaded again")

    def _note(self, event: str) -> None:
        line = f"{datetime.now(UTC).isoformat(timespec='seconds')} {event}"
        self._say(line)
        self._record = replace(self._record, last_event=line)
        with contextlib.suppress(OSError):  # a full disk: the log and the next event tell
            write_record(self._server.state_dir, self._record)


@contextlib.contextmanager
def supervised(server: LocalTriton, *, delays: tuple[float, ...] = DELAYS) -> Iterator[Supervisor]:
    """Watch a running server by a thread of this process; leave before the server is stopped.

    A server that the thread started again ends with the thread.

    Raises:
        ServerUnavailableError: It does not run.
    """
    record = recorded(server.state_dir)
    if record is None:
        raise ServerUnavailableError(server.state_dir, "its Triton does not run", "start it first")
    supervisor, stopped = Supervisor(server, record, delays=delays, say=_log), threading.Event()
    thread = threading.Thread(target=supervisor.run, args=(stopped,), name="triton-supervisor", daemon=True)
    thread.start()
    try:
        yield supervisor
    finally:
        stopped.set()
        thread.join()


def main(request: dict[str, Any]) -> int:
    """Start a server, tell who waits for it, and keep it until SIGTERM; return the exit code.

    Args:
        request: ``repository``, ``state_dir``, ``ports`` (gRPC, HTTP, metrics; null: a free one), ``ready``, a
            descriptor that gets one byte when the server is ready, and ``outcome``, the file for the error if not.
    """
    signal.signal(signal.SIGTERM, _stop)
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    grpc, http, metrics = request["ports"]
    repository, state_dir = Path(request["repository"]), Path(request["state_dir"])
    server = LocalTriton(
        repository, state_dir, grpc_port=grpc, http_port=http, metrics_port=metrics, supervisor=os.getpid()
    )
    given_up = False
    try:
        record = server.start()
        with contextlib.suppress(BrokenPipeError), os.fdopen(request["ready"], "wb") as pipe:
            pipe.write(b"1")
        supervisor = Supervisor(server, record, say=_log)
        given_up = not supervisor.run(threading.Event())
        if given_up:
            stop_server(supervisor.record)  # its record stays: `triton status` shows why
    except PrivsegError as error:
        error.save(Path(request["outcome"]))
        return error.exit_code
    finally:
        if not given_up:
            server.stop()
    return ServerUnavailableError.exit_code


def _stop(_number: int, _frame: FrameType | None) -> NoReturn:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)  # the end takes a moment, and happens once
    raise SystemExit(0)


def _log(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def _is_zombie(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text(errors="replace").rpartition(")")[2].split()[0] in "ZX"
    except OSError:
        return True


if __name__ == "__main__":
    raise SystemExit(main(json.loads(sys.argv[1])))
