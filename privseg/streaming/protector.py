"""From raw frames to frames that may leave: each asks the model, and is covered by its own answer or withheld.

There is no third way out of :meth:`Protector.finish`: whatever goes wrong for a frame, it leaves as a slate.
"""

from __future__ import annotations

import time
from collections import deque
from dataclasses import dataclass

import numpy as np

from privseg.privacy.filters.base import Method
from privseg.privacy.frames import ProtectedFrame, RawFrame, Withheld, protect, slate
from privseg.privacy.masks import MaskPolicy, PersonMask, TemporalHold, mask_from_probability
from privseg.streaming.segmenter import Answer, NoAnswer, SegmenterBackend
from privseg.streaming.telemetry import Telemetry

__all__ = ["Protector"]


@dataclass(slots=True)
class _Pending:
    frame: RawFrame
    size: tuple[int, int]
    submitted: float
    withheld: NoAnswer | None


class Protector:
    """One camera's frames on their way through the model; frames leave in the order they came.

    Args:
        camera: Name for the metrics.
        segmenter: Where to ask.
        method: How people are covered.
        policy: How an answer becomes the covered area.
        telemetry: Where stages are timed.
        long_side: Pixels of the longer side of the model's input.
    """

    def __init__(
        self,
        camera: str,
        segmenter: SegmenterBackend,
        method: Method,
        policy: MaskPolicy,
        telemetry: Telemetry,
        *,
        long_side: int = 512,
    ) -> None:
        self._camera = camera
        self._segmenter = segmenter
        self._method = method
        self._policy = policy
        self._telemetry = telemetry
        self._long_side = long_side
        self._hold = TemporalHold(policy)
        self._pending: deque[_Pending] = deque()
        self._version = ""
        #: versions that answered, in order of appearance
        self.model_versions: list[str] = []
        #: what the last withheld frame was withheld for, in the operator's words
        self.last_detail = ""

    @property
    def pending(self) -> int:
        """Frames begun and not finished."""
        return len(self._pending)

    def begin(self, frame: RawFrame) -> None:
        """Ask the model about a frame; never raises for a fault of the model."""
        self._telemetry.observe_stage(self._camera, "decode", frame.decode_seconds)
        withheld = NoAnswer(Withheld.DAMAGED) if frame.damaged else None
        size = (0, 0)
        submitted = time.monotonic()
        try:
            if withheld is None:
                image = frame.model_input(self._long_side)
                size = (image.shape[1], image.shape[2])
                self._segmenter.submit(frame.sequence, image)
        except NoAnswer as error:
            withheld = error
        except Exception as error:
            withheld = _unexpected(error)
        self._pending.append(_Pending(frame, size, submitted, withheld))

    def finish(self) -> ProtectedFrame:
        """Wait for the oldest frame's answer and cover its people, or withhold it.

        Raises:
            IndexError: No frame is pending.
        """
        asked = self._pending.popleft()
        try:
            return self._covered(asked) if asked.withheld is None else self._slate(asked.frame, asked.withheld)
        except NoAnswer as error:
            return self._slate(asked.frame, error)
        except Exception as error:
            return self._slate(asked.frame, _unexpected(error))

    def _covered(self, asked: _Pending) -> ProtectedFrame:
        frame = asked.frame
        answer = self._segmenter.result(frame.sequence)
        self._telemetry.observe_stage(self._camera, "segment", time.monotonic() - asked.submitted)
        begun = time.perf_counter()
        self._check(answer, asked)
        mask = mask_from_probability(answer.probability, frame.height, frame.width, self._policy)
        covered = protect(frame, PersonMask(self._hold.update(mask), answer.sequence), self._method, self._camera)
        self._telemetry.observe_stage(self._camera, "protect", time.perf_counter() - begun)
        self._note_version(answer.model_version)
        return covered

    def _check(self, answer: Answer, asked: _Pending) -> None:
        """Refuse an answer about another frame, or one that is no probability map of the input's size."""
        if answer.sequence != asked.frame.sequence:
            raise NoAnswer(Withheld.WRONG_ANSWER, f"the answer is about frame {answer.sequence}")
        probability = answer.probability
        if not isinstance(probability, np.ndarray) or probability.dtype != np.uint8 or probability.shape != asked.size:
            raise NoAnswer(Withheld.WRONG_ANSWER, f"the answer is not uint8 {asked.size}")
        if not self._policy.trust_zero and not probability.all():
            raise NoAnswer(Withheld.EMPTY_ANSWER)

    def _note_version(self, version: str) -> None:
        if version == self._version:
            return
        self._version = version
        self._telemetry.set_model(self._segmenter.model, version)
        if version not in self.model_versions:
            self.model_versions.append(version)

    def _slate(self, frame: RawFrame, error: NoAnswer) -> ProtectedFrame:
        self.last_detail = str(error)
        return slate(
            frame.width,
            frame.height,
            error.reason,
            sequence=frame.sequence,
            pts=frame.pts,
            time_base=frame.time_base,
            captured=frame.captured,
        )


def _unexpected(error: Exception) -> NoAnswer:
    return NoAnswer(Withheld.ERROR, f"{type(error).__name__}: {error}")
