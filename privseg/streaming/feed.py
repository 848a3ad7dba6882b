"""Reading a live source in a thread of its own: a late reader gets the newest frame, a lost source is opened again."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from threading import Condition, Event, Thread
from typing import Final, Generic, TypeVar

from privseg.errors import PrivsegError
from privseg.streaming.watch import CameraStalledError

__all__ = ["FeedEvents", "LiveFeed"]

FrameT = TypeVar("FrameT")

_FIRST_PAUSE: Final = 0.5
_LONGEST_PAUSE: Final = 10.0
_JITTER: Final = 0.5


@dataclass(frozen=True, slots=True)
class FeedEvents:
    """What a feed reports, from its own thread."""

    dropped: Callable[[], None]
    #: takes why, in one line without credentials; called at every attempt that fails
    lost: Callable[[str], None]
    reconnected: Callable[[], None]
    #: the connection was there, and no picture came
    stalled: Callable[[], None] = lambda: None


class LiveFeed(Generic[FrameT]):
    """One slot that always holds the newest frame.

    Args:
        frames: Opens the source and yields its frames.
        stop: When set, reading ends.
        events: Whom to tell.
        reconnect: Whether to open the source again, ever more patiently, when it ends or is lost; asked each time.
    """

    def __init__(
        self, frames: Callable[[], Iterator[FrameT]], stop: Event, events: FeedEvents, *, reconnect: Callable[[], bool]
    ) -> None:
        self._frames = frames
        self._stop = stop
        self._events = events
        self._reconnect = reconnect
        self._changed = Condition()
        self._slot: FrameT | None = None
        self._ended = False
        self._error: Exception | None = None
        # A read that hangs in the network must not keep the process alive.
        self._thread = Thread(target=self._read, name="camera reader", daemon=True)

    def start(self) -> None:
        """Begin to read."""
        self._thread.start()

    def take(self, timeout: float) -> FrameT | None:
        """The newest frame not taken yet; None when none came within ``timeout`` seconds."""
        with self._changed:
            self._changed.wait_for(lambda: self._slot is not None or self._ended, timeout)
            frame, self._slot = self._slot, None
            return frame

    @property
    def exhausted(self) -> bool:
        """Whether reading ended and nothing is left to take."""
        with self._changed:
            return self._ended and self._slot is None

    def close(self, timeout: float) -> Exception | None:
        """Wait for the reader up to ``timeout`` seconds and return what ended it, if it was an error."""
        self._thread.join(timeout)
        return self._error

    def _read(self) -> None:
        pause, was_lost = _FIRST_PAUSE, False
        try:
            while not self._stop.is_set():
                try:
                    for frame in self._frames():
                        if was_lost:
                            self._events.reconnected()
                        pause, was_lost, self._error = _FIRST_PAUSE, False, None
                        self._put(frame)
                        if self._stop.is_set():
                            return
                # A camera must not stay dark for a fault of the reader, so the unforeseen too is a lost camera.
                except Exception as error:
                    if not self._reconnect():
                        raise
                    self._error = error
                    if isinstance(error, CameraStalledError):
                        self._events.stalled()
                if not self._reconnect() or self._stop.is_set():
                    return
                was_lost = True
                self._events.lost(_reason(self._error))
                # Cameras behind one switch are lost together: they must not all knock at the same moments.
                self._stop.wait(pause * (1 - _JITTER * random.random()))  # noqa: S311
                pause = min(pause * 2, _LONGEST_PAUSE)
        except Exception as error:
            self._error = error
        finally:
            with self._changed:
                self._ended = True
                self._changed.notify_all()

    def _put(self, frame: FrameT) -> None:
        with self._changed:
            if self._slot is not None:
                self._events.dropped()
            self._slot = frame
            self._changed.notify_all()


def _reason(error: Exception | None) -> str:
    """One line; an unforeseen error's own text may hold the address with its password."""
    if error is None:
        return "the stream ended"
    return str(error) if isinstance(error, PrivsegError) else f"internal error ({type(error).__name__})"
