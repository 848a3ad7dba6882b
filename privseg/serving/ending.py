"""How a local server is ended, supervisor and stubs included, and what it would leave behind is removed."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

from privseg.serving.triton_state import RunningTriton, forget, is_alive, processes, recorded, supervisor_is_alive

__all__ = ["EXIT_SECONDS", "down", "end", "stop_server"]

EXIT_SECONDS: Final = 5  # for requests in flight, once asked to stop
_SHARED_MEMORY: Final = Path("/dev/shm")  # noqa: S108 - where Triton's stubs keep their regions


def down(state_dir: Path) -> bool:
    """Stop the server that ``state_dir`` records, supervisor and stubs included; return whether one was running."""
    record = recorded(state_dir)
    if record is None:
        return False
    supervised = supervisor_is_alive(record) and record.supervisor != os.getpid()
    running = is_alive(record) or supervised
    if supervised:  # first, or it would start the server again
        _end_supervisor(record)
        record = recorded(state_dir) or record  # it may have started a new one meanwhile
    stop_server(record)
    forget(state_dir)
    return running


def stop_server(record: RunningTriton) -> None:
    """Stop a server in order, then what did not go in time or was left behind, and remove its shared memory."""
    if is_alive(record):
        with contextlib.suppress(ProcessLookupError):
            os.kill(record.pid, signal.SIGTERM)
        _wait(lambda: not processes(record), EXIT_SECONDS + 5)
    end(record, signal.SIGKILL)
    for region in _SHARED_MEMORY.glob(f"{record.region}*"):  # a killed stub without a /dev/shm of its own leaves it
        region.unlink(missing_ok=True)


def end(record: RunningTriton, number: signal.Signals) -> None:
    """Send a signal to a server and its stubs, and wait until they are gone."""
    for pid in processes(record):
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, number)
    _wait(lambda: not processes(record), 10)


def _end_supervisor(record: RunningTriton) -> None:
    for number in (signal.SIGTERM, signal.SIGKILL):  # asked to, it stops the server in order
        with contextlib.suppress(ProcessLookupError):
            os.kill(record.supervisor, number)
        if _wait(lambda: not supervisor_is_alive(record), EXIT_SECONDS + 10):
            return


def _wait(gone: Callable[[], bool], seconds: float) -> bool:
    deadline = time.monotonic() + seconds
    while not gone():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    return True
