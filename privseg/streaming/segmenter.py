"""Asking the model where people are; every way in which it can fail to answer ends in :class:`NoAnswer`.

The segmenter sees the model's input, a plain array; it never holds a frame.
"""

from __future__ import annotations

import itertools
import time
import uuid
from concurrent.futures import Future
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Final, Protocol, Self

import numpy as np
import numpy.typing as npt
from tritonclient.grpc import InferInput, InferRequestedOutput
from tritonclient.utils import InferenceServerException

from privseg.errors import ServerUnavailableError
from privseg.privacy.frames import Withheld
from privseg.streaming.channel import Tls, open_client

__all__ = ["Answer", "NoAnswer", "SegmenterBackend", "TritonSegmenter"]

MODEL_NAME: Final = "person_segmentation"
_INPUT: Final = "IMAGE"
_OUTPUT: Final = "PERSON"
# A dead server is asked again this often, by one frame; the others do not wait for it.
_PROBE_SECONDS: Final = 0.5
# So many late answers in a row and the server is taken for dead.
_LATE_LIMIT: Final = 3
# What the client's own deadline may take to reach us.
_GRACE_SECONDS: Final = 0.25
_READY_SECONDS: Final = 5.0


class NoAnswer(Exception):  # noqa: N818 - a fact to act on, not a fault of the program
    """There is no usable answer for a frame: it must leave as a slate.

    Args:
        reason: What the slate says.
        detail: One line for the operator.
    """

    def __init__(self, reason: Withheld, detail: str = "") -> None:
        super().__init__(detail or str(reason))
        self.reason = reason


@dataclass(frozen=True, slots=True)
class Answer:
    """What the model said about one frame.

    Attributes:
        sequence: Number of the frame it was asked about.
        probability: uint8 ``(H, W)``, person probability times 255, at the size of the input.
        model_version: The version that answered.
    """

    sequence: int
    probability: npt.NDArray[np.uint8]
    model_version: str


class SegmenterBackend(Protocol):
    """Something that finds people. One caller thread; frames are asked for and collected in order."""

    #: how many frames may be asked for before the first is collected
    max_in_flight: int
    model: str

    def check_ready(self) -> None:
        """Raise ServerUnavailableError unless the model would answer now."""
        ...

    def submit(self, sequence: int, image: npt.NDArray[np.uint8]) -> None:
        """Ask about frame ``sequence``; ``image`` is uint8 ``[1, H, W, 3]`` RGB. Returns at once.

        Raises:
            NoAnswer: There will be none.
        """
        ...

    def result(self, sequence: int) -> Answer:
        """Wait for the answer about frame ``sequence`` until its deadline.

        Raises:
            NoAnswer: It did not come in time, or cannot be used.
        """
        ...

    def close(self) -> None:
        """Let go of the connection."""
        ...


@dataclass(slots=True)
class _Call:
    request_id: str
    size: tuple[int, int]
    deadline: float
    future: Future[Any]
    context: Any


