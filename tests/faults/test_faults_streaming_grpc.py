"""A gRPC server that speaks Triton's protocol and lies: wrong ids, names, types, shapes, sizes, silence, every status.

The real Triton cannot be made to do these things; the client under test is the real one.
"""

from __future__ import annotations

import contextlib
import itertools
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import grpc
import numpy as np
import pytest
from tritonclient.grpc import service_pb2, service_pb2_grpc

from privseg.errors import ServerUnavailableError
from privseg.privacy.frames import Withheld
from privseg.streaming.segmenter import NoAnswer
from privseg.streaming.segmenter_triton import TritonSegmenter

HEIGHT, WIDTH = 64, 96
IMAGE = np.full((1, HEIGHT, WIDTH, 3), 40, np.uint8)
Answering = Callable[[Any, Any], Any]
Opened = Callable[..., TritonSegmenter]


def honest(request: Any, _context: Any = None) -> Any:
    response = service_pb2.ModelInferResponse(model_name=request.model_name, model_version="7", id=request.id)
    response.outputs.add(name="PERSON", datatype="UINT8", shape=[1, HEIGHT, WIDTH])
    response.raw_output_contents.append(bytes([200]) * HEIGHT * WIDTH)
    return response


def altered(change: Callable[[Any], None]) -> Answering:
    def answer(request: Any, _context: Any) -> Any:
        response = honest(request)
        change(response)
        return response

    return answer


def status(code: grpc.StatusCode, message: str) -> Answering:
    def answer(_request: Any, context: Any) -> Any:
        context.abort(code, message)

    return answer


class Server(service_pb2_grpc.GRPCInferenceServiceServicer):  # type: ignore[misc]
    """Answers as told."""

    def __init__(self) -> None:
        self.answering: Answering = honest
        self.asked = 0
        self.released = threading.Event()
        self.url = ""

    def ModelInfer(self, request: Any, context: Any) -> Any:
        self.asked += 1
        return self.answering(request, context)

    def ModelStreamInfer(self, requests: Iterator[Any], context: Any) -> Iterator[Any]:
        for request in requests:
            self.asked += 1
            yield service_pb2.ModelStreamInferResponse(infer_response=self.answering(request, context))

    def ModelReady(self, _request: Any, _context: Any) -> Any:
        return service_pb2.ModelReadyResponse(ready=False)


@contextlib.contextmanager
def running() -> Iterator[Server]:
    servicer = Server()
    with ThreadPoolExecutor(8) as pool:
        server = grpc.server(pool)
        service_pb2_grpc.add_GRPCInferenceServiceServicer_to_server(servicer, server)
        servicer.url = f"127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}"
        server.start()
        try:
            yield servicer
        finally:
            servicer.released.set()
            server.stop(None).wait()


@pytest.fixture
def server() -> Iterator[Server]:
    with running() as servicer:
        yield servicer


@pytest.fixture(params=["a call each", "one stream"])
def opened(request: pytest.FixtureRequest, server: Server) -> Iterator[Callable[..., TritonSegmenter]]:
    """Opens the client under test; closes it."""
    with contextlib.ExitStack() as stack:

        def make(deadline_seconds: float = 30) -> TritonSegmenter:
            client = TritonSegmenter(
                server.url, deadline_seconds=deadline_seconds, stream=request.param == "one stream"
            )
            return stack.enter_context(client)

        yield make
        server.released.set()


def reason(segmenter: TritonSegmenter, sequence: int) -> Withheld | None:
    try:
        segmenter.submit(sequence, IMAGE)
        segmenter.result(sequence)
    except NoAnswer as error:
        return error.reason
    return None


def test_an_honest_answer_is_taken(opened: Opened) -> None:
    with opened() as segmenter:
        segmenter.submit(5, IMAGE)
        answer = segmenter.result(5)
    assert (answer.sequence, answer.model_version, answer.probability.shape) == (5, "7", (HEIGHT, WIDTH))
    assert (answer.probability == 200).all()


def replace_output(name: str = "PERSON", datatype: str = "UINT8", shape: tuple[int, ...] = (1, HEIGHT, WIDTH)) -> Any:
    def change(response: Any) -> None:
        del response.outputs[:]
        response.outputs.add(name=name, datatype=datatype, shape=shape)

    return change


def replace_content(content: bytes) -> Any:
    def change(response: Any) -> None:
        response.raw_output_contents[0] = content

    return change


