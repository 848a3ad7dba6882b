"""What every backend promises, on the real Triton and the real ONNX Runtime: one test for all of them."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from privseg.errors import GateFailedError, UsageError
from privseg.privacy.filters.registry import create_method
from privseg.privacy.frames import Withheld
from privseg.streaming.anonymize import anonymize_file
from privseg.streaming.backends import KINDS, BackendKind, configured_backend, open_backend
from privseg.streaming.config import GatewayConfig
from privseg.streaming.segmenter import NoAnswer, SegmenterBackend
from privseg.streaming.segmenter_local import LocalSegmenter
from privseg.streaming.segmenter_triton import TritonSegmenter
from privseg.testing.camera import beacon_pixels, is_slate, read_video, scene, write_video
from privseg.testing.triton import ServedModel, make_person_model, running_triton

pytestmark = pytest.mark.slow

SECONDS = 60.0
Opener = Callable[..., SegmenterBackend]


@pytest.fixture(scope="module")
def triton(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServedModel]:
    with running_triton(tmp_path_factory.mktemp("triton")) as server:
        yield server


@pytest.fixture(params=KINDS)
def kind(request: pytest.FixtureRequest) -> BackendKind:
    return request.param  # type: ignore[no-any-return]


@pytest.fixture
def opened(triton: ServedModel, kind: BackendKind) -> Iterator[Opener]:
    """Opens the backend under test; closes what was opened."""
    backends: list[SegmenterBackend] = []

    def make(**options: Any) -> SegmenterBackend:
        directory = triton.repository / "person_segmentation" / "1"
        settings = {"deadline_seconds": SECONDS} | options
        backends.append(open_backend(kind, url=triton.grpc_url, directory=directory, **settings))
        return backends[-1]

    yield make
    for backend in backends:
        backend.close()
    shared = sum(backend.shared_answers for backend in backends if isinstance(backend, TritonSegmenter))
    answered = any(getattr(backend, "answered_here", False) for backend in backends)
    assert (shared > 0) == (answered and kind.endswith("shared memory"))


def picture(level: int, height: int = 64, width: int = 96) -> Any:
    return np.full((1, height, width, 3), level, np.uint8)


def ask(backend: SegmenterBackend, sequence: int, image: Any) -> Any:
    """The answer's map, checked for everything but its content."""
    backend.submit(sequence, image)
    return collect(backend, sequence, image.shape[1:3])


def collect(backend: SegmenterBackend, sequence: int, size: tuple[int, int] = (64, 96)) -> Any:
    answer = backend.result(sequence)
    backend.answered_here = True  # type: ignore[attr-defined]
    assert (answer.sequence, answer.model_version) == (sequence, "1")
    assert (answer.probability.dtype, answer.probability.shape) == (np.uint8, size)
    return answer.probability


def reason(call: Callable[..., object], *arguments: object) -> Withheld:
    with pytest.raises(NoAnswer) as caught:
        call(*arguments)
    return caught.value.reason


def test_each_frame_gets_its_own_answer_whatever_its_size(opened: Opener) -> None:
    backend = opened()
    backend.check_ready()
    assert backend.model == "person_segmentation"
    sizes = [(64, 96), (96, 64), (32, 32), (512, 288), (64, 96), (2048, 2048), (512, 288)]
    for sequence, size in enumerate(sizes, start=7):
        assert (ask(backend, sequence, picture(sequence * 3, *size)) == sequence * 3).all()


def test_an_answer_is_about_the_picture_as_it_was_and_stays_as_it_is(opened: Opener) -> None:
    backend = opened(max_in_flight=2)
    image = np.random.default_rng(1).integers(1, 255, (1, 64, 96, 3), np.uint8)
    before = image.copy()
    backend.submit(0, image)
    image[:] = 255
    first = collect(backend, 0)
    for sequence in range(1, 6):
        ask(backend, sequence, picture(sequence))
    assert (first == before[0, :, :, 0]).all()


def test_so_many_in_flight_and_no_more(opened: Opener) -> None:
    backend = opened(max_in_flight=3)
    for sequence in range(3):
        backend.submit(sequence, picture(100 + sequence))
    assert reason(backend.submit, 3, picture(9)) is Withheld.OVERLOADED
    for sequence in range(3, 12):
        assert (collect(backend, sequence - 3) == 97 + sequence).all()
        backend.submit(sequence, picture(100 + sequence))
    assert [int(collect(backend, sequence).max()) for sequence in (11, 9, 10)] == [111, 109, 110]


def test_a_deadline_that_passes_is_no_answer(opened: Opener) -> None:
    backend = opened(deadline_seconds=1e-5, max_in_flight=2)
    late: dict[int, Withheld] = {}
    for sequence in range(100):
        try:
            ask(backend, sequence, picture(40, 1600, 1600))  # this thread may sleep until the answer is there
        except NoAnswer as error:
            late[sequence] = error.reason
        if len(late) == 2:
            break
    assert len(late) == 2
    assert set(late.values()) <= {Withheld.LATE, Withheld.OVERLOADED}
    assert reason(backend.result, min(late)) is Withheld.NO_ANSWER  # nothing is answered twice


