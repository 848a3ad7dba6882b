"""A server that misuses the shared memory: it writes late, in part, never, elsewhere, or forgets it.

It speaks Triton's protocol and keeps its regions in a folder; the client under test is the real one.
"""

from __future__ import annotations

import errno
import os
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from privseg.privacy.frames import Withheld
from privseg.streaming import shared_ring
from privseg.streaming.segmenter import NoAnswer
from privseg.streaming.segmenter_triton import TritonSegmenter
from privseg.streaming.shared_region import PREFIX
from privseg.testing.region_server import RegionServer, serve

HEIGHT, WIDTH = 64, 96
PIXELS = HEIGHT * WIDTH
Writing = Callable[[Any, Any], None]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "shm").mkdir()
    return tmp_path / "shm"


@pytest.fixture
def server(folder: Path) -> RegionServer:
    return RegionServer(folder)


@pytest.fixture
def url(server: RegionServer) -> Iterator[str]:
    with ThreadPoolExecutor(8) as pool:
        service, address = serve(server, pool)
        try:
            yield address
        finally:
            service.stop(None).wait()


def connected(url: str, folder: Path | None, **options: Any) -> TritonSegmenter:
    return TritonSegmenter(url, shared_memory=lambda: folder, **{"deadline_seconds": 30.0, **options})


def submit(segmenter: TritonSegmenter, level: int) -> None:
    segmenter.submit(level, np.full((1, HEIGHT, WIDTH, 3), level, np.uint8))


def collect(segmenter: TritonSegmenter, level: int) -> Withheld | None:
    """Why there is no answer; an answer must be this frame's."""
    try:
        answer = segmenter.result(level)
    except NoAnswer as error:
        return error.reason
    assert (answer.probability == level).all()
    return None


def ask(segmenter: TritonSegmenter, level: int) -> Withheld | None:
    try:
        submit(segmenter, level)
    except NoAnswer as error:
        return error.reason
    return collect(segmenter, level)


@pytest.mark.parametrize(
    "written",
    [lambda red: red[:0], lambda red: red[:-1], lambda red: red[WIDTH:], lambda red: np.where(red, red * 0, red)],
)
def test_what_the_server_did_not_write_is_never_an_earlier_frames(
    server: RegionServer, url: str, folder: Path, written: Callable[[Any], Any]
) -> None:
    with connected(url, folder, max_in_flight=1) as segmenter:
        assert ask(segmenter, 200) is None
        server.written = written
        assert ask(segmenter, 3) is Withheld.EMPTY_ANSWER
        server.written = lambda red: red
        assert ask(segmenter, 90) is None
        assert segmenter.shared_answers == 2


@pytest.mark.parametrize(
    "altered",
    [
        lambda response: setattr(response, "id", "another"),
        lambda response: response.raw_output_contents.append(bytes([1]) * PIXELS),
        lambda response: response.outputs.pop(),
        lambda response: setattr(response.outputs[0], "datatype", "INT8"),
        lambda response: response.outputs[0].shape.append(1),
    ],
)
def test_a_lie_about_the_answer_is_no_answer(
    server: RegionServer, url: str, folder: Path, altered: Callable[[Any], None]
) -> None:
    with connected(url, folder) as segmenter:
        server.altered = altered
        assert ask(segmenter, 5) is Withheld.WRONG_ANSWER
        server.altered = lambda response: None
        assert ask(segmenter, 6) is None


def test_a_late_write_lands_in_no_other_frames_memory(server: RegionServer, url: str, folder: Path) -> None:
    released, entered, left = threading.Event(), threading.Event(), threading.Event()

    def before(level: int) -> None:
        if level == 1:
            entered.set()
            released.wait(30)
        elif level == 7:  # while this one is computed, the late one is written
            released.set()
            left.wait(30)

    server.before = before
    server.altered = lambda response: left.set() if response.id.endswith("-1") else None
    with connected(url, folder, deadline_seconds=2.0, max_in_flight=2) as segmenter:
        submit(segmenter, 1)
        assert entered.wait(30)
        assert collect(segmenter, 1) is Withheld.LATE
        for level in range(2, 7):
            assert ask(segmenter, level) is None
            assert server.used[0] not in server.used[1:]
        assert ask(segmenter, 7) is None
        assert server.used[0] not in server.used[1:]
        # once it is known to be done with, its region serves again
        deadline, level = time.monotonic() + 30, 8
        while server.used[0] not in server.used[1:]:
            assert time.monotonic() < deadline
            submit(segmenter, level)
            assert ask(segmenter, level + 1) in {None, Withheld.OVERLOADED}
            assert collect(segmenter, level) is None
            level += 2
        assert len(set(server.used)) == 2