@pytest.mark.parametrize(
    "change",
    [
        lambda response: setattr(response, "id", ""),
        lambda response: setattr(response, "id", response.id + "1"),
        replace_output(name="PEOPLE"),
        replace_output(datatype="INT8"),
        replace_output(datatype="FP32"),
        replace_output(shape=(1, WIDTH, HEIGHT)),
        replace_output(shape=(HEIGHT, WIDTH)),
        replace_output(shape=(2, HEIGHT, WIDTH)),
        replace_content(bytes(HEIGHT * WIDTH - 1)),
        replace_content(b""),
        lambda response: response.outputs.pop(),
        lambda response: response.raw_output_contents.pop(),
    ],
)
def test_a_lie_is_no_answer_and_the_next_honest_one_is(
    server: Server, opened: Opened, change: Callable[[Any], None]
) -> None:
    with opened() as segmenter:
        server.answering = altered(change)
        assert reason(segmenter, 0) is Withheld.WRONG_ANSWER
        server.answering = honest
        assert reason(segmenter, 1) is None


def test_the_answer_to_the_request_before_is_refused(server: Server, opened: Opened) -> None:
    earlier: list[str] = []

    def stale(request: Any, _context: Any) -> Any:
        response = honest(request)
        earlier.append(request.id)
        response.id = earlier[-2] if len(earlier) > 1 else request.id
        return response

    server.answering = stale
    with opened() as segmenter:
        assert [reason(segmenter, number) for number in range(3)] == [None, *[Withheld.WRONG_ANSWER] * 2]


@pytest.mark.parametrize(
    ("code", "message", "expected"),
    [
        (grpc.StatusCode.UNAVAILABLE, "Exceeds maximum queue size", Withheld.OVERLOADED),
        (grpc.StatusCode.UNAVAILABLE, "Request timeout expired", Withheld.OVERLOADED),
        (grpc.StatusCode.RESOURCE_EXHAUSTED, "too large", Withheld.OVERLOADED),
        (grpc.StatusCode.UNAVAILABLE, "This protocol is restricted, expecting header x", Withheld.NO_ANSWER),
        (grpc.StatusCode.UNAVAILABLE, "Request for unknown model: 'x' is not found", Withheld.NO_ANSWER),
        (grpc.StatusCode.INVALID_ARGUMENT, "unexpected shape", Withheld.NO_ANSWER),
        (grpc.StatusCode.INTERNAL, "onnxruntime failed", Withheld.NO_ANSWER),
        (grpc.StatusCode.DEADLINE_EXCEEDED, "", Withheld.LATE),
        (grpc.StatusCode.UNAVAILABLE, "Socket closed", Withheld.SERVER_GONE),
    ],
)
def test_each_status_has_its_reason(
    server: Server, opened: Opened, code: grpc.StatusCode, message: str, expected: Withheld
) -> None:
    server.answering = status(code, message)
    with opened() as segmenter:
        assert reason(segmenter, 0) is expected
        if expected is not Withheld.SERVER_GONE:  # an overloaded or mistaken server is asked again at once
            server.answering = honest
            assert reason(segmenter, 1) is None


def test_a_silent_server_is_given_up_then_probed(server: Server, opened: Opened) -> None:
    def silent(request: Any, _context: Any) -> Any:
        server.released.wait(60)
        return honest(request)

    server.answering = silent
    with opened(0.3) as segmenter:
        assert [reason(segmenter, number) for number in range(3)] == [Withheld.LATE] * 3
        asked = server.asked
        assert reason(segmenter, 3) is Withheld.SERVER_GONE
        assert server.asked == asked
        server.answering = honest
        deadline, number = time.monotonic() + 30, 4
        while reason(segmenter, number) is not None:
            assert time.monotonic() < deadline
            number += 1
            time.sleep(0.01)
        assert reason(segmenter, number + 1) is None


@pytest.mark.parametrize("jump", [-86400.0, 86400.0])
def test_the_clock_may_be_set_while_it_waits(
    server: Server, opened: Opened, jump: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, set_by = time.time, [0.0]
    monkeypatch.setattr(time, "time", lambda: real() + set_by[0])

    def answering(request: Any, _context: Any) -> Any:
        set_by[0] = jump  # between the question and the answer
        return honest(request)

    server.answering = answering
    with opened() as segmenter:
        assert reason(segmenter, 0) is None
        set_by[0] = 0.0
        assert reason(segmenter, 1) is None


def test_a_server_without_the_model_is_not_ready(opened: Opened) -> None:
    with opened() as segmenter, pytest.raises(ServerUnavailableError, match="person_segmentation"):
        segmenter.check_ready()


def test_every_server_of_a_name_is_asked(server: Server) -> None:
    with running() as other:
        url = f"ipv4:{server.url},{other.url}"
        with TritonSegmenter(url, deadline_seconds=30) as segmenter:
            numbers = itertools.count()
            while not (server.asked and other.asked):
                assert reason(segmenter, number := next(numbers)) is None
                assert number < 1000
