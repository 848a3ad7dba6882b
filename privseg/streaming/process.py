"""What a process that holds raw frames owes: an orderly end on a signal, no memory image on the disk, and thrift."""

from __future__ import annotations

import contextlib
import ctypes
import resource
import signal
import threading
from collections.abc import Iterator
from types import FrameType
from typing import Final

import cv2

__all__ = [
    "forbid_core_dumps",
    "interrupted_by_termination",
    "keep_freed_memory",
    "one_thread_an_operation",
    "stop_on_signals",
]

# The numbers of glibc's <malloc.h>.
_M_TRIM_THRESHOLD: Final = -1
_M_MMAP_THRESHOLD: Final = -3
_LARGEST_MMAP_THRESHOLD: Final = 32 * 2**20  # glibc refuses more
_KEPT: Final = 256 * 2**20


def forbid_core_dumps() -> None:
    """Let no crash write this process's memory, raw frames and all, to the disk; cannot be undone."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def keep_freed_memory() -> None:
    """Let the next frame have the memory of the last one, which glibc would hand back to the kernel in between.

    Otherwise each frame of some megabytes costs thousands of page faults, most of what it takes to send one by gRPC
    (``benchmarks/serving.py``). Does nothing under another C library; cannot be undone.
    """
    with contextlib.suppress(AttributeError, OSError):
        library = ctypes.CDLL(None)
        library.mallopt(_M_MMAP_THRESHOLD, _LARGEST_MMAP_THRESHOLD)
        library.mallopt(_M_TRIM_THRESHOLD, _KEPT)


def one_thread_an_operation() -> None:
    """Let OpenCV split no operation on a picture among threads.

    Cameras already share the cores; splitting what takes a millisecond costs more than it saves
    (``benchmarks/latency.py``).
    """
    cv2.setNumThreads(1)


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


@contextlib.contextmanager
def interrupted_by_termination() -> Iterator[None]:
    """Within it, SIGTERM raises KeyboardInterrupt, as SIGINT does; in another thread than the main one, nothing.

    For work without gRPC (see :func:`stop_on_signals`) that must clean up behind itself.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
