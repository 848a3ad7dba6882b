"""What is known about a local Triton from outside: its record file, its processes and its answers."""

from __future__ import annotations

import contextlib
import json
import os
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Final

from privseg.errors import ServerUnavailableError
from privseg.serving.loopback import http_ok, ready_versions, runtime

__all__ = [
    "LOOPBACK",
    "RunningTriton",
    "forget",
    "http_ok",
    "is_alive",
    "listens",
    "processes",
    "recorded",
    "start_time",
    "status",
    "supervisor_is_alive",
    "write_record",
]

LOOPBACK: Final = "127.0.0.1"
_RECORD: Final = "triton.json"
_SOCKETS: Final = (Path("/proc/net/tcp"), Path("/proc/net/tcp6"))  # gRPC binds 127.0.0.1 as ::ffff:127.0.0.1
_LISTEN: Final = "0A"  # a TCP state
_ENDED: Final = "ZX"  # process states: zombie, gone


@dataclass(frozen=True)
class RunningTriton:
    """A local server whose process is alive.

    Attributes:
        ready: It answers, and every model it should serve is loaded.
        versions: Versions of the person model that are ready.
        pid: Process id.
        grpc_port: Port on 127.0.0.1, like the other two.
        http_port: Health and model control.
        metrics_port: Prometheus.
        repository: The model repository.
        log: The server's log.
        region: Prefix of its shared memory regions. It stands in the command line of the server and of each of
            its stubs, and nowhere else.
        started: Start time of that process in the kernel's ticks, so that a reused id is not mistaken for it.
        supervisor: Process id of the supervisor that mends this server; 0 if there is none.
        supervisor_started: Start time of that process.
        restarts: Times the supervisor started the server again.
        reloads: Times it loaded the model again because a stub had died.
        last_event: What the supervisor saw last, with its time.
        runtime: What runs the newest version, in words, as the backend found it; empty when it does not answer.
    """

    pid: int
    grpc_port: int
    http_port: int
    metrics_port: int
    repository: str
    log: str
    region: str
    started: int
    ready: bool = False
    versions: tuple[int, ...] = ()
    supervisor: int = 0
    supervisor_started: int = 0
    restarts: int = 0
    reloads: int = 0
    last_event: str = ""
    runtime: str = ""

    @property
    def grpc_url(self) -> str:
        """``127.0.0.1:port``, as Triton clients take it."""
        return f"{LOOPBACK}:{self.grpc_port}"

    @property
    def http_url(self) -> str:
        """``http://127.0.0.1:port``."""
        return f"http://{LOOPBACK}:{self.http_port}"

    @property
    def metrics_url(self) -> str:
        """``http://127.0.0.1:port/metrics``."""
        return f"http://{LOOPBACK}:{self.metrics_port}/metrics"

    @property
    def shared_memory_directory(self) -> Path:
        """The server's ``/dev/shm``, which may be its own, seen from here; another one after every restart."""
        return Path(f"/proc/{self.pid}/root/dev/shm")


def status(state_dir: Path) -> RunningTriton | None:
    """Return what the server of ``state_dir`` is doing; None when it does not run.

    Raises:
        ServerUnavailableError: ``triton.json`` cannot be read.
    """
    record = recorded(state_dir)
    if record is None or not is_alive(record):
        return None
    ready = http_ok(f"{record.http_url}/v2/health/ready")
    versions = ready_versions(record.http_url)
    return replace(record, ready=ready, versions=versions, runtime=runtime(record.metrics_url) if versions else "")


def recorded(state_dir: Path) -> RunningTriton | None:
    """Return what was recorded when the server of ``state_dir`` was started; None when none was."""
    path = state_dir / _RECORD
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
        return RunningTriton(**{**data, "ready": False, "versions": (), "runtime": ""})
    except FileNotFoundError:
        return None
    except (OSError, ValueError, TypeError) as error:
        raise ServerUnavailableError(path, f"cannot be read ({error})", "end its server by hand, remove it") from None


def write_record(state_dir: Path, record: RunningTriton) -> None:
    """Write ``triton.json`` by replacement; raises OSError."""
    temporary = state_dir / f".{_RECORD}.{os.getpid()}"
    temporary.write_text(json.dumps(asdict(record), indent=2) + "\n", encoding="utf-8")
    temporary.replace(state_dir / _RECORD)


def forget(state_dir: Path) -> None:
    """Remove ``triton.json``."""
    (state_dir / _RECORD).unlink(missing_ok=True)


def processes(record: RunningTriton) -> list[int]:
    """Return the ids of the living processes of this server: itself and its stubs."""
    mark, alive = record.region.encode(), is_alive(record)
    found = []
    for pid in (int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdigit()):
        state, group, _ = _stat(pid)
        # A process that is just being executed has no command line for a moment; it is in the server's group.
        if not _ended(pid, state) and ((alive and group == record.pid) or mark in _command_line(pid)):
            found.append(pid)
    return found


def is_alive(record: RunningTriton) -> bool:
    """Return whether the server's own process lives."""
    state, _, started = _stat(record.pid)
    return started == record.started and not _ended(record.pid, state)


def supervisor_is_alive(record: RunningTriton) -> bool:
    """Return whether the supervisor of this server lives."""
    state, _, started = _stat(record.supervisor) if record.supervisor else ("X", 0, 0)
    return started == record.supervisor_started and not _ended(record.supervisor, state)


def start_time(pid: int) -> int:
    """Return when a process started, in the kernel's ticks; 0 when there is no such process."""
    return _stat(pid)[2]


def listens(record: RunningTriton) -> bool:
    """Return whether all three ports are the server's own, not those of a stranger who was quicker."""
    own = set()
    with contextlib.suppress(OSError):  # it ended meanwhile
        for entry in Path(f"/proc/{record.pid}/fd").iterdir():
            with contextlib.suppress(OSError):  # closed meanwhile
                own.add(str(entry.readlink()))
    bound = set()
    for table in filter(Path.is_file, _SOCKETS):
        for line in table.read_text(encoding="ascii").splitlines()[1:]:
            fields = line.split()
            if fields[3] == _LISTEN and f"socket:[{fields[9]}]" in own:
                bound.add(int(fields[1].rpartition(":")[2], 16))
    return {record.grpc_port, record.http_port, record.metrics_port} <= bound


def _stat(pid: int) -> tuple[str, int, int]:
    """Return state, process group and start time of a process."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return "X", 0, 0
    fields = text.rpartition(")")[2].split()  # the name before it may hold anything
    return fields[0], int(fields[2]), int(fields[19])


def _ended(pid: int, state: str) -> bool:
    """Return whether nothing of a process is left but its name.

    A killed process whose first thread is gone shows as a zombie while its other threads still hold its sockets.
    """
    if state not in _ENDED:
        return False
    try:
        return len(list(Path(f"/proc/{pid}/task").iterdir())) <= 1
    except OSError:
        return True


def _command_line(pid: int) -> bytes:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return b""
