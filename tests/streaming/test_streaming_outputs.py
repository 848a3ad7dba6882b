"""Recordings, playlists and media servers: what they hold, how long, and that none can hold up the camera."""

from __future__ import annotations

import itertools
import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import pytest

from privseg.errors import PrivacyViolationPrevented, ServerUnavailableError, StorageError, UsageError
from privseg.privacy.frames import ProtectedFrame, Withheld, slate
from privseg.streaming.outputs.detached import DetachedSink
from privseg.streaming.outputs.network import HlsSink, PushSink
from privseg.streaming.outputs.recorder import Recorder
from privseg.streaming.outputs.shelf import Shelf
from privseg.testing.camera import is_slate, read_video
from privseg.testing.rtsp import RtspServer, missing_rtsp_packages

SECONDS = 30.0
RATE = Fraction(10)
SIZE = (160, 120)


def made(number: int, size: tuple[int, int] = SIZE) -> ProtectedFrame:
    return slate(*size, Withheld.UNSURE, sequence=number, pts=number, time_base=1 / RATE)


def eventually(holds: Callable[[], bool]) -> None:
    deadline = time.monotonic() + SECONDS
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.02)


class Clock:
    """A wall clock that a test may set, and one that only ever goes on."""

    def __init__(self) -> None:
        self.now = datetime(2026, 11, 24, 12, tzinfo=UTC).timestamp()
        self.steady = 1000.0

    def go(self, seconds: float) -> None:
        self.now = round(self.now + seconds, 3)
        self.steady = round(self.steady + seconds, 3)


def shelf(folder: Path, clock: Clock, *, hours: float = 1, size: int = 10**9, **options: Any) -> Shelf:
    return Shelf(
        folder, "door", retention_seconds=hours * 3600, max_bytes=size,
        wall=lambda: clock.now, steady=lambda: clock.steady, **options,
    )  # fmt: skip


def recordings(folder: Path) -> list[Path]:
    return sorted(folder.glob("*.mp4"))


def times(path: Path) -> list[float]:
    with av.open(str(path)) as container:
        return [float(picture.pts * picture.time_base) for picture in container.decode(video=0)]


# Recordings


def test_recordings_are_cut_by_time_and_by_size_of_the_picture(tmp_path: Path) -> None:
    clock = Clock()
    recorder = Recorder(shelf(tmp_path, clock), 5, RATE)
    for number in range(130):
        recorder.write(made(number, SIZE if number < 120 else (320, 240)))
        clock.go(0.1)
    recorder.close()
    found = recordings(tmp_path)
    stamps = ("120000", "120005", "120010", "120012")
    assert [path.name for path in found] == [f"door_20261124T{stamp}Z.mp4" for stamp in stamps]
    assert [len(times(path)) for path in found] == [50, 50, 20, 10]
    assert read_video(found[-1])[0].shape == (240, 320, 3)


def test_a_recording_holds_one_video_stream_its_times_and_nothing_about_its_maker(tmp_path: Path) -> None:
    recorder = Recorder(shelf(tmp_path, Clock()), 60, RATE)
    stamps = [0, 1, 2, 5, 6, 20, 21]  # a camera that pauses
    for stamp in stamps:
        recorder.write(made(stamp + 1000))
    recorder.close()
    (path,) = recordings(tmp_path)
    assert times(path) == pytest.approx([stamp / 10 for stamp in stamps], abs=0.1)
    with av.open(str(path)) as container:
        assert [stream.type for stream in container.streams] == ["video"]
        needed = {"major_brand", "minor_version", "compatible_brands", "language", "handler_name"}
        assert {*container.metadata, *container.streams.video[0].metadata} <= needed
    assert b"Lavf" not in path.read_bytes()


def test_a_recorder_refuses_what_is_not_protected(tmp_path: Path) -> None:
    recorder = Recorder(shelf(tmp_path, Clock()), 60, RATE)
    with pytest.raises(PrivacyViolationPrevented):
        recorder.write(object())  # type: ignore[arg-type]
    assert recordings(tmp_path) == []


def test_a_file_goes_when_its_first_picture_is_too_old_and_others_files_stay(tmp_path: Path) -> None:
    clock = Clock()
    (tmp_path / "door_notes.mp4").write_bytes(b"mine")
    (tmp_path / "gate_20200101T000000Z.mp4").write_bytes(b"another camera's")
    place = shelf(tmp_path, clock, hours=1)
    for _ in range(3):
        with_one = Recorder(place, 60, RATE)
        with_one.write(made(0))
        with_one.close()
        clock.go(1500)
    place.tidy()
    names = [path.name for path in recordings(tmp_path)]
    assert names == [
        "door_20261124T122500Z.mp4", "door_20261124T125000Z.mp4", "door_notes.mp4", "gate_20200101T000000Z.mp4"
    ]  # fmt: skip
    clock.go(2101)  # 13:50:01
    place.tidy()
    assert recordings(tmp_path)[0].name == "door_notes.mp4"


