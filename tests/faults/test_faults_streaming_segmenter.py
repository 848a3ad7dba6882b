"""However the model fails, no raw frame leaves: each test decodes the output file and looks for the beacon."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from privseg.errors import DataError, ServerUnavailableError, StorageError, UsageError
from privseg.privacy.filters.base import Method
from privseg.privacy.filters.registry import create_method
from privseg.privacy.frames import Withheld
from privseg.privacy.masks import MaskPolicy
from privseg.streaming.anonymize import anonymize, anonymize_file
from privseg.streaming.report import CameraReport
from privseg.streaming.segmenter import Answer
from privseg.streaming.telemetry import Telemetry
from privseg.testing.camera import FakeCamera, beacon_pixels, is_slate, read_video, scene, write_video
from privseg.testing.segmenter import FaultySegmenter, SegmenterFault

BLANK = create_method("blank")
COUNT = 10

REASONS = {
    SegmenterFault.LATE: Withheld.LATE,
    SegmenterFault.GONE: Withheld.SERVER_GONE,
    SegmenterFault.GONE_LATER: Withheld.SERVER_GONE,
    SegmenterFault.OVERLOADED: Withheld.OVERLOADED,
    SegmenterFault.CRASH: Withheld.ERROR,
    SegmenterFault.CRASH_LATER: Withheld.ERROR,
    SegmenterFault.WRONG_SHAPE: Withheld.WRONG_ANSWER,
    SegmenterFault.WRONG_RANK: Withheld.WRONG_ANSWER,
    SegmenterFault.NOT_A_NUMBER: Withheld.WRONG_ANSWER,
    SegmenterFault.WRONG_TYPE: Withheld.WRONG_ANSWER,
    SegmenterFault.NOT_AN_ARRAY: Withheld.WRONG_ANSWER,
    SegmenterFault.STALE: Withheld.WRONG_ANSWER,
    SegmenterFault.ALL_ZERO: Withheld.EMPTY_ANSWER,
    SegmenterFault.SOME_ZERO: Withheld.EMPTY_ANSWER,
}


def sample(telemetry: Telemetry, name: str, **labels: str) -> float | None:
    return telemetry.registry.get_sample_value(name, labels)


def run(out: Path, segmenter: FaultySegmenter, **options: Any) -> CameraReport:
    camera = options.pop("camera", None) or FakeCamera(count=COUNT)
    return anonymize(camera, out, method=options.pop("method", BLANK), segmenter=segmenter, **options)


def slates_of(out: Path) -> list[bool]:
    """Which frames of a file are slates; every frame is checked for the beacon."""
    images = read_video(out)
    assert [beacon_pixels(image) for image in images] == [0] * len(images)
    return [is_slate(image) for image in images]


def test_without_faults_every_frame_is_covered(tmp_path: Path) -> None:
    telemetry = Telemetry()
    report = run(tmp_path / "out.mp4", FaultySegmenter(), telemetry=telemetry)
    assert slates_of(tmp_path / "out.mp4") == [False] * COUNT
    assert (report.frames_in, report.frames_out, report.frames_blanked) == (COUNT, COUNT, 0)
    assert report.model_versions == ["1"]
    assert report.blank_reason == ""
    assert sample(telemetry, "privseg_frames_total", camera="clip", outcome="protected") == COUNT


def test_the_beacon_would_be_seen_if_it_left(tmp_path: Path) -> None:
    # with its red taken for background, the same chain does let the beacon through: the check above can fail
    class Blind(FaultySegmenter):
        def result(self, sequence: int) -> Answer:
            answer = super().result(sequence)
            return Answer(answer.sequence, np.full_like(answer.probability, 3), answer.model_version)

    run(tmp_path / "out.mp4", Blind())
    assert all(beacon_pixels(image) > 500 for image in read_video(tmp_path / "out.mp4"))


@pytest.mark.parametrize("in_flight", [1, 3])
@pytest.mark.parametrize("fault", list(SegmenterFault))
def test_each_fault_blanks_exactly_its_frames(tmp_path: Path, fault: SegmenterFault, in_flight: int) -> None:
    telemetry = Telemetry()
    segmenter = FaultySegmenter(dict.fromkeys(range(3, 7), fault), max_in_flight=in_flight)
    report = run(tmp_path / "out.mp4", segmenter, telemetry=telemetry)

    assert slates_of(tmp_path / "out.mp4") == [3 <= number < 7 for number in range(COUNT)]
    assert (report.frames_in, report.frames_out, report.frames_blanked) == (COUNT, COUNT, 4)
    (blanked,) = report.blanked_ranges
    assert (blanked.first, blanked.last, blanked.reason) == (3, 6, str(REASONS[fault]))
    assert report.blank_reason == str(REASONS[fault])
    assert sample(telemetry, "privseg_frames_total", camera="clip", outcome="blanked") == 4
    assert sample(telemetry, "privseg_raw_frames_published_total") == 0
    assert sample(telemetry, "privseg_degraded", camera="clip") == 0


@pytest.mark.parametrize("fault", list(SegmenterFault))
def test_at_start_up_and_for_ever(tmp_path: Path, fault: SegmenterFault) -> None:
    telemetry = Telemetry()
    report = run(tmp_path / "out.mp4", FaultySegmenter(lambda _number: fault), telemetry=telemetry)
    assert slates_of(tmp_path / "out.mp4") == [True] * COUNT
    assert report.frames_blanked == COUNT
    assert report.model_versions == []
    assert sample(telemetry, "privseg_degraded", camera="clip") == 1
    assert sample(telemetry, "privseg_raw_frames_published_total") == 0


def test_a_server_that_dies_and_returns(tmp_path: Path) -> None:
    def fault_at(number: int) -> SegmenterFault | None:
        if number == 2:
            return SegmenterFault.GONE_LATER
        return SegmenterFault.GONE if 2 < number < 8 else None

    report = run(tmp_path / "out.mp4", FaultySegmenter(fault_at))
    assert slates_of(tmp_path / "out.mp4") == [2 <= number < 8 for number in range(COUNT)]
    assert [(b.first, b.last) for b in report.blanked_ranges] == [(2, 7)]


def test_a_model_that_suddenly_sees_nobody_is_doubted(tmp_path: Path) -> None:
    class Fades(FaultySegmenter):
        def result(self, sequence: int) -> Answer:
            answer = super().result(sequence)
            seen = answer.probability if sequence < 3 else np.full_like(answer.probability, 2)
            return Answer(answer.sequence, seen, answer.model_version)

    policy = MaskPolicy(hold_frames=0, collapse_hold_frames=COUNT, dilation=0.5)
    run(tmp_path / "out.mp4", Fades(), policy=policy)
    assert slates_of(tmp_path / "out.mp4") == [False] * COUNT


@pytest.mark.parametrize("what", ["raises", "breaks its promise"])
def test_a_method_that_fails_blanks_the_frame(tmp_path: Path, what: str) -> None:
    class Failing(Method):
        name, privacy_class, does_not_hide = "failing", "obfuscation", ""
        params_type = BLANK.params_type
        calls = 0

        def protect(self, image: Any, mask: Any, context: Any) -> Any:
            self.calls += 1
            if self.calls in {4, 5}:
                if what == "raises":
                    raise RuntimeError("injected")
                return image
            return BLANK.protect(image, mask, context)

    report = run(tmp_path / "out.mp4", FaultySegmenter(), method=Failing(), allow_obfuscation=True)
    assert slates_of(tmp_path / "out.mp4") == [number in {3, 4} for number in range(COUNT)]
    assert report.blank_reason == str(Withheld.ERROR)


def test_stopping_half_way_leaves_a_playable_file(tmp_path: Path) -> None:
    stop = threading.Event()

    class Stops(FaultySegmenter):
        def submit(self, sequence: int, image: Any) -> None:
            super().submit(sequence, image)
            if sequence == 4:
                stop.set()

    report = run(tmp_path / "out.mp4", Stops(), stop=stop)
    assert slates_of(tmp_path / "out.mp4") == [False] * 5
    assert (report.frames_in, report.frames_out) == (5, 5)


def test_an_interrupt_leaves_the_earlier_file(tmp_path: Path) -> None:
    out = tmp_path / "out.mp4"
    out.write_bytes(b"earlier")

    class Interrupted(FaultySegmenter):
        def result(self, sequence: int) -> Answer:
            if sequence == 4:
                raise KeyboardInterrupt
            return super().result(sequence)

    with pytest.raises(KeyboardInterrupt):
        run(out, Interrupted())
    assert out.read_bytes() == b"earlier"
    assert list(tmp_path.iterdir()) == [out]


def test_a_model_that_is_not_ready_stops_it_before_anything_is_written(tmp_path: Path) -> None:
    with pytest.raises(ServerUnavailableError):
        run(tmp_path / "out.mp4", FaultySegmenter(ready=False), report=tmp_path / "report.json")
    assert list(tmp_path.iterdir()) == []


def test_a_source_that_breaks_leaves_its_protected_part(tmp_path: Path) -> None:
    class Breaks(FakeCamera):
        def frames(self) -> Iterator[Any]:
            for frame in super().frames():
                if frame.sequence == 6:
                    raise DataError(self.name, "broke", "mend it")
                yield frame

    with pytest.raises(DataError, match="broke"):
        run(tmp_path / "out.mp4", FaultySegmenter(), camera=Breaks(), report=tmp_path / "report.json")
    assert slates_of(tmp_path / "out.mp4") == [False] * 6
    written = json.loads((tmp_path / "report.json").read_text())
    assert written["frames_out"] == 6
    assert "broke" in written["fault"]


def test_an_output_that_cannot_be_written_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(StorageError):
        run(tmp_path / "file" / "out.mp4", FaultySegmenter())


def test_a_damaged_picture_leaves_as_a_slate(tmp_path: Path) -> None:
    report = run(tmp_path / "out.mp4", FaultySegmenter(), camera=FakeCamera(count=COUNT, damaged={3, 4}))
    assert slates_of(tmp_path / "out.mp4") == [number in {3, 4} for number in range(COUNT)]
    assert report.corrupt_packets == 2
    (blanked,) = report.blanked_ranges
    assert (blanked.first, blanked.last, blanked.reason) == (3, 4, str(Withheld.DAMAGED))


@pytest.mark.parametrize("fault", [SegmenterFault.ALL_ZERO, SegmenterFault.SOME_ZERO])
def test_a_policy_may_take_zero_for_background(tmp_path: Path, fault: SegmenterFault) -> None:
    report = run(tmp_path / "out.mp4", FaultySegmenter({5: fault}), policy=MaskPolicy(trust_zero=True))
    assert report.frames_blanked == 0
    assert slates_of(tmp_path / "out.mp4") == [False] * COUNT


@pytest.mark.parametrize("kind", ["same", "dots", "symbolic link", "hard link"])
@pytest.mark.parametrize("which", ["output", "report", "report is output"])
def test_nothing_is_written_over_the_source_or_another_output(tmp_path: Path, kind: str, which: str) -> None:
    clip = write_video(tmp_path / "clip.mp4", [scene(0, 64, 64)] * 3)
    before = clip.read_bytes()
    other = {"same": clip, "dots": tmp_path / "x" / ".." / "clip.mp4"}.get(kind, tmp_path / "other.mp4")
    if kind == "symbolic link":
        other.symlink_to(clip)
    elif kind == "hard link":
        other.hardlink_to(clip)
    out = clip if which == "report is output" else other if which == "output" else tmp_path / "out.mp4"
    report = tmp_path / "report.json" if which == "output" else other
    source = tmp_path / "another.avi" if which == "report is output" else clip
    with pytest.raises(UsageError, match="same file"):
        anonymize(str(source), out, method=BLANK, segmenter=FaultySegmenter(), report=report)
    with pytest.raises(UsageError, match="same file"):
        anonymize_file(str(source), out, method=BLANK, triton="127.0.0.1:9", report=report)
    assert clip.read_bytes() == before


def test_the_metrics_file_is_no_output_either(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="metrics file"):
        anonymize_file("a.mp4", tmp_path / "out.mp4", method=BLANK, triton="x", metrics_file=tmp_path / "out.mp4")


def test_a_failed_run_reports_its_counts_and_leaves_the_earlier_file(tmp_path: Path) -> None:
    out = tmp_path / "out.mp4"
    out.write_bytes(b"earlier")

    class Breaks(FakeCamera):
        def frames(self) -> Iterator[Any]:
            for frame in super().frames():
                if frame.sequence == 6:
                    raise RuntimeError("injected")
                yield frame

    with pytest.raises(RuntimeError, match="injected"):
        run(out, FaultySegmenter(), camera=Breaks(), report=tmp_path / "report.json")
    written = json.loads((tmp_path / "report.json").read_text())
    assert (written["frames_in"], written["fault"]) == (6, "internal error (RuntimeError)")
    assert out.read_bytes() == b"earlier"
    assert {path.name for path in tmp_path.iterdir()} == {"out.mp4", "report.json"}