class TritonSegmenter:
    """The person model behind NVIDIA Triton, over gRPC.

    A bounded number of requests is in flight. When the server is gone, frames fail at once and one of them probes
    it every half second, so that answers come back by themselves.

    Args:
        url: ``host:port`` of Triton's gRPC service; ``dns:///name:port`` to balance over several.
        model: The model's name.
        deadline_seconds: What one answer may take, queueing included.
        max_in_flight: Frames asked for before the first is collected.
        tls: Encrypt the channel, with these files.
        insecure: Send raw frames in clear even to another machine.

    Raises:
        UsageError: ``url`` is another machine, and neither ``tls`` nor ``insecure`` is given; or a file of ``tls``
            cannot be read.
    """

    def __init__(
        self,
        url: str = "127.0.0.1:8001",
        model: str = MODEL_NAME,
        *,
        deadline_seconds: float = 2.0,
        max_in_flight: int = 3,
        tls: Tls | None = None,
        insecure: bool = False,
    ) -> None:
        self.url = url
        self.model = model
        self.max_in_flight = max_in_flight
        self._deadline = deadline_seconds
        self._client = open_client(url, tls, insecure=insecure)
        self._session = uuid.uuid4().hex[:12]
        self._count = itertools.count()
        self._calls: dict[int, _Call] = {}
        self._gone = False
        self._probe_at = 0.0
        self._late = 0

    def check_ready(self) -> None:
        """Raise ServerUnavailableError unless the server is up and the model is loaded."""
        try:
            ready = self._client.is_model_ready(self.model, client_timeout=_READY_SECONDS)
        except InferenceServerException as error:
            fault = f"does not answer ({_one_line(error)})"
            raise ServerUnavailableError(f"Triton at {self.url}", fault, "run `privseg triton up`") from None
        if not ready:
            fault = f"has no model {self.model} ready"
            next_step = "publish a model, then run `privseg triton up`"
            raise ServerUnavailableError(f"Triton at {self.url}", fault, next_step)
        self._gone, self._late = False, 0

    def submit(self, sequence: int, image: npt.NDArray[np.uint8]) -> None:
        """Ask about one frame; see :class:`SegmenterBackend`."""
        now = time.monotonic()
        if self._gone:
            if now < self._probe_at:
                raise NoAnswer(Withheld.SERVER_GONE)
            self._probe_at = now + _PROBE_SECONDS
        if len(self._calls) >= self.max_in_flight:
            raise NoAnswer(Withheld.OVERLOADED)
        request = InferInput(_INPUT, list(image.shape), "UINT8")
        request.set_data_from_numpy(image)
        request_id = f"{self._session}-{next(self._count)}-{sequence}"
        future: Future[Any] = Future()
        try:
            context = self._client.async_infer(
                self.model,
                [request],
                lambda result, error: future.set_result((result, error)),
                request_id=request_id,
                outputs=[InferRequestedOutput(_OUTPUT)],
                timeout=round(self._deadline * 1e6),
                client_timeout=self._deadline,
            )
        except InferenceServerException as error:
            raise self._failed(error) from None
        _, height, width, _ = image.shape
        self._calls[sequence] = _Call(request_id, (height, width), now + self._deadline, future, context)

    def result(self, sequence: int) -> Answer:
        """Wait for the answer about one frame; see :class:`SegmenterBackend`."""
        call = self._calls.pop(sequence, None)
        if call is None:
            raise NoAnswer(Withheld.NO_ANSWER, f"frame {sequence} was not asked about")
        try:
            result, error = call.future.result(max(call.deadline - time.monotonic(), 0) + _GRACE_SECONDS)
        except TimeoutError:
            call.context.cancel()
            raise self._missed() from None
        if error is not None:
            raise self._failed(error)
        self._gone, self._late = False, 0
        return self._checked(sequence, call, result)

    def close(self) -> None:
        """Cancel what is in flight and close the channel."""
        for call in self._calls.values():
            call.context.cancel()
        self._calls.clear()
        self._client.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _checked(self, sequence: int, call: _Call, result: Any) -> Answer:
        """Trust nothing in the answer: it must be to this request, of the promised name, type and shape."""
        response = result.get_response()
        if response.id != call.request_id:
            raise NoAnswer(Withheld.WRONG_ANSWER, f"answer {response.id!r} to request {call.request_id!r}")
        output = result.get_output(_OUTPUT)
        if output is None or output.datatype != "UINT8" or tuple(output.shape) != (1, *call.size):
            raise NoAnswer(Withheld.WRONG_ANSWER, f"the output {_OUTPUT} is not uint8 {(1, *call.size)}")
        try:
            probability = result.as_numpy(_OUTPUT)[0]
        except (ValueError, TypeError, IndexError) as error:
            raise NoAnswer(Withheld.WRONG_ANSWER, str(error)) from None
        return Answer(sequence, probability, response.model_version)

    def _failed(self, error: InferenceServerException) -> NoAnswer:
        reason = _classify(error)
        if reason is Withheld.LATE:
            return self._missed()
        if reason is Withheld.SERVER_GONE:
            self._lose()
        return NoAnswer(reason, _one_line(error))

    def _missed(self) -> NoAnswer:
        self._late += 1
        if self._late >= _LATE_LIMIT:
            self._lose()
        return NoAnswer(Withheld.LATE)

    def _lose(self) -> None:
        if not self._gone:
            self._probe_at = time.monotonic() + _PROBE_SECONDS
        self._gone = True


def _classify(error: InferenceServerException) -> Withheld:
    """One gRPC status hides several faults: Triton says UNAVAILABLE for a full queue as well as when it is dead."""
    status, message = str(error.status()), str(error.message()).lower()
    if "DEADLINE_EXCEEDED" in status:
        return Withheld.LATE
    if "RESOURCE_EXHAUSTED" in status or "maximum queue size" in message or "timeout expired" in message:
        return Withheld.OVERLOADED
    answered = ("unknown model", "not ready", "not found", "restricted", "unload")
    if "UNAVAILABLE" in status and not any(words in message for words in answered):
        return Withheld.SERVER_GONE
    return Withheld.NO_ANSWER


def _one_line(error: InferenceServerException) -> str:
    return " ".join(str(error.message()).split())[:200]