@pytest.mark.parametrize(
    "image",
    [
        picture(1, 64, 95), picture(1, 40, 64), picture(1)[0], picture(1)[..., :2], picture(1).repeat(2, axis=0),
        picture(1).astype(np.float32), picture(1)[:, :0],
    ],
)  # fmt: skip
def test_what_is_no_input_is_not_asked_about(opened: Opener, image: Any) -> None:
    backend = opened()
    assert reason(backend.submit, 0, image) is Withheld.ERROR
    assert reason(backend.result, 0) is Withheld.NO_ANSWER
    assert (ask(backend, 1, picture(50)) == 50).all()


def test_a_view_of_a_larger_picture_is_an_input(opened: Opener) -> None:
    large = np.random.default_rng(2).integers(1, 255, (1, 128, 192, 3), np.uint8)
    view = large[:, ::2, ::2]
    assert (ask(opened(), 0, view) == view[0, :, :, 0]).all()


def test_a_frame_is_asked_about_once(opened: Opener) -> None:
    backend = opened()
    backend.submit(5, picture(50))
    assert reason(backend.submit, 5, picture(51)) is Withheld.ERROR
    assert (collect(backend, 5) == 50).all()


def test_closing_gives_up_what_is_in_flight(opened: Opener) -> None:
    backend = opened()
    ask(backend, 0, picture(50))
    for sequence in range(1, 4):
        backend.submit(sequence, picture(60, 512, 512))
    backend.close()
    backend.close()
    assert reason(backend.result, 1) is Withheld.NO_ANSWER
    assert reason(backend.submit, 4, picture(60)) is Withheld.ERROR


def test_closing_leaves_no_shared_memory(triton: ServedModel, opened: Opener) -> None:
    status = triton.status()
    assert status is not None
    memory = Path(f"/proc/{status.pid}/root/dev/shm")
    before = set(memory.iterdir())
    backend = opened()
    ask(backend, 0, picture(50))
    assert all(path.stat().st_mode & 0o777 == 0o600 for path in set(memory.iterdir()) - before)
    backend.close()
    assert set(memory.iterdir()) == before


def test_a_clip_goes_through_covered(triton: ServedModel, kind: BackendKind, tmp_path: Path) -> None:
    clip = write_video(tmp_path / "clip.avi", [scene(number, 322, 240) for number in range(12)])
    memory = "auto" if kind.endswith("shared memory") else "off"
    local = triton.repository / "person_segmentation" / "1" if kind == "local" else None
    report = anonymize_file(
        str(clip), tmp_path / "out.mp4", method=create_method("blank"), triton=None if local else triton.grpc_url,
        local=local, shared_memory=memory, stream=kind.startswith("stream"),
    )  # fmt: skip
    assert (report["frames_out"], report["frames_blanked"], report["model_versions"]) == (12, 0, ["1"])
    assert not any(beacon_pixels(image) or is_slate(image) for image in read_video(tmp_path / "out.mp4"))


def test_a_local_model_is_the_one_that_was_recorded(tmp_path: Path) -> None:
    make_person_model(tmp_path / "7")
    record = json.loads((tmp_path / "7" / "model.json").read_text())
    with LocalSegmenter(tmp_path / "7") as backend:
        backend.submit(0, picture(50))
        assert backend.result(0).model_version == "7"
    (tmp_path / "7").rename(tmp_path / "exported")
    with LocalSegmenter(tmp_path / "exported") as backend:
        backend.submit(0, picture(50))
        assert backend.result(0).model_version == record["sha256"][:12]
    model = tmp_path / "exported" / "model.onnx"
    model.write_bytes(model.read_bytes() + b"\0")
    with pytest.raises(GateFailedError, match="sha256"):
        LocalSegmenter(tmp_path / "exported")
    model.unlink()
    with pytest.raises(GateFailedError, match=r"model\.onnx"):
        LocalSegmenter(tmp_path / "exported")


@pytest.mark.parametrize("fault", ["garbage", "no json", "a list", "no record"])
def test_a_local_model_that_is_none_is_one_line(tmp_path: Path, fault: str) -> None:
    make_person_model(tmp_path, kind="garbage" if fault == "garbage" else "bright")
    record = tmp_path / "model.json"
    if fault == "no record":
        record.unlink()
    elif fault != "garbage":
        record.write_text("{" if fault == "no json" else json.dumps([hashlib.sha256(b"").hexdigest()]))
    with pytest.raises(GateFailedError):
        LocalSegmenter(tmp_path)


def test_a_model_must_be_named(tmp_path: Path) -> None:
    with pytest.raises(UsageError):
        open_backend("local")
    with pytest.raises(UsageError):
        anonymize_file("a.mp4", tmp_path / "out.mp4", method=create_method("blank"))


@pytest.mark.parametrize(("policy", "shared"), [({}, 1), ({"trust_zero": True}, 0)])
def test_what_takes_zero_for_background_gets_no_shared_memory(
    triton: ServedModel, policy: dict[str, bool], shared: int
) -> None:
    cameras = {
        "hall": {"source": "a.mp4", "output": "b.mp4", "method": "blank", "purpose": "test", "retention_hours": 1}
    }
    config = GatewayConfig.model_validate({"triton": {"url": triton.grpc_url}, "policy": policy, "cameras": cameras})
    with configured_backend(config) as backend:
        ask(backend, 0, picture(50))
        assert backend.shared_answers == shared