def test_the_oldest_go_when_all_are_too_large(tmp_path: Path) -> None:
    clock, said = Clock(), list[str]()
    for minute in range(5):
        (tmp_path / f"door_20261124T11{minute:02}00Z.mp4").write_bytes(bytes(1000))
    shelf(tmp_path, clock, hours=2, size=2500, say=said.append).tidy()
    assert [path.name for path in recordings(tmp_path)] == ["door_20261124T110300Z.mp4", "door_20261124T110400Z.mp4"]
    assert len(said) == 3


def test_no_file_grows_beyond_a_share_of_what_all_may_take(tmp_path: Path) -> None:
    clock = Clock()
    place = shelf(tmp_path, clock, size=40_000)
    recorder = Recorder(place, 3600, RATE)
    for number in range(3000):
        recorder.write(made(number))
        clock.go(0.1)
    recorder.close()
    place.tidy()
    assert len(recordings(tmp_path)) > 1
    assert sum(path.stat().st_size for path in recordings(tmp_path)) <= 40_000


@pytest.mark.parametrize("jump", [400 * 86400.0, -3600.0])
def test_a_clock_that_jumps_throws_nothing_away_and_overwrites_nothing(tmp_path: Path, jump: float) -> None:
    clock, said = Clock(), list[str]()
    place = shelf(tmp_path, clock, say=said.append)
    for _ in range(2):
        recorder = Recorder(place, 60, RATE)
        recorder.write(made(0))
        recorder.close()
    clock.now += jump
    place.tidy()
    assert len(recordings(tmp_path)) == 2
    assert "the clock jumped" in said[0]
    clock.go(3601)
    place.tidy()
    assert len(recordings(tmp_path)) == (0 if jump > 0 else 2)


RECORD = """
    import signal, sys
    from fractions import Fraction
    from pathlib import Path
    from privseg.privacy.frames import Withheld, slate
    from privseg.streaming.outputs.recorder import Recorder
    from privseg.streaming.outputs.shelf import Shelf

    recorder = Recorder(Shelf(Path(sys.argv[1]), "door", retention_seconds=3600, max_bytes=10**9), 60, Fraction(10))
    for number in range(100):
        recorder.write(slate(160, 120, Withheld.UNSURE, sequence=number, pts=number, time_base=Fraction(1, 10)))
    print("written", flush=True)
    signal.pause()
"""


def test_what_a_killed_gateway_left_gets_its_name_and_two_at_once_are_refused(tmp_path: Path) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(RECORD), str(tmp_path)], stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "written\n"
        with pytest.raises(UsageError, match="another process"):
            Shelf(tmp_path, "door", retention_seconds=3600, max_bytes=10**9)
        (growing,) = recordings(tmp_path)
        assert growing.name.endswith(".partial.mp4")
        os.kill(process.pid, signal.SIGKILL)
    (tmp_path / "door_20261124T000000Z.0123abcd.partial.mp4").write_bytes(b"nothing to be seen")
    Shelf(tmp_path, "door", retention_seconds=3600, max_bytes=10**9).close()
    (path,) = recordings(tmp_path)
    assert path.name == f"{growing.name.split('.')[0]}.mp4"
    assert len(read_video(path)) >= 80


# Playlists and media servers


def test_a_playlist_holds_the_last_seconds_and_goes_with_its_camera(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="a % in its name"):
        HlsSink(tmp_path / "%d", "door", RATE, SIZE)
    folder = tmp_path / "a folder"
    sink = HlsSink(folder, "door", RATE, SIZE, segment_seconds=1, window_seconds=4)
    (folder / "others.txt").write_text("stays")
    for number in range(150):
        sink.write(made(number))
    with av.open(str(sink.path)) as container:
        decoded = itertools.islice(container.decode(video=0), 20)  # it would wait for more: the playlist is live
        pictures = [picture.to_ndarray(format="rgb24") for picture in decoded]
        assert [stream.type for stream in container.streams] == ["video"]
    assert len(pictures) == 20
    assert all(is_slate(picture) for picture in pictures)
    assert len(list(folder.iterdir())) < 10
    assert not any(word in path.read_bytes() for path in folder.iterdir() for word in (b"Lavf", b"FFmpeg"))
    sink.close()
    assert [path.name for path in folder.iterdir()] == ["others.txt"]


