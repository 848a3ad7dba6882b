"""One question at a time to the model, from a thread of its own, so that a live picture never waits for the answer."""

from __future__ import annotations

import time
from concurrent.futures import Future, ThreadPoolExecutor

import numpy as np
import numpy.typing as npt

from privseg.privacy.frames import Withheld
from privseg.streaming.segmenter import Answer, NoAnswer, SegmenterBackend

__all__ = ["Asker"]


class Asker:
    """Asks a segmenter, which from then on nobody else uses.

    Args:
        segmenter: Whom to ask.
    """

    def __init__(self, segmenter: SegmenterBackend) -> None:
        self._segmenter = segmenter
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="asker")
        self._answer: Future[Answer | NoAnswer] | None = None
        self._took = 0.0

    @property
    def idle(self) -> bool:
        """Whether no question is open, nor an answer left to take."""
        return self._answer is None

    @property
    def took(self) -> float:
        """Seconds from the last answered question to its answer; 0 before there was one."""
        return self._took

    def ask(self, sequence: int, image: npt.NDArray[np.uint8]) -> None:
        """Ask about a frame; see :meth:`SegmenterBackend.submit`. ``image`` must not change any more."""
        if self._answer is not None:
            raise RuntimeError("one question at a time")
        self._answer = self._thread.submit(self._both, sequence, image)

    def take(self, wait: float = 0.0) -> Answer | NoAnswer | None:
        """The answer, or why there is none; None while the question is open, and without one.

        Args:
            wait: Seconds to wait for it.
        """
        if self._answer is None:
            return None
        try:
            answer = self._answer.result(wait)
        except TimeoutError:
            return None
        self._answer = None
        return answer

    def close(self) -> None:
        """Wait for an open question, up to the segmenter's own deadline, and ask no more."""
        self._thread.shutdown(wait=True, cancel_futures=True)

    def _both(self, sequence: int, image: npt.NDArray[np.uint8]) -> Answer | NoAnswer:
        begun = time.monotonic()
        try:
            self._segmenter.submit(sequence, image)
            return self._segmenter.result(sequence)
        except NoAnswer as error:
            return error
        except Exception as error:  # the frame is withheld, whatever it was
            return NoAnswer(Withheld.ERROR, f"{type(error).__name__}: {error}")
        finally:
            self._took = time.monotonic() - begun
