"""What a process that holds raw frames owes: an orderly end on a signal, and no memory image on the disk."""

from __future__ import annotations

import contextlib
import resource
import signal
import threading
from collections.abc import Iterator
from types import FrameType

__all__ = ["forbid_core_dumps", "stop_on_signals"]


def forbid_core_dumps() -> None:
    """Let no crash write this process's memory, raw frames and all, to the disk; cannot be undone."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


@contextlib.contextmanager
def stop_on_signals(stop: threading.Event) -> Iterator[None]:
    """Within it, SIGINT and SIGTERM set ``stop`` and do nothing else; in another thread than the main one, nothing.

    An exception out of a signal handler can hit gRPC while it holds a lock, and closing the channel waits for ever.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def handle(_number: int, _frame: FrameType | None) -> None:
        stop.set()

    before = {number: signal.signal(number, handle) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