def test_a_media_server_gets_the_stream_and_messages_hide_the_password(tmp_path: Path) -> None:
    missing = missing_rtsp_packages()
    if missing:
        pytest.skip(missing)
    with RtspServer(record=tmp_path) as server:
        sink = PushSink(server.url, RATE, SIZE)
        numbers = itertools.count()

        def arrives() -> bool:
            sink.write(made(next(numbers)))
            return any(path.stat().st_size > 3000 for path in tmp_path.iterdir())

        eventually(arrives)
        sink.close()
    (kept,) = tmp_path.iterdir()
    pictures = read_video(kept)
    assert pictures
    assert all(is_slate(picture) for picture in pictures)
    with pytest.raises(ServerUnavailableError, match=r"\*\*\*@127") as refused:
        PushSink(f"rtsp://u:s3cret@127.0.0.1:{server.port}/x", RATE, SIZE).write(made(0))
    assert "s3cret" not in str(refused.value)


def test_an_rtmp_server_gets_the_stream() -> None:
    seen, begun = list[Any](), threading.Event()
    address = "rtmp://127.0.0.1:19351/live/door"

    def serve() -> None:
        begun.set()
        with pytest.raises(OSError), av.open(address, options={"listen": "1"}) as container:  # noqa: PT011
            seen.extend(picture.to_ndarray(format="rgb24") for picture in container.decode(video=0))

    server = threading.Thread(target=serve, daemon=True)
    server.start()
    begun.wait(SECONDS)
    sinks = list[PushSink]()

    def connects() -> bool:
        try:
            sink = PushSink(address, RATE, SIZE)
            sink.write(made(0))
        except ServerUnavailableError:
            return False
        sinks.append(sink)
        return True

    eventually(connects)
    for number in range(1, 30):
        sinks[0].write(made(number))
    sinks[0].close()
    server.join(SECONDS)
    assert len(sinks) == 1


# Outputs that fail


class Events:
    """What an output told."""

    def __init__(self) -> None:
        self.counts = {"written": 0, "lost": 0, "recovered": 0}
        self.reasons: list[str] = []

    def written(self) -> None:
        self.counts["written"] += 1

    def lost(self) -> None:
        self.counts["lost"] += 1

    def failed(self, reason: str) -> None:
        self.reasons.append(reason)

    def recovered(self) -> None:
        self.counts["recovered"] += 1


class Frail:
    """A sink under a test's control."""

    def __init__(self, error: Exception | None = None, gate: threading.Event | None = None) -> None:
        self.error, self.gate = error, gate
        self.frames: list[int] = []
        self.ended = ""

    def write(self, frame: ProtectedFrame) -> None:
        if self.gate is not None:
            self.gate.wait(SECONDS)
        if self.error is not None:
            raise self.error
        self.frames.append(frame.sequence)

    def close(self) -> None:
        self.ended = "closed"

    def abort(self) -> None:
        self.ended = "aborted"


def test_a_broken_output_is_opened_again_and_its_frames_are_counted() -> None:
    events = Events()
    sinks = [Frail(StorageError("disk", "is full", "make room")), Frail()]
    opened = iter(sinks)
    sink = DetachedSink("door: recording", lambda _frame: next(opened), events, pauses=(0.01, 0.01))
    sink.write(made(0))
    eventually(lambda: bool(events.reasons))
    assert sinks[0].ended == "aborted"
    number = 1
    while not events.counts["recovered"]:
        sink.write(made(number))
        number += 1
        time.sleep(0.001)
    sink.close()
    assert sinks[1].ended == "closed"
    assert events.reasons == ["disk: is full. Next: make room"]
    assert events.counts["written"] == len(sinks[1].frames)
    assert events.counts["written"] + events.counts["lost"] == number


def test_an_output_that_hangs_never_holds_up_its_camera() -> None:
    events, gate = Events(), threading.Event()
    hanging = Frail(gate=gate)
    sink = DetachedSink("door: push", lambda _frame: hanging, events, capacity=5)
    for number in range(100):
        sink.write(made(number))
    assert events.counts["lost"] >= 94
    gate.set()
    sink.close()
    assert events.counts["lost"] + events.counts["written"] == 100
    assert hanging.frames == sorted(hanging.frames)


def test_an_output_that_is_broken_at_the_end_says_so_and_hides_what_nobody_foresaw() -> None:
    events = Events()
    sink = DetachedSink("door", lambda _frame: Frail(RuntimeError("rtsp://u:s3cret@host")), events)
    sink.write(made(0))
    eventually(lambda: bool(events.reasons))
    with pytest.raises(RuntimeError):
        sink.close()
    sink.abort()
    assert events.reasons == ["internal error (RuntimeError)"]
    with pytest.raises(PrivacyViolationPrevented):
        sink.write(object())
