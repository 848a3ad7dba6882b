"""The person model behind NVIDIA Triton, over gRPC."""

from __future__ import annotations

import itertools
import time
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

import grpc  # type: ignore[import-untyped]
import numpy as np
import numpy.typing as npt
from tritonclient.grpc import service_pb2, service_pb2_grpc

from privseg.errors import ServerUnavailableError
from privseg.privacy.frames import Withheld
from privseg.streaming.segmenter import MODEL_NAME, PERSON, Answer, NoAnswer, check_image
from privseg.streaming.server_health import ServerFault, ServerHealth
from privseg.streaming.shared_region import SharedRegion
from privseg.streaming.shared_ring import NoRegionFreeError, Ring
from privseg.streaming.triton_calls import Call, CallWay, Question, StreamWay, UnaryWay
from privseg.triton_channel import Tls, open_channel

__all__ = ["TritonSegmenter"]

# What the client's own deadline may take to reach us.
_GRACE_SECONDS: Final = 0.25
_READY_SECONDS: Final = 5.0
# A server that encrypts, or asks for another certificate, says no more than this to who does not know.
_ENCRYPTION: Final = ("ssl", "certificate", "handshake", "verification", "socket closed", "connection reset")


@dataclass(frozen=True, slots=True)
class _Asked:
    """A frame in flight."""

    question: Question
    call: Call
    deadline: float


