"""Clients that ask a Triton without pause, and remember every answer and every failure."""

from __future__ import annotations

import threading
import time
from types import TracebackType
from typing import Self

import numpy as np
from numpy.typing import NDArray

from privseg.serving.admin import Endpoint

__all__ = ["AskingClients"]


class AskingClients:
    """Some clients in threads of their own; they ask until the block ends.

    Args:
        url: ``host:port`` of gRPC.
        picture: What they show: uint8 ``[1,H,W,3]``, RGB, H and W multiples of 32.
        count: How many.

    Attributes:
        failures: What refused requests raised.
        versions: For each client, the versions that answered it, in order, each as often as it answered in a row:
            ``[(1, 20), (2, 31)]``.
        answers: For each version, the first answer it gave: uint8 ``[1,H,W]``.
        differing: For each version, how many answers were not that one.
        gaps: Seconds between one answer and the next that the same client got, failures between them or not.
    """

    def __init__(self, url: str, picture: NDArray[np.uint8], *, count: int = 4) -> None:
        self.failures: list[Exception] = []
        self.versions: list[list[tuple[int, int]]] = [[] for _ in range(count)]
        self.answers: dict[int, NDArray[np.uint8]] = {}
        self.differing: dict[int, int] = {}
        self.gaps: list[float] = []
        self._url, self._picture = url, picture
        self._changed = threading.Condition()
        self._done = threading.Event()
        self._threads = [threading.Thread(target=self._ask, args=(number,)) for number in range(count)]

    @property
    def total(self) -> int:
        """Answers so far."""
        return sum(times for runs in self.versions for _, times in runs)

    def wait_for_more(self, answers: int, seconds: float = 60.0) -> None:
        """Return once every client has had so many more answers, or a failure; AssertionError after ``seconds``."""
        with self._changed:
            wanted = [sum(times for _, times in runs) + answers for runs in self.versions]
            assert self._changed.wait_for(  # noqa: S101 - what a test waits for
                lambda: self.failures or all(self._had(n) >= wanted[n] for n in range(len(wanted))), seconds
            ), "the clients get no answers"

    def _had(self, number: int) -> int:
        return sum(times for _, times in self.versions[number])

    def _ask(self, number: int) -> None:
        last = None
        with Endpoint(self._url) as endpoint:
            while not self._done.is_set():
                try:
                    person, version = endpoint.infer(self._picture)
                except Exception as error:  # every kind of failure counts
                    with self._changed:
                        self.failures.append(error)
                        self._changed.notify_all()
                    continue
                now = time.monotonic()
                with self._changed:
                    if last is not None:
                        self.gaps.append(now - last)
                    last = now
                    self._remember(number, person, version)
                    self._changed.notify_all()

    def _remember(self, number: int, person: NDArray[np.uint8], version: int) -> None:
        runs = self.versions[number]
        if runs and runs[-1][0] == version:
            runs[-1] = (version, runs[-1][1] + 1)
        else:
            runs.append((version, 1))
        if not np.array_equal(self.answers.setdefault(version, person), person):
            self.differing[version] = self.differing.get(version, 0) + 1

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._done.set()
        for thread in self._threads:
            thread.join()
