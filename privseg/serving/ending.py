"""How a local server is ended, stubs included, and what it would leave behind is removed."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from pathlib import Path
from typing import Final

from privseg.serving.triton_state import RunningTriton, forget, is_alive, processes, recorded

__all__ = ["EXIT_SECONDS", "down", "end"]

EXIT_SECONDS: Final = 5  # for requests in flight, once asked to stop
_SHARED_MEMORY: Final = Path("/dev/shm")  # noqa: S108 - where Triton's stubs keep their regions


def down(state_dir: Path) -> bool:
    """Stop the server that ``state_dir`` records, stubs included; return whether one was running."""
    record = recorded(state_dir)
    if record is None:
        return False
    running = is_alive(record)
    if running:
        with contextlib.suppress(ProcessLookupError):
            os.kill(record.pid, signal.SIGTERM)
        _wait_for_end(record, EXIT_SECONDS + 5)
    end(record, signal.SIGKILL)  # what did not go in time, or was left behind
    for region in _SHARED_MEMORY.glob(f"{record.region}*"):  # a killed stub without a /dev/shm of its own leaves it
        region.unlink(missing_ok=True)
    forget(state_dir)
    return running


def end(record: RunningTriton, number: signal.Signals) -> None:
    """Send a signal to a server and its stubs, and wait until they are gone."""
    for pid in processes(record):
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, number)
    _wait_for_end(record, 10)


def _wait_for_end(record: RunningTriton, seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while processes(record) and time.monotonic() < deadline:
        time.sleep(0.02)
