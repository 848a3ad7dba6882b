"""The real Triton and its clients: killed, restarted, overloaded, locked; with shared memory and without."""

from __future__ import annotations

import itertools
import re
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tritonclient.grpc import InferenceServerClient

from privseg.errors import ServerUnavailableError
from privseg.privacy.frames import Withheld
from privseg.serving.artifact import MODEL_NAME
from privseg.serving.config import CONFIG_FILE, render_config
from privseg.serving.local_triton import LocalTriton
from privseg.streaming.backends import KINDS, BackendKind, open_backend
from privseg.streaming.segmenter import NoAnswer
from privseg.streaming.segmenter_triton import TritonSegmenter
from privseg.streaming.shared_region import PREFIX, directory_finder
from privseg.testing.triton import ServedModel, make_person_model, running_triton

pytestmark = pytest.mark.slow

SECONDS = 60.0
QUEUE = 4
SERVED = [kind for kind in KINDS if kind != "local"]
CLIENT = """
import sys, numpy as np
from privseg.streaming.backends import open_backend
backend = open_backend("shared memory", url=sys.argv[1], deadline_seconds=60)
backend.submit(0, np.full((1, 1536, 1536, 3), 50, np.uint8))
assert backend.result(0).probability.min() == 50
for number in range(1, 4):
    backend.submit(number, np.full((1, 1536, 1536, 3), 50, np.uint8))
print("in flight", flush=True)
sys.stdin.read()
"""


@pytest.fixture(scope="module")
def triton(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServedModel]:
    folder = tmp_path_factory.mktemp("triton")
    config = folder / "model_repository" / MODEL_NAME / CONFIG_FILE
    config.parent.mkdir(parents=True)
    config.write_text(re.sub(r"max_queue_size: \d+", f"max_queue_size: {QUEUE}", render_config()))
    with running_triton(folder) as server:
        yield server


def opened(triton: ServedModel, kind: BackendKind, **options: Any) -> TritonSegmenter:
    backend = open_backend(kind, url=triton.grpc_url, **({"deadline_seconds": SECONDS} | options))
    assert isinstance(backend, TritonSegmenter)
    return backend


def memory(triton: ServedModel) -> set[str]:
    """Our regions' files, as the server sees them."""
    status = triton.status()
    assert status is not None
    return {path.name for path in Path(f"/proc/{status.pid}/root/dev/shm").glob(f"{PREFIX}*")}


def registered(triton: ServedModel) -> set[str]:
    with InferenceServerClient(triton.grpc_url) as client:
        return set(client.get_system_shared_memory_status().regions)


def ask(backend: TritonSegmenter, number: int, side: int = 64) -> Withheld | None:
    """Why there is no answer; an answer must be this frame's."""
    level = number % 250 + 1
    try:
        backend.submit(number, np.full((1, side, side, 3), level, np.uint8))
        answer = backend.result(number)
    except NoAnswer as error:
        return error.reason
    assert answer.sequence == number
    assert (answer.probability == level).all()
    return None


def until_answered(backend: TritonSegmenter, numbers: Iterator[int]) -> set[Withheld]:
    """Ask until a frame is answered; return why the others were not."""
    deadline, reasons = time.monotonic() + SECONDS, set()
    while (reason := ask(backend, next(numbers))) is not None:
        reasons.add(reason)
        assert time.monotonic() < deadline
        time.sleep(0.02)
    return reasons


def test_a_client_killed_in_the_middle_harms_nobody_and_the_next_one_cleans_up(triton: ServedModel) -> None:
    with opened(triton, "shared memory") as living:
        assert ask(living, 0) is None
        mine = memory(triton)
        command, pipe = [sys.executable, "-c", CLIENT, triton.grpc_url], subprocess.PIPE
        with subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True) as client:
            assert client.stdout is not None
            assert client.stdout.readline() == "in flight\n"
            client.kill()
            client.wait()
        left = memory(triton) - mine
        assert len(left) == 3
        assert left <= registered(triton)
        assert ask(living, 1) is None
        deadline = time.monotonic() + SECONDS
        while registered(triton) & left:  # what the server still computes for the dead is left to a later client
            with opened(triton, "shared memory") as following:
                assert ask(following, 2) is None
                assert following.shared_answers == 1
            assert time.monotonic() < deadline
        assert memory(triton) == mine
        assert registered(triton) == mine
        assert ask(living, 3) is None
        assert living.shared_answers == 3
    assert (memory(triton), registered(triton)) == (set(), set())


@pytest.mark.parametrize("kind", SERVED)
def test_restarted_under_load_answers_come_back_by_themselves(triton: ServedModel, kind: BackendKind) -> None:
    stop, reasons, numbers = threading.Event(), set[Withheld | None](), itertools.count()
    with opened(triton, kind, max_in_flight=2) as backend:
        assert ask(backend, next(numbers)) is None

        def load() -> None:
            while not stop.is_set():
                reasons.add(ask(backend, next(numbers), 256))  # a wrong frame's answer would end this thread

        thread = threading.Thread(target=load)
        thread.start()
        try:
            triton.kill()
            triton.restart()
        finally:
            stop.set()
            thread.join(SECONDS)
        shared = backend.shared_answers
        until_answered(backend, numbers)
        assert ask(backend, next(numbers)) is None
        assert Withheld.SERVER_GONE in reasons
        assert (backend.shared_answers > shared) == kind.endswith("shared memory")
    assert (memory(triton), registered(triton)) == (set(), set())