def test_all_regions_waiting_for_late_answers_is_an_overload(server: RegionServer, url: str, folder: Path) -> None:
    released = threading.Event()

    def before(_level: int) -> None:
        released.wait(30)

    server.before = before
    with connected(url, folder, deadline_seconds=0.1, max_in_flight=2) as segmenter:
        assert [ask(segmenter, level) for level in (1, 2)] == [Withheld.LATE] * 2
        assert ask(segmenter, 3) is Withheld.OVERLOADED
        released.set()
        until_answered(segmenter)


def test_a_region_whose_answer_never_comes_is_replaced_after_a_while(
    server: RegionServer, url: str, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    released = threading.Event()

    def before(level: int) -> None:
        if level == 1:
            released.wait(30)

    server.before = before
    monkeypatch.setattr(shared_ring, "_QUARANTINE_SECONDS", 0.3)
    with connected(url, folder, deadline_seconds=0.1, max_in_flight=1) as segmenter:
        assert ask(segmenter, 1) is Withheld.LATE
        until_answered(segmenter)
        assert server.used[0] not in server.used[1:]
        released.set()
    assert list(folder.iterdir()) == []


def until_answered(segmenter: TritonSegmenter, first: int = 10) -> int:
    deadline, level = time.monotonic() + 30, first
    while ask(segmenter, level) is not None:
        assert time.monotonic() < deadline
        level += 1
        time.sleep(0.02)
    return level


def test_a_write_after_the_connection_broke_lands_nowhere(server: RegionServer, folder: Path) -> None:
    released, entered, left = threading.Event(), threading.Event(), threading.Event()

    def before(level: int) -> None:
        if level == 1:
            entered.set()
            released.wait(30)
        elif released.is_set():
            left.wait(30)

    server.before = before
    server.altered = lambda response: left.set() if response.id.endswith("-1") else None
    with ThreadPoolExecutor(8) as pool:
        service, url = serve(server, pool)
        with connected(url, folder, max_in_flight=1) as segmenter:
            try:
                submit(segmenter, 1)
                assert entered.wait(30)
                service.stop(None)  # the connection breaks; the server's thread works on
                assert collect(segmenter, 1) in {Withheld.SERVER_GONE, Withheld.NO_ANSWER}
                service.wait_for_termination(30)
                service, _ = serve(server, pool, int(url.rpartition(":")[2]))
                level = until_answered(segmenter)
                released.set()
                assert ask(segmenter, level + 1) is None  # and meanwhile the late one was written
                assert left.is_set()
            finally:
                released.set()
        assert segmenter.shared_answers == 2
        assert server.used[0] not in server.used[1:]
        service.stop(None).wait()
    assert list(folder.iterdir()) == []


def test_memory_of_a_call_with_an_unknown_end_is_not_used_again(server: RegionServer, url: str, folder: Path) -> None:
    def before(level: int) -> None:
        if level == 1:
            raise RuntimeError("injected")  # gRPC then says UNKNOWN: nobody knows what was done, or is still to be

    server.before = before
    with connected(url, folder, max_in_flight=1) as segmenter:
        assert [ask(segmenter, level) for level in (1, 2)] == [Withheld.NO_ANSWER, None]
        assert server.used[0] != server.used[1]
        assert server.used[0] not in server.regions


def test_a_server_that_forgot_the_regions_is_told_again_and_no_frame_is_lost(
    server: RegionServer, url: str, folder: Path
) -> None:
    with connected(url, folder) as segmenter:
        for level in range(1, 5):
            assert ask(segmenter, level) is None
            server.regions.clear()
        assert segmenter.shared_answers == 2  # the other two went in messages
        assert len(set(server.used)) == 2


@pytest.mark.parametrize("fault", ["no folder", "a full disk", "nobody knows where", "another folder", "restricted"])
def test_without_usable_memory_frames_go_in_messages_and_it_is_said_once(
    server: RegionServer, url: str, folder: Path, fault: str, tmp_path: Path, capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    place: Path | None = folder
    if fault == "no folder":
        place = tmp_path / "none"
    elif fault == "nobody knows where":
        place = None
    elif fault == "another folder":
        place = tmp_path
    elif fault == "restricted":
        server.refusal = "This protocol is restricted, expecting header 'x'"
    else:

        def full(_descriptor: int, _offset: int, _size: int) -> None:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

        monkeypatch.setattr(os, "posix_fallocate", full)
    with connected(url, place) as segmenter:
        assert [ask(segmenter, level) for level in range(1, 6)] == [None] * 5
        assert segmenter.shared_answers == 0
    (line,) = capsys.readouterr().err.splitlines()
    assert "frames go through gRPC" in line
    assert list(tmp_path.rglob(f"{PREFIX}*")) == []
