"""Encoding in a thread of its own, so that the next frames are decoded and covered meanwhile."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable
from time import perf_counter
from typing import Final

from privseg.privacy.frames import ProtectedFrame, require_protected
from privseg.streaming.sinks import FrameSink

__all__ = ["ThreadedSink"]

_POLL_SECONDS: Final = 0.1


class ThreadedSink:
    """Hands every frame on, in order, from another thread; whoever writes waits while too many are waiting.

    Args:
        sink: Where they go; used by that thread alone until it has ended.
        capacity: Frames that may wait.
        observe: Takes the seconds that a frame took there.
    """

    def __init__(self, sink: FrameSink, capacity: int = 8, observe: Callable[[float], None] | None = None) -> None:
        self._sink = sink
        self._observe = observe
        self._waiting: queue.Queue[ProtectedFrame | None] = queue.Queue(capacity)
        self._error: Exception | None = None
        self._given_up = threading.Event()
        self._thread = threading.Thread(target=self._work, name="sink", daemon=True)
        self._thread.start()

    def write(self, frame: object) -> None:
        """Take one frame.

        Raises:
            PrivacyViolationPrevented: It is not a ProtectedFrame; nothing is written.
            Exception: What the sink raised for an earlier frame.
        """
        self._put(require_protected(frame, "sink"))

    def close(self) -> None:
        """Wait until every frame is written and finish the sink; raises what it raised."""
        if self._thread.is_alive():
            self._put(None)
            self._thread.join()
        self._raise()
        self._sink.close()

    def abort(self) -> None:
        """Leave out what is waiting, and abort the sink."""
        self._given_up.set()
        self._thread.join()
        self._sink.abort()

    def _put(self, frame: ProtectedFrame | None) -> None:
        while True:
            self._raise()
            try:
                self._waiting.put(frame, timeout=_POLL_SECONDS)
            except queue.Full:
                continue
            return

    def _raise(self) -> None:
        if self._error is not None:
            raise self._error

    def _work(self) -> None:
        while not self._given_up.is_set():
            try:
                frame = self._waiting.get(timeout=_POLL_SECONDS)
            except queue.Empty:
                continue
            if frame is None:
                return
            begun = perf_counter()
            try:
                self._sink.write(frame)
            except Exception as error:
                self._error = error
                return
            if self._observe is not None:
                self._observe(perf_counter() - begun)
