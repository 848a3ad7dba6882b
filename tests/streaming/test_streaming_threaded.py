"""A sink in a thread of its own: all frames, in order, and every fault told."""

from __future__ import annotations

import threading
from fractions import Fraction

import pytest

from privseg.errors import PrivacyViolationPrevented, StorageError
from privseg.privacy.frames import ProtectedFrame, Withheld, slate
from privseg.streaming.threaded import ThreadedSink


def made(number: int) -> ProtectedFrame:
    return slate(32, 32, Withheld.LATE, sequence=number, pts=number, time_base=Fraction(1, 10))


class Slow:
    """Takes a frame when it is let."""

    def __init__(self, broken_from: int | None = None) -> None:
        self.frames: list[int] = []
        self.ended = ""
        self.gate = threading.Semaphore(0)
        self._broken_from = broken_from

    def write(self, frame: ProtectedFrame) -> None:
        assert self.gate.acquire(timeout=30)
        if self._broken_from is not None and frame.sequence >= self._broken_from:
            raise StorageError("disk", "is full", "make room")
        self.frames.append(frame.sequence)

    def close(self) -> None:
        self.ended = "closed"

    def abort(self) -> None:
        self.ended = "aborted"


def test_every_frame_arrives_in_order_and_is_timed() -> None:
    sink, times = Slow(), list[float]()
    threaded = ThreadedSink(sink, capacity=2, observe=times.append)
    sink.gate.release(50)
    for number in range(50):
        threaded.write(made(number))
    threaded.close()
    assert sink.frames == list(range(50))
    assert (len(times), sink.ended) == (50, "closed")


def test_whoever_writes_waits_while_too_many_are_waiting() -> None:
    sink = Slow()
    threaded = ThreadedSink(sink, capacity=2)
    written = []

    def fill() -> None:
        for number in range(6):
            threaded.write(made(number))
            written.append(number)

    writer = threading.Thread(target=fill)
    writer.start()
    writer.join(0.5)
    assert writer.is_alive()
    assert len(written) <= 3  # two that wait and the one in hand
    sink.gate.release(6)
    writer.join(30)
    threaded.close()
    assert sink.frames == list(range(6))


def test_a_fault_is_raised_at_a_later_write_and_at_the_end() -> None:
    sink = Slow(broken_from=1)
    threaded = ThreadedSink(sink, capacity=2)
    sink.gate.release(50)

    def write_on() -> None:
        for number in range(50):
            threaded.write(made(number))

    with pytest.raises(StorageError, match="is full"):
        write_on()
    with pytest.raises(StorageError, match="is full"):
        threaded.close()
    threaded.abort()
    assert (sink.frames, sink.ended) == ([0], "aborted")


def test_a_fault_of_the_last_frame_is_raised_at_the_end() -> None:
    sink = Slow(broken_from=0)
    threaded = ThreadedSink(sink)
    sink.gate.release(1)
    threaded.write(made(0))
    with pytest.raises(StorageError, match="is full"):
        threaded.close()
    assert sink.ended == ""


def test_an_abort_waits_for_nothing_that_waits() -> None:
    sink = Slow()
    threaded = ThreadedSink(sink)
    for number in range(4):
        threaded.write(made(number))
    ender = threading.Thread(target=threaded.abort)
    ender.start()
    sink.gate.release(1)  # the one in hand is written; those behind it are not
    ender.join(30)
    assert sink.ended == "aborted"
    assert len(sink.frames) <= 1


def test_nothing_but_a_protected_frame_is_taken() -> None:
    threaded = ThreadedSink(Slow())
    with pytest.raises(PrivacyViolationPrevented, match="refused a bytes"):
        threaded.write(b"raw")  # type: ignore[arg-type]
    threaded.close()
