"""A segmenter that finds the test camera's person, and fails on demand in every way a server can."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from enum import StrEnum

import numpy as np
import numpy.typing as npt

from privseg.errors import ServerUnavailableError
from privseg.privacy.frames import Withheld
from privseg.streaming.segmenter import Answer, NoAnswer

__all__ = ["FaultySegmenter", "SegmenterFault"]


class SegmenterFault(StrEnum):
    """What goes wrong with one frame's answer."""

    LATE = "the deadline passes"
    GONE = "the server is gone when asked"
    GONE_LATER = "the server dies with the question"
    OVERLOADED = "the queue is full"
    CRASH = "asking raises something unforeseen"
    CRASH_LATER = "waiting raises something unforeseen"
    WRONG_SHAPE = "a map of another size"
    WRONG_RANK = "a map with one dimension too many"
    NOT_A_NUMBER = "a float map full of NaN"
    WRONG_TYPE = "a bool map"
    NOT_AN_ARRAY = "no array at all"
    STALE = "the answer to the frame before"
    ALL_ZERO = "zero everywhere"
    SOME_ZERO = "zero in one place"


class FaultySegmenter:
    """Takes red for a person, as :func:`privseg.testing.triton.make_person_model` does, except where told to fail.

    Args:
        faults: The fault for each frame number, as a mapping or a function; None or absent means an honest answer.
        deadline_seconds: How long a late answer is waited for.
        max_in_flight: See :class:`privseg.streaming.segmenter.SegmenterBackend`.
        ready: What :meth:`check_ready` finds.
    """

    def __init__(
        self,
        faults: Mapping[int, SegmenterFault] | Callable[[int], SegmenterFault | None] | None = None,
        *,
        deadline_seconds: float = 0.01,
        max_in_flight: int = 3,
        ready: bool = True,
    ) -> None:
        self.model = "faulty"
        self.max_in_flight = max_in_flight
        self.closed = False
        self._fault_at = faults if callable(faults) else (faults or {}).get
        self._deadline = deadline_seconds
        self._ready = ready
        self._asked: dict[int, npt.NDArray[np.uint8]] = {}
        self._never = threading.Event()

    def check_ready(self) -> None:
        """Raise ServerUnavailableError if made so."""
        if not self._ready:
            raise ServerUnavailableError(self.model, "is not ready", "make it with ready=True")

    def submit(self, sequence: int, image: npt.NDArray[np.uint8]) -> None:
        """Ask about a frame; ``image`` is uint8 ``[1, H, W, 3]`` RGB."""
        fault = self._fault_at(sequence)
        if fault is SegmenterFault.GONE:
            raise NoAnswer(Withheld.SERVER_GONE)
        if fault is SegmenterFault.OVERLOADED:
            raise NoAnswer(Withheld.OVERLOADED)
        if fault is SegmenterFault.CRASH:
            raise RuntimeError("injected")
        self._asked[sequence] = np.maximum(image[0, :, :, 0], 1)

    def result(self, sequence: int) -> Answer:
        """The answer about a frame, or the fault ordered for it."""
        probability = self._asked.pop(sequence)
        fault = self._fault_at(sequence)
        if fault is SegmenterFault.LATE:
            self._never.wait(self._deadline)
            raise NoAnswer(Withheld.LATE)
        if fault is SegmenterFault.GONE_LATER:
            raise NoAnswer(Withheld.SERVER_GONE)
        if fault is SegmenterFault.CRASH_LATER:
            raise RuntimeError("injected")
        if fault is SegmenterFault.STALE:
            return Answer(sequence - 1, probability, "1")
        return Answer(sequence, _spoiled(probability, fault), "1")

    def close(self) -> None:
        """Remember that it was closed."""
        self.closed = True


def _spoiled(probability: npt.NDArray[np.uint8], fault: SegmenterFault | None) -> npt.NDArray[np.uint8]:
    spoilt = {
        SegmenterFault.WRONG_SHAPE: lambda: probability[:-1],
        SegmenterFault.WRONG_RANK: lambda: probability[np.newaxis],
        SegmenterFault.NOT_A_NUMBER: lambda: np.full(probability.shape, np.nan, np.float32),
        SegmenterFault.WRONG_TYPE: lambda: probability > probability.max(),
        SegmenterFault.NOT_AN_ARRAY: lambda: None,
        SegmenterFault.ALL_ZERO: lambda: np.zeros_like(probability),
        SegmenterFault.SOME_ZERO: lambda: np.where(np.arange(probability.shape[1]) == 3, np.uint8(0), probability),
    }
    if fault is None or fault not in spoilt:
        return probability
    wrong: npt.NDArray[np.uint8] = spoilt[fault]()  # type: ignore[no-untyped-call]
    return wrong
