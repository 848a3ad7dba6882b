"""Live cameras: the newest frame wins, a lost camera is opened again, and meanwhile nothing leaves."""

from __future__ import annotations

import threading
import time
from fractions import Fraction
from typing import Any

import pytest

from privseg.errors import PrivacyViolationPrevented, ServerUnavailableError
from privseg.privacy.filters.registry import create_method
from privseg.privacy.frames import ProtectedFrame
from privseg.streaming.camera import CameraReport, run_camera
from privseg.streaming.segmenter import Answer
from privseg.streaming.telemetry import Telemetry
from privseg.testing.camera import FakeCamera, beacon_pixels
from privseg.testing.segmenter import FaultySegmenter, SegmenterFault

SECONDS = 30.0


class Collector:
    """A sink that keeps what it gets and lets a test wait for it."""

    def __init__(self) -> None:
        self.frames: list[ProtectedFrame] = []
        self.closed = self.aborted = False
        self._changed = threading.Condition()

    def write(self, frame: ProtectedFrame) -> None:
        with self._changed:
            self.frames.append(frame)
            self._changed.notify_all()

    def wait_for(self, count: int) -> None:
        with self._changed:
            assert self._changed.wait_for(lambda: len(self.frames) >= count, SECONDS)

    def close(self) -> None:
        self.closed = True

    def abort(self) -> None:
        self.aborted = True


class Session:
    """One camera run in a thread."""

    def __init__(self, camera: FakeCamera, segmenter: FaultySegmenter, **options: Any) -> None:
        self.sink = Collector()
        self.telemetry = Telemetry()
        self.stop = threading.Event()
        self.report: CameraReport | None = None

        def open_sink(_width: int, _height: int, _rate: Fraction) -> Collector:
            return self.sink

        def run() -> None:
            self.report = run_camera(
                "door", camera, segmenter, create_method("blank"), open_sink, output="nowhere",
                telemetry=self.telemetry, stop=self.stop, **options,
            )  # fmt: skip

        self._thread = threading.Thread(target=run)
        self._thread.start()

    def end(self) -> CameraReport:
        self.stop.set()
        return self.join()

    def join(self) -> CameraReport:
        self._thread.join(SECONDS)
        assert self.report is not None
        return self.report

    def wait_until_degraded(self) -> None:
        deadline = time.monotonic() + SECONDS
        while self.value("privseg_degraded") != 1:
            assert time.monotonic() < deadline
            time.sleep(0.01)

    def value(self, name: str, **labels: str) -> float | None:
        return self.telemetry.registry.get_sample_value(name, {"camera": "door", **labels})


class Gated(FaultySegmenter):
    """Keeps the first answer back until told."""

    def __init__(self) -> None:
        super().__init__()
        self.waiting = threading.Event()
        self.gate = threading.Event()

    def result(self, sequence: int) -> Answer:
        self.waiting.set()
        assert self.gate.wait(SECONDS)
        return super().result(sequence)


def test_a_slow_model_gets_the_newest_frame_and_the_rest_is_counted() -> None:
    camera, segmenter = FakeCamera(count=None, live=True, paced=True), Gated()
    session = Session(camera, segmenter)
    camera.release()
    assert segmenter.waiting.wait(SECONDS)
    camera.release(4)
    camera.wait_until_drained()
    segmenter.gate.set()
    session.sink.wait_for(2)
    report = session.end()

    assert [frame.sequence for frame in session.sink.frames] == [0, 4]
    assert (report.frames_in, report.frames_out, report.frames_dropped, report.frames_blanked) == (5, 2, 3, 0)
    assert session.value("privseg_frames_total", outcome="dropped") == 3
    assert session.value("privseg_frames_total", outcome="protected") == 2
    assert session.sink.closed


def test_a_lost_camera_is_opened_again_and_nothing_leaves_meanwhile() -> None:
    camera = FakeCamera(count=None, live=True, paced=True)
    session = Session(camera, FaultySegmenter(), reconnect=True)
    camera.release()
    session.sink.wait_for(1)
    camera.lose_connection()
    session.wait_until_degraded()
    assert len(session.sink.frames) == 1
    camera.restore()
    camera.release()
    session.sink.wait_for(2)
    report = session.end()

    assert report.reconnects == 1
    assert report.fault is None
    assert session.value("privseg_reconnects_total") == 1
    assert session.value("privseg_degraded") == 0
    assert [frame.sequence for frame in session.sink.frames] == [0, 1]
    assert all(beacon_pixels(frame.pixels) == 0 for frame in session.sink.frames)


def test_without_reconnecting_a_lost_camera_ends_the_run_and_keeps_its_part() -> None:
    camera = FakeCamera(count=None, live=True, paced=True)
    session = Session(camera, FaultySegmenter())
    camera.release()
    session.sink.wait_for(1)
    camera.lose_connection()
    report = session.join()
    assert isinstance(report.error, ServerUnavailableError)
    assert report.fault is not None
    assert session.sink.closed
    assert not session.sink.aborted


def test_the_model_failing_live_gives_slates_and_raises_the_flag() -> None:
    camera = FakeCamera(count=None, live=True, paced=True)
    session = Session(camera, FaultySegmenter({1: SegmenterFault.LATE}))
    for number in range(3):
        camera.release()
        session.sink.wait_for(number + 1)
        camera.wait_until_drained()
    report = session.end()
    degraded = [frame.withheld is not None for frame in session.sink.frames]
    assert degraded == [False, True, False]
    assert report.frames_blanked == 1


@pytest.mark.parametrize("live", [False, True])
def test_max_frames_ends_an_endless_camera(live: bool) -> None:
    report = Session(FakeCamera(count=None, live=live), FaultySegmenter(), max_frames=5).join()
    assert report.frames_out == 5
    assert report.frames_in == 5 + report.frames_dropped


def test_a_live_source_that_ends_ends_the_run() -> None:
    report = Session(FakeCamera(count=4, live=True), FaultySegmenter(), reconnect=True).join()
    assert report.frames_in == 4
    assert report.frames_out + report.frames_dropped == 4


def test_answers_are_collected_while_others_are_on_their_way() -> None:
    class Counting(FaultySegmenter):
        most = 0

        def submit(self, sequence: int, image: Any) -> None:
            super().submit(sequence, image)
            self.most = max(self.most, len(self._asked))

    segmenter = Counting(max_in_flight=3)
    session = Session(FakeCamera(count=12), segmenter)
    assert session.join().frames_out == 12
    assert segmenter.most == 3
    assert [frame.sequence for frame in session.sink.frames] == list(range(12))


def test_a_sink_that_refuses_ends_the_run_and_nothing_is_kept() -> None:
    class Refusing(Collector):
        def write(self, frame: ProtectedFrame) -> None:
            raise PrivacyViolationPrevented("sink", "refused", "look")

    sink = Refusing()
    with pytest.raises(PrivacyViolationPrevented):
        run_camera(
            "door", FakeCamera(), FaultySegmenter(), create_method("blank"), lambda *_: sink, output="nowhere",
            telemetry=Telemetry(),
        )  # fmt: skip
    assert sink.aborted
    assert not sink.closed
