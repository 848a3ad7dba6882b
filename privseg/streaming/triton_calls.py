"""Two ways to ask Triton: a call of its own for every frame, or all frames over one bidirectional stream.

A call of its own can be cancelled, carries a status of its own and is what Triton recommends. A stream keeps all frames
of a camera with one server, in order, and spares each the call's overhead.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any, Final, Protocol

import grpc  # type: ignore[import-untyped]
import numpy as np
import numpy.typing as npt
from tritonclient.grpc import service_pb2, service_pb2_grpc

from privseg.streaming.segmenter import IMAGE, PERSON
from privseg.streaming.server_health import ServerFault
from privseg.streaming.shared_region import SharedRegion

__all__ = ["Call", "CallWay", "Question", "StreamWay", "UnaryWay"]

_TYPE: Final = "UINT8"


@dataclass(frozen=True, slots=True)
class Question:
    """One frame's request.

    Attributes:
        request_id: Comes back in the answer.
        model: The model's name.
        size: Height and width of the picture.
        content: The picture, uint8 ``[1, H, W, 3]``, or the region that holds it and takes the answer.
        queue_seconds: How long it may wait in the server's queue.
    """

    request_id: str
    model: str
    size: tuple[int, int]
    content: npt.NDArray[np.uint8] | SharedRegion
    queue_seconds: float

    @property
    def queue_microseconds(self) -> int:
        """How long it may wait in the server's queue, as Triton takes it."""
        return round(self.queue_seconds * 1e6)


@dataclass(frozen=True, slots=True)
class Call:
    """A question that was asked.

    Attributes:
        future: Becomes a ``ModelInferResponse``, or a ServerFault.
        cancel: Ends the wait for it, where the way can; the server may go on working.
        limited: gRPC gives it up by itself, and says so.
    """

    future: Future[Any]
    cancel: Callable[[], object]
    limited: bool


class CallWay(Protocol):
    """How questions reach the server."""

    def ask(self, question: Question, limit_seconds: float | None) -> Call:
        """Send a question; a way that can gives it up after ``limit_seconds``.

        Raises:
            ServerFault: It could not be sent.
        """
        ...

    def reset(self) -> None:
        """Start afresh with the next question, for the server is gone."""
        ...

    def close(self) -> None:
        """Give up what is in flight."""
        ...


class UnaryWay:
    """A call of its own for every frame.

    Args:
        stub: Whose channel to use.
        headers: Sent with every call.
    """

    def __init__(self, stub: service_pb2_grpc.GRPCInferenceServiceStub, headers: Mapping[str, str]) -> None:
        self._infer = stub.ModelInfer
        self._metadata = tuple(headers.items())

    def ask(self, question: Question, limit_seconds: float | None) -> Call:
        """Send a question; see :class:`CallWay`."""
        future: Future[Any] = Future()

        def arrived(ended: Any) -> None:
            try:
                future.set_result(ended.result())
            except grpc.FutureCancelledError:
                future.set_exception(ServerFault.cancelled())
            except grpc.RpcError as error:
                future.set_exception(ServerFault.from_call(error))

        try:
            call = self._infer.future(_message(question), timeout=limit_seconds, metadata=self._metadata)
        except ValueError as error:  # what gRPC says of a channel that was closed
            raise ServerFault("", str(error)) from None
        call.add_done_callback(arrived)
        return Call(future, call.cancel, limited=limit_seconds is not None)

    def reset(self) -> None:
        """Nothing to do: the channel connects again by itself."""

    def close(self) -> None:
        """Nothing of its own to give up."""


class StreamWay:
    """All frames over one stream, which is opened again when it broke.

    Args:
        stub: Whose channel to use.
        headers: Sent when the stream is opened.
    """

    def __init__(self, stub: service_pb2_grpc.GRPCInferenceServiceStub, headers: Mapping[str, str]) -> None:
        self._open = stub.ModelStreamInfer
        self._metadata = tuple(headers.items())
        self._stream: _Stream | None = None

    def ask(self, question: Question, limit_seconds: float | None) -> Call:
        """Send a question; see :class:`CallWay`. One question of a stream cannot be given up alone."""
        if self._stream is not None and self._stream.ended:
            self.reset()
        if self._stream is None:
            self._stream = _Stream(self._open, self._metadata)
        return Call(self._stream.ask(_message(question)), lambda: None, limited=False)

    def reset(self) -> None:
        """End the stream; the next question opens another."""
        if self._stream is not None:
            self._stream.close()
            self._stream = None

    def close(self) -> None:
        """End the stream."""
        self.reset()


class _Stream:
    """One open stream and the questions that wait on it.

    Triton's own client has this too, but it leaves a thread behind for every stream that is given up, and it does not
    tell which question an error belongs to.
    """

    def __init__(self, open_stream: Callable[..., Any], metadata: tuple[tuple[str, str], ...]) -> None:
        self._lock = threading.Lock()
        self._waiting: dict[str, Future[Any]] = {}
        self._fault: ServerFault | None = None
        self._outgoing: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self._call = open_stream(iter(self._outgoing.get, None), metadata=metadata)
        self._listener = threading.Thread(target=self._listen, name="triton stream", daemon=True)
        self._listener.start()

    @property
    def ended(self) -> bool:
        return self._fault is not None

    def ask(self, message: Any) -> Future[Any]:
        future: Future[Any] = Future()
        with self._lock:
            if self._fault is not None:
                raise self._fault
            self._waiting[message.id] = future
        self._outgoing.put(message)
        return future

    def close(self) -> None:
        self._call.cancel()
        self._listener.join()

    def _listen(self) -> None:
        fault = ServerFault.ended()
        try:
            for reply in self._call:
                self._deliver(reply)
        except grpc.RpcError as error:
            fault = ServerFault.from_call(error)
        finally:
            with self._lock:
                self._fault = fault
                waiting, self._waiting = self._waiting, {}
            self._outgoing.put(None)  # lets gRPC's sending thread go
            for future in waiting.values():
                future.set_exception(fault)

    def _deliver(self, reply: Any) -> None:
        """Hand a reply to the question it names, else to the oldest, for Triton answers in order.

        A frame that gave up stays among the waiting until its reply comes. So an answer with a name that nobody waits
        for is a lie, and is found out as one; an error without a name can at worst withhold a frame for another's
        fault.
        """
        with self._lock:
            request_id = reply.infer_response.id
            if request_id not in self._waiting:
                request_id = next(iter(self._waiting), "")
            future = self._waiting.pop(request_id, None)
        if future is None:
            return
        if reply.error_message:
            future.set_exception(ServerFault("", reply.error_message))
        else:
            future.set_result(reply.infer_response)


def _message(question: Question) -> Any:
    """The request."""
    height, width = question.size
    message = service_pb2.ModelInferRequest(model_name=question.model, id=question.request_id)
    message.parameters["timeout"].int64_param = question.queue_microseconds
    image = message.inputs.add(name=IMAGE, datatype=_TYPE, shape=[1, height, width, 3])
    person = message.outputs.add(name=PERSON)
    if isinstance(question.content, SharedRegion):
        region = question.content
        for tensor, size, offset in ((image, height * width * 3, 0), (person, height * width, region.person_offset)):
            tensor.parameters["shared_memory_region"].string_param = region.name
            tensor.parameters["shared_memory_byte_size"].int64_param = size
            if offset:
                tensor.parameters["shared_memory_offset"].int64_param = offset
    else:
        message.raw_input_contents.append(question.content.tobytes())
    return message