class TritonSegmenter:
    """The person model behind NVIDIA Triton, over gRPC.

    A bounded number of requests is in flight. When the server is gone, frames fail at once and one of them probes it
    now and then, so that answers come back by themselves.

    Args:
        url: ``host:port`` of Triton's gRPC service; ``dns:///name:port`` to balance over several.
        model: The model's name.
        deadline_seconds: What one answer may take, queueing included.
        max_in_flight: Frames asked for before the first is collected.
        tls: Encrypt the channel, with these files.
        insecure: Send raw frames in clear even to another machine.
        stream: Ask over one bidirectional stream, instead of a call for every frame.
        shared_memory: Where the server sees our shared memory, asked again whenever the server is another one (see
            :func:`privseg.streaming.shared_region.directory_finder`). While it returns None, or the server takes no
            regions, pictures go in the messages. An answer with a 0 in it is then never taken, whatever the policy.
        headers: Sent with every call, such as the key of a restricted protocol.

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
        stream: bool = False,
        shared_memory: Callable[[], Path | None] | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        self.url = url
        self.model = model
        self.max_in_flight = max_in_flight
        #: frames that were answered through shared memory
        self.shared_answers = 0
        self._deadline = deadline_seconds
        sent = {key.lower(): value for key, value in (headers or {}).items()}  # as gRPC wants them
        self._metadata = tuple(sent.items())
        self._channel = open_channel(url, tls, insecure=insecure)
        self._stub = service_pb2_grpc.GRPCInferenceServiceStub(self._channel)
        self._way: CallWay = StreamWay(self._stub, sent) if stream else UnaryWay(self._stub, sent)
        self._ring = Ring(self._stub, sent, shared_memory, max_in_flight) if shared_memory else None
        self._session = uuid.uuid4().hex[:12]
        self._count = itertools.count()
        self._asked: dict[int, _Asked] = {}
        self._health = ServerHealth()
        self._closed = False

    def check_ready(self) -> None:
        """Raise ServerUnavailableError unless the server is up and the model is loaded."""
        question = service_pb2.ModelReadyRequest(name=self.model)
        try:
            answer = self._stub.ModelReady(question, timeout=_READY_SECONDS, metadata=self._metadata)
        except grpc.RpcError as error:
            raise self._unready(ServerFault.from_call(error)) from None
        if not answer.ready:
            fault = f"has no model {self.model} ready"
            next_step = "publish a model, then run `privseg triton up`"
            raise ServerUnavailableError(f"Triton at {self.url}", fault, next_step)
        self._health.answered()

    def submit(self, sequence: int, image: npt.NDArray[np.uint8]) -> None:
        """Ask about one frame; see :class:`privseg.streaming.segmenter.SegmenterBackend`."""
        size = check_image(image)
        if self._closed or sequence in self._asked:
            raise NoAnswer(Withheld.ERROR, "closed" if self._closed else f"frame {sequence} was asked about before")
        if not self._health.may_ask():
            raise NoAnswer(Withheld.SERVER_GONE)
        if len(self._asked) >= self.max_in_flight:
            raise NoAnswer(Withheld.OVERLOADED)
        deadline = time.monotonic() + self._deadline
        region = None
        try:
            region = self._ring.lend(image) if self._ring else None
            self._asked[sequence] = self._ask(sequence, size, image if region is None else region, deadline)
        except NoRegionFreeError:
            raise NoAnswer(Withheld.OVERLOADED, "every shared memory region waits for a late answer") from None
        except ServerFault as fault:
            raise self._failed(fault, region) from None
        except BaseException:
            self._quarantine(region)
            raise

    def result(self, sequence: int) -> Answer:
        """Wait for the answer about one frame; see :class:`privseg.streaming.segmenter.SegmenterBackend`."""
        asked = self._asked.pop(sequence, None)
        if asked is None:
            raise NoAnswer(Withheld.NO_ANSWER, f"frame {sequence} was not asked about")
        try:
            return self._collected(sequence, asked)
        except ServerFault as fault:
            region = _region(asked.question)
            if not fault.region_lost or region is None:
                raise self._failed(fault, region) from None
            # The server was restarted while nothing was in flight. The picture is still here: ask in the message.
            self._let_go()
            picture = region.image(asked.question.size)
        try:
            again = self._ask(sequence, asked.question.size, picture, asked.deadline)
            return self._collected(sequence, again)
        except ServerFault as fault:
            raise self._failed(fault, None) from None

    def close(self) -> None:
        """Give up what is in flight, take the shared memory back, and close the channel."""
        if self._closed:
            return
        self._closed = True
        if self._ring:
            self._ring.close(server_gone=self._health.gone)
        for asked in self._asked.values():
            asked.call.cancel()
        self._asked.clear()
        self._way.close()
        self._channel.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _ask(
        self, sequence: int, size: tuple[int, int], content: npt.NDArray[np.uint8] | SharedRegion, deadline: float
    ) -> _Asked:
        """Send a request; raises ServerFault."""
        seconds = max(deadline - time.monotonic(), 1e-3)
        request_id = f"{self._session}-{next(self._count)}-{sequence}"
        question = Question(request_id, self.model, size, content, seconds)
        # A call whose answer goes into a region is not given up at the deadline, for only its end frees the region.
        call = self._way.ask(question, None if isinstance(content, SharedRegion) else seconds)
        if self._ring and isinstance(content, SharedRegion):
            self._ring.asked(content, call)
        return _Asked(question, call, deadline)

    def _collected(self, sequence: int, asked: _Asked) -> Answer:
        """Wait for an answer and check it; raises ServerFault and NoAnswer."""
        region = _region(asked.question)
        grace = _GRACE_SECONDS if asked.call.limited else 0.0
        try:
            response = asked.call.future.result(max(asked.deadline - time.monotonic(), 0) + grace)
        except ServerFault:
            raise
        except BaseException as error:  # an interrupt too: nobody waits for the answer any more
            if region is None:
                asked.call.cancel()
            self._quarantine(region)
            if not isinstance(error, TimeoutError):
                raise
            self._note_late()
            raise NoAnswer(Withheld.LATE) from None
        self._health.answered()
        if self._ring is None:
            return _checked(sequence, asked.question, response)
        if region is None:
            self._ring.tell()
            return _checked(sequence, asked.question, response)
        try:
            answer = _checked(sequence, asked.question, response)
            self.shared_answers += 1
            return answer
        finally:
            self._ring.give_back(region)

    def _quarantine(self, region: SharedRegion | None) -> None:
        if self._ring and region is not None:
            self._ring.quarantine(region)

    def _failed(self, fault: ServerFault, region: SharedRegion | None) -> NoAnswer:
        if self._ring and region is not None:
            self._ring.give_back(region, fault)
        if fault.reason is Withheld.LATE:
            self._note_late()
        elif fault.reason is Withheld.SERVER_GONE:
            self._health.lost()
            self._let_go()
        return NoAnswer(fault.reason, fault.message)

    def _note_late(self) -> None:
        self._health.late()
        if self._health.gone:
            self._way.reset()

    def _let_go(self) -> None:
        if self._ring:
            self._ring.lost()

    def _unready(self, fault: ServerFault) -> ServerUnavailableError:
        text = fault.message.lower()
        if any(words in text for words in _ENCRYPTION):
            next_step = "check triton.ssl, root_certificates, private_key and certificate_chain, then the server's log"
        elif "restricted" in text:
            next_step = "check the key in triton.headers"
        else:
            next_step = "run `privseg triton up`"
        return ServerUnavailableError(f"Triton at {self.url}", f"does not answer ({fault.message})", next_step)


def _region(question: Question) -> SharedRegion | None:
    return question.content if isinstance(question.content, SharedRegion) else None


def _checked(sequence: int, question: Question, response: Any) -> Answer:
    """Trust nothing in the answer: it must be to this request, of the promised name, type, shape and length."""
    if response.id != question.request_id:
        raise NoAnswer(Withheld.WRONG_ANSWER, f"answer {response.id!r} to request {question.request_id!r}")
    height, width = question.size
    output, raw = response.outputs[:1], response.raw_output_contents[:1]
    promised = (PERSON, "UINT8", (1, height, width))
    if len(response.outputs) != 1 or (output[0].name, output[0].datatype, tuple(output[0].shape)) != promised:
        raise NoAnswer(Withheld.WRONG_ANSWER, f"the output is not {PERSON}, uint8 {(1, height, width)}")
    in_message = len(raw[0]) if raw else 0
    if isinstance(question.content, SharedRegion):
        if in_message:
            raise NoAnswer(Withheld.WRONG_ANSWER, "the answer is not in the shared memory")
        probability = question.content.person((height, width))
        if not probability.min():
            raise NoAnswer(Withheld.EMPTY_ANSWER, "the shared memory was not filled")
    else:
        if in_message != height * width:
            raise NoAnswer(Withheld.WRONG_ANSWER, f"{in_message} bytes for {height}x{width}")
        probability = np.frombuffer(raw[0], np.uint8).reshape(height, width)
    return Answer(sequence, probability, response.model_version)
