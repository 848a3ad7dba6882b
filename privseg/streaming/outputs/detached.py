"""An output in a thread of its own: where it fails or is slow, its frames are lost and counted, and nobody waits."""

from __future__ import annotations

import contextlib
import queue
import random
import threading
from collections.abc import Callable
from typing import Final, Protocol

from privseg.errors import PrivsegError
from privseg.privacy.frames import ProtectedFrame, require_protected
from privseg.streaming.sinks import FrameSink

__all__ = ["DetachedSink", "OutputEvents"]

_POLL_SECONDS: Final = 0.1
_CLOSE_SECONDS: Final = 15.0
_JITTER: Final = 0.5


class OutputEvents(Protocol):
    """Whom an output tells, from its own thread."""

    def written(self) -> None:
        """A frame was taken."""

    def lost(self) -> None:
        """A frame was not."""

    def failed(self, reason: str) -> None:
        """It broke, for a reason in one line without credentials; it is opened again."""

    def recovered(self) -> None:
        """It takes frames again."""


class DetachedSink:
    """Opens a sink with the first frame, and anew, ever more patiently, when it breaks.

    Args:
        name: For messages.
        open_sink: Opens it, for frames such as the one given.
        events: Whom to tell.
        capacity: Frames that may wait; one more is lost.
        patient: One more waits, unless the output is broken: for recordings, which can be read as slowly as one likes.
        pauses: Seconds before the second attempt, and at most.
    """

    def __init__(
        self,
        name: str,
        open_sink: Callable[[ProtectedFrame], FrameSink],
        events: OutputEvents,
        *,
        capacity: int = 50,
        patient: bool = False,
        pauses: tuple[float, float] = (1.0, 30.0),
    ) -> None:
        self._name = name
        self._open_sink = open_sink
        self._events = events
        self._patient = patient
        self._pauses = pauses
        self._pause = pauses[0]
        self._waiting: queue.Queue[ProtectedFrame | None] = queue.Queue(capacity)
        self._closing = threading.Event()
        self._sink: FrameSink | None = None
        self._error: Exception | None = None
        # A media server that hangs must not keep the process alive.
        self._thread = threading.Thread(target=self._work, name=f"output {name}", daemon=True)
        self._thread.start()

    def write(self, frame: object) -> None:
        """Take one frame; raises PrivacyViolationPrevented for anything that is not a ProtectedFrame."""
        frame = require_protected(frame, self._name)
        while True:
            patient = self._patient and self._error is None and self._thread.is_alive()
            try:
                self._waiting.put(frame, block=patient, timeout=_POLL_SECONDS)
            except queue.Full:
                if patient:
                    continue
                self._events.lost()
            return

    def close(self) -> None:
        """Let what waits be written, for some seconds, and finish; raises what it is broken by, if it is."""
        self._closing.set()
        self._thread.join(_CLOSE_SECONDS)
        if self._error is not None:
            raise self._error

    def abort(self) -> None:
        """Finish after a fault of the camera; what was protected is worth keeping."""
        with contextlib.suppress(Exception):
            self.close()

    def _work(self) -> None:
        while True:
            try:
                frame = self._waiting.get(timeout=_POLL_SECONDS)
            except queue.Empty:
                if self._closing.is_set():
                    break
                continue
            if frame is not None:
                self._hand_on(frame)
        try:
            if self._sink is not None:
                self._sink.close()
        except Exception as error:
            self._fail(error)

    def _hand_on(self, frame: ProtectedFrame) -> None:
        try:
            if self._sink is None:
                self._sink = self._open_sink(frame)
            self._sink.write(frame)
        except Exception as error:
            self._events.lost()
            self._fail(error)
            self._rest()
            return
        self._events.written()
        if self._error is not None:
            self._error, self._pause = None, self._pauses[0]
            self._events.recovered()

    def _fail(self, error: Exception) -> None:
        sink, self._sink = self._sink, None
        if sink is not None:
            with contextlib.suppress(Exception):  # the same fault again
                sink.abort()
        self._error = error
        # An unforeseen error's own text may hold an address with its password.
        known = isinstance(error, PrivsegError)
        self._events.failed(str(error) if known else f"internal error ({type(error).__name__})")

    def _rest(self) -> None:
        """Wait before the next attempt; what came meanwhile is of the past."""
        self._closing.wait(self._pause * (1 - _JITTER * random.random()))  # noqa: S311
        self._pause = min(self._pause * 2, self._pauses[1])
        with contextlib.suppress(queue.Empty):
            while True:
                self._waiting.get_nowait()
                self._events.lost()
