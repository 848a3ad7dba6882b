"""One stream for all frames, on a server that refuses frames, hangs up, or forgets the shared memory."""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from privseg.privacy.frames import Withheld
from privseg.streaming.segmenter import NoAnswer
from privseg.streaming.segmenter_triton import TritonSegmenter
from privseg.testing.region_server import RegionServer, serve


@pytest.fixture
def server(tmp_path: Path) -> RegionServer:
    return RegionServer(tmp_path)


@pytest.fixture(params=["in the messages", "in shared memory"])
def segmenter(request: pytest.FixtureRequest, server: RegionServer) -> Iterator[TritonSegmenter]:
    memory = (lambda: server.folder) if request.param == "in shared memory" else None
    with ThreadPoolExecutor(8) as pool:
        service, url = serve(server, pool)
        try:
            with TritonSegmenter(url, deadline_seconds=30, stream=True, shared_memory=memory) as client:
                yield client
        finally:
            service.stop(None).wait()


def reason(segmenter: TritonSegmenter, sequence: int) -> Withheld | None:
    """Why there is no answer; an answer must be this frame's."""
    level = sequence % 250 + 1
    try:
        segmenter.submit(sequence, np.full((1, 64, 96, 3), level, np.uint8))
        answer = segmenter.result(sequence)
    except NoAnswer as error:
        return error.reason
    assert (answer.probability == level).all()
    return None


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("Exceeds maximum queue size", Withheld.OVERLOADED),
        ("Request timeout expired", Withheld.OVERLOADED),
        ("Request for unknown model: 'x' is not found", Withheld.NO_ANSWER),
        ("onnxruntime failed", Withheld.NO_ANSWER),
    ],
)
@pytest.mark.parametrize("named", [True, False])
def test_an_error_on_a_stream_is_one_frames_and_leaves_the_stream_open(
    server: RegionServer, segmenter: TritonSegmenter, words: str, expected: Withheld, named: bool
) -> None:
    server.stream_error, server.names_errors = words, named
    assert reason(segmenter, 0) is expected
    server.stream_error = ""
    assert reason(segmenter, 1) is None


def answers(segmenter: TritonSegmenter, numbers: Iterator[int], count: int) -> None:
    """Ask until so many frames were answered."""
    deadline = time.monotonic() + 30
    while count:
        if reason(segmenter, next(numbers)) is None:
            count -= 1
        else:
            assert time.monotonic() < deadline
            time.sleep(0.01)


def test_a_stream_that_the_server_ends_is_opened_again_and_leaves_no_thread(
    server: RegionServer, segmenter: TritonSegmenter
) -> None:
    numbers = itertools.count()
    server.hangs_up = True
    answers(segmenter, numbers, 12)
    before = threading.active_count()
    answers(segmenter, numbers, 20)
    deadline = time.monotonic() + 30
    while threading.active_count() > before + 4:
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_a_server_that_forgot_the_regions_loses_no_frame(server: RegionServer, segmenter: TritonSegmenter) -> None:
    for sequence in range(4):
        assert reason(segmenter, sequence) is None
        server.regions.clear()
