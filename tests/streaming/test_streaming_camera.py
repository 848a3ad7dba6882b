"""Live cameras: the newest frame wins, a lost camera is opened again, and meanwhile nothing leaves."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from fractions import Fraction
from typing import Any

import pytest

from privseg.errors import PrivacyViolationPrevented, ServerUnavailableError
from privseg.privacy.filters.registry import create_method
from privseg.privacy.frames import ProtectedFrame, Withheld
from privseg.streaming.camera import run_camera
from privseg.streaming.report import CameraReport
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

        def open_sink(_width: int, _height: int, _rate: Fraction, _aspect: Fraction) -> Collector:
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


@pytest.mark.parametrize("what", ["model", "picture"])
def test_a_failing_model_or_a_damaged_picture_gives_a_slate_live(what: str) -> None:
    camera = FakeCamera(count=None, live=True, paced=True, damaged={1} if what == "picture" else ())
    session = Session(camera, FaultySegmenter({1: SegmenterFault.LATE} if what == "model" else {}))
    for number in range(3):
        camera.release()
        session.sink.wait_for(number + 1)
        camera.wait_until_drained()
    report = session.end()
    assert [frame.withheld is not None for frame in session.sink.frames] == [False, True, False]
    assert report.frames_blanked == 1
    assert report.corrupt_packets == (what == "picture")


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


def test_a_sink_that_refuses_ends_the_run_with_its_true_counts() -> None:
    class Refusing(Collector):
        def write(self, frame: ProtectedFrame) -> None:
            if frame.sequence == 4:
                raise PrivacyViolationPrevented("sink", "refused", "look")
            super().write(frame)

    sink = Refusing()
    report = run_camera(
        "door", FakeCamera(), FaultySegmenter(), create_method("blank"), lambda *_: sink, output="nowhere",
        telemetry=Telemetry(),
    )  # fmt: skip
    assert isinstance(report.error, PrivacyViolationPrevented)
    assert report.fault == str(report.error)
    assert (report.frames_in, report.frames_out) == (7, 4)
    assert sink.aborted
    assert not sink.closed


class Lines:
    """What is said, and a way to wait for it."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self._changed = threading.Condition()

    def __call__(self, line: str) -> None:
        with self._changed:
            self.lines.append(line)
            self._changed.notify_all()

    def wait_for(self, count: int) -> None:
        with self._changed:
            assert self._changed.wait_for(lambda: len(self.lines) >= count, SECONDS)


def test_a_lost_camera_says_so_at_once_and_again_when_it_is_back() -> None:
    camera, lines = FakeCamera(count=None, live=True, paced=True), Lines()
    session = Session(camera, FaultySegmenter(), reconnect=True, say=lines)
    camera.release()
    session.sink.wait_for(1)
    camera.lose_connection()
    camera.wait_until_refused(3)  # several attempts, one line
    camera.restore()
    camera.release()
    lines.wait_for(2)
    session.end()
    lost, back = lines.lines
    assert lost.startswith("door: lost for 0 s: fake camera: was lost")
    assert back.startswith("door: reconnected after")


def test_a_camera_that_stays_away_is_remembered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("privseg.streaming.camera._REMINDER_SECONDS", 0.0)
    camera, lines = FakeCamera(count=None, live=True, paced=True), Lines()
    camera.lose_connection()
    session = Session(camera, FaultySegmenter(), reconnect=True, say=lines)
    lines.wait_for(2)
    session.end()
    assert all("door: lost" in line for line in lines.lines)


def test_an_unforeseen_fault_of_a_live_reader_is_a_lost_camera() -> None:
    class Crashing(FakeCamera):
        crashed = False

        def frames(self) -> Iterator[Any]:
            for frame in super().frames():
                yield frame
                if not self.crashed:
                    self.crashed = True
                    raise RuntimeError("rtsp://u:s3cret@cam broke")

    camera, lines = Crashing(count=None, live=True, paced=True), Lines()
    session = Session(camera, FaultySegmenter(), reconnect=True, say=lines)
    camera.release(1)
    session.sink.wait_for(1)
    lines.wait_for(1)
    camera.release(1)
    session.sink.wait_for(2)
    report = session.end()
    assert (report.reconnects, report.fault) == (1, None)
    assert "internal error (RuntimeError)" in lines.lines[0]
    assert "s3cret" not in "".join(lines.lines)


@pytest.mark.parametrize("live", [False, True])
def test_an_interrupt_aborts_the_output(live: bool) -> None:
    interrupt = threading.Event()

    class Interrupts(Collector):
        def write(self, frame: ProtectedFrame) -> None:
            super().write(frame)
            interrupt.set()

    sink = Interrupts()
    with pytest.raises(KeyboardInterrupt):
        run_camera(
            "door", FakeCamera(count=None, live=live), FaultySegmenter(), create_method("blank"), lambda *_: sink,
            output="nowhere", telemetry=Telemetry(), interrupt=interrupt,
        )  # fmt: skip
    assert (len(sink.frames), sink.aborted, sink.closed) == (1, True, False)


def test_while_a_camera_is_lost_slates_say_so() -> None:
    camera = FakeCamera(count=None, live=True, paced=True)
    session = Session(camera, FaultySegmenter(), reconnect=True)
    camera.release()
    session.sink.wait_for(1)
    camera.lose_connection()
    session.sink.wait_for(3)
    report = session.end()
    assert [frame.withheld for frame in session.sink.frames[1:3]] == [Withheld.CAMERA_LOST] * 2
    times = [frame.pts * frame.time_base for frame in session.sink.frames]
    assert times == sorted(set(times))
    assert (report.frames_in, report.frames_out) == (1, 1)  # a slate of nothing is no frame of the camera