@pytest.mark.parametrize("kind", SERVED)
def test_restarted_while_nobody_asked(triton: ServedModel, kind: BackendKind) -> None:
    numbers = itertools.count()
    with opened(triton, kind) as backend:
        assert ask(backend, next(numbers)) is None
        triton.kill()
        triton.restart()
        assert until_answered(backend, numbers) <= {Withheld.SERVER_GONE}


@pytest.mark.parametrize("kind", SERVED)
def test_killed_with_requests_in_flight(triton: ServedModel, kind: BackendKind) -> None:
    image = np.full((1, 64, 64, 3), 9, np.uint8)
    try:
        with opened(triton, kind) as backend:
            assert ask(backend, 0) is None
            with triton.hanging():
                for number in range(1, 4):
                    backend.submit(number, image)
                triton.kill()
            for number in range(1, 4):
                with pytest.raises(NoAnswer) as caught:
                    backend.result(number)
                assert caught.value.reason in {Withheld.SERVER_GONE, Withheld.NO_ANSWER}
            assert {ask(backend, number) for number in range(4, 40)} == {Withheld.SERVER_GONE}
    finally:
        triton.restart()


def waiting(triton: ServedModel) -> int:
    """How many requests wait in the server's queue."""
    with urllib.request.urlopen(triton.metrics_url) as response:  # noqa: S310 - loopback
        text = response.read().decode()
    return sum(
        int(found) for found in re.findall(r"^nv_inference_pending_request_count\{.*\} (\d+)", text, re.MULTILINE)
    )


@pytest.mark.parametrize("kind", SERVED)
def test_a_full_queue_refuses_and_is_no_dead_server(triton: ServedModel, kind: BackendKind) -> None:
    image = np.full((1, 512, 512, 3), 7, np.uint8)
    with opened(triton, kind, max_in_flight=16) as one, opened(triton, kind, max_in_flight=16) as other:
        with triton.hanging():  # until the queue is full: the other two dozens come to it
            for number in range(16):
                one.submit(number, image)
                other.submit(number, image)
            deadline = time.monotonic() + SECONDS
            while waiting(triton) < QUEUE:
                assert time.monotonic() < deadline
        reasons = []
        for backend, number in itertools.product((one, other), range(16)):
            try:
                assert (backend.result(number).probability == 7).all()
            except NoAnswer as error:
                reasons.append(error.reason)
        assert set(reasons) == {Withheld.OVERLOADED}
        assert len(reasons) < 32
        assert [ask(one, 100), ask(other, 100)] == [None, None]


@pytest.mark.parametrize("jump", [-86400.0, 86400.0])
@pytest.mark.parametrize("kind", SERVED)
def test_the_clock_may_be_set_while_a_request_is_in_flight(
    triton: ServedModel, kind: BackendKind, jump: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, set_by = time.time, [0.0]
    monkeypatch.setattr(time, "time", lambda: real() + set_by[0])
    with opened(triton, kind) as backend:
        with triton.hanging():
            backend.submit(0, np.full((1, 64, 64, 3), 9, np.uint8))
            set_by[0] = jump
        assert (backend.result(0).probability == 9).all()
        set_by[0] = 0.0  # a clock that is really set is also gRPC's; this one is not, and must not be asked with
        assert ask(backend, 1) is None


@pytest.fixture(scope="module")
def locked(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A server whose inference takes one key, and its shared memory another."""
    folder = tmp_path_factory.mktemp("locked")
    make_person_model(folder / "repository" / MODEL_NAME / "1")
    restricted = ("inference:frames-key=open", "shared-memory:memory-key=sesame")
    arguments = tuple(f"--grpc-restricted-protocol={each}" for each in restricted)
    server = LocalTriton(folder / "repository", folder / "state", extra_arguments=arguments)
    try:
        yield server.start().grpc_url
    finally:
        server.kill()


FRAMES, MEMORY = "triton-grpc-protocol-frames-key", "Triton-GRPC-protocol-memory-key"


@pytest.mark.parametrize(
    ("headers", "answered", "shared", "lines"),
    [
        ({}, False, 0, 0),
        ({FRAMES: "wrong", MEMORY: "sesame"}, False, 0, 0),
        ({FRAMES: "open"}, True, 0, 1),
        ({FRAMES: "open", MEMORY: "sesame"}, True, 2, 0),
    ],
)
@pytest.mark.parametrize("stream", [False, True])
def test_a_wrong_key_is_a_refusal_and_no_dead_server(
    locked: str, headers: dict[str, str], answered: bool, shared: int, lines: int, stream: bool,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    finder = directory_finder("auto", locked)
    with TritonSegmenter(
        locked, deadline_seconds=SECONDS, shared_memory=finder, headers=headers, stream=stream
    ) as backend:
        expected = None if answered else Withheld.NO_ANSWER
        assert [ask(backend, number) for number in range(2)] == [expected] * 2
        assert backend.shared_answers == shared
        if answered:
            backend.check_ready()
    assert len(capsys.readouterr().err.splitlines()) == lines
    if not answered:
        with (
            TritonSegmenter(locked, "no_such_model", headers=headers) as backend,
            pytest.raises(ServerUnavailableError),
        ):
            backend.check_ready()
