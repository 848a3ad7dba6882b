"""Only protected frames are written, and a file takes its place when it is whole."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
import textwrap
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from privseg.errors import PrivacyViolationPrevented, StorageError, UsageError
from privseg.privacy.filters.registry import create_method
from privseg.privacy.frames import ProtectedFrame, RawFrame, Withheld, protect, slate
from privseg.privacy.masks import PersonMask
from privseg.streaming.sinks import H264FileSink
from privseg.testing.camera import beacon_pixels, person_box, read_video, scene

BASE = Fraction(1, 1000)


def protected(number: int, width: int = 160, height: int = 120, pts: int | None = None) -> ProtectedFrame:
    left, top, right, bottom = person_box(number, width, height)
    mask = np.zeros((height, width), np.bool_)
    mask[top:bottom, left:right] = True
    frame = RawFrame(
        scene(number, width, height), sequence=number, pts=number * 100 if pts is None else pts, time_base=BASE
    )
    return protect(frame, PersonMask(mask, number), create_method("blank"))


@pytest.mark.parametrize("size", [(160, 120), (161, 121), (33, 47), (160, 121)])
@pytest.mark.parametrize("name", ["out.mp4", "out.mkv", "out.mov"])
def test_a_strongly_coloured_person_leaves_no_colour(tmp_path: Path, size: tuple[int, int], name: str) -> None:
    with H264FileSink(tmp_path / name, Fraction(10), size) as sink:
        for number in range(6):
            sink.write(protected(number, *size))
    images = read_video(tmp_path / name)
    assert len(images) == 6
    even = (size[1] + size[1] % 2, size[0] + size[0] % 2, 3)
    for number, image in enumerate(images):
        assert image.shape == even
        assert beacon_pixels(image) == 0
        left, top, right, bottom = person_box(number, *size)
        person = image[top + 2 : bottom - 2, left + 2 : right - 2].astype(int)
        assert np.abs(person - 128).max() <= 30  # the neutral grey, in every channel, but for the codec's loss
        assert np.abs(person - 128).mean() <= 8
        background = scene(number, *size)[: top - 2].astype(int)
        assert np.abs(image[: top - 2, : size[0]] - background).mean() < 12


def test_times_are_kept_and_metadata_and_sound_are_not(tmp_path: Path) -> None:
    path = tmp_path / "out.mp4"
    times = [0, 100, 250, 300, 1000]
    with H264FileSink(path, Fraction(10), (160, 120)) as sink:
        for number, time in enumerate(times):
            sink.write(protected(number, pts=time))
    with av.open(str(path)) as container:
        assert [stream.type for stream in container.streams] == ["video"]
        assert container.streams.video[0].codec_context.name == "h264"
        assert set(container.metadata) <= {"major_brand", "minor_version", "compatible_brands"}
        seen = [picture.time for picture in container.decode(video=0)]
    assert seen == pytest.approx([time / 1000 for time in times], abs=1e-3)


def test_frames_of_the_same_moment_are_all_kept(tmp_path: Path) -> None:
    with H264FileSink(tmp_path / "out.mp4", Fraction(10), (160, 120)) as sink:
        for number in range(5):
            sink.write(protected(number, pts=7))
    assert len(read_video(tmp_path / "out.mp4")) == 5


def test_a_frame_of_another_size_is_scaled(tmp_path: Path) -> None:
    with H264FileSink(tmp_path / "out.mp4", Fraction(10), (160, 120)) as sink:
        sink.write(protected(0))
        sink.write(protected(1, 320, 200))
    assert [image.shape for image in read_video(tmp_path / "out.mp4")] == [(120, 160, 3)] * 2


@pytest.mark.parametrize("kind", ["raw frame", "array", "look-alike"])
def test_anything_but_a_protected_frame_is_refused(tmp_path: Path, kind: str) -> None:
    class LookAlike:
        pixels, pts, time_base = scene(0, 160, 120), 0, BASE
        width, height, withheld = 160, 120, None

    wrong: object = {
        "raw frame": RawFrame(scene(0, 160, 120), sequence=0, pts=0, time_base=BASE),
        "array": scene(0, 160, 120),
        "look-alike": LookAlike(),
    }[kind]
    path = tmp_path / "out.mp4"
    with H264FileSink(path, Fraction(10), (160, 120)) as sink:
        sink.write(protected(0))
        with pytest.raises(PrivacyViolationPrevented):
            sink.write(wrong)  # type: ignore[arg-type]
        sink.abort()
    assert list(tmp_path.iterdir()) == []


def test_an_earlier_file_survives_a_run_that_fails(tmp_path: Path) -> None:
    path = tmp_path / "out.mp4"
    path.write_bytes(b"earlier")

    def fail_half_way() -> None:
        with H264FileSink(path, Fraction(10), (160, 120)) as sink:
            sink.write(protected(0))
            assert path.read_bytes() == b"earlier"
            raise RuntimeError("injected")

    with pytest.raises(RuntimeError, match="injected"):
        fail_half_way()
    assert path.read_bytes() == b"earlier"
    assert list(tmp_path.iterdir()) == [path]


def test_nothing_written_leaves_nothing(tmp_path: Path) -> None:
    H264FileSink(tmp_path / "out.mp4", Fraction(10), (160, 120)).close()
    assert list(tmp_path.iterdir()) == []


def test_a_slate_can_be_read_in_the_file(tmp_path: Path) -> None:
    with H264FileSink(tmp_path / "out.mp4", Fraction(10), (320, 240)) as sink:
        sink.write(slate(320, 240, Withheld.SERVER_GONE, sequence=0, pts=0, time_base=BASE))
    assert read_video(tmp_path / "out.mp4")[0].max() > 150


def test_an_unknown_ending_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"\.mp4"):
        H264FileSink(tmp_path / "out.gif", Fraction(10), (160, 120))


def test_a_place_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(StorageError):
        H264FileSink(tmp_path / "file" / "out.mp4", Fraction(10), (160, 120))


def test_no_link_planted_in_the_folder_is_followed(tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    victim.write_bytes(b"precious")
    out = tmp_path / "out.mp4"
    (tmp_path / ".out.mp4.partial").symlink_to(victim)
    with H264FileSink(out, Fraction(10), (160, 120)) as sink:
        sink.write(protected(0))
    assert victim.read_bytes() == b"precious"
    assert len(read_video(out)) == 1


@pytest.mark.parametrize("recording", [False, True])
def test_two_runs_to_one_place_do_not_share_a_file(tmp_path: Path, recording: bool) -> None:
    out = tmp_path / "out.mp4"
    first, second = (H264FileSink(out, Fraction(10), (160, 120), recording=recording) for _ in range(2))
    for number in range(4):
        first.write(protected(number))
    second.write(protected(0))
    second.close()
    assert len(read_video(out)) == 1
    first.close()
    assert len(read_video(out)) == 4
    assert list(tmp_path.iterdir()) == [out]


@pytest.mark.parametrize(("umask", "mode"), [(0o022, 0o644), (0o077, 0o600)])
def test_the_file_has_the_mode_that_the_umask_leaves(tmp_path: Path, umask: int, mode: int) -> None:
    before = os.umask(umask)
    try:
        with H264FileSink(tmp_path / "out.mp4", Fraction(10), (160, 120)) as sink:
            sink.write(protected(0))
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "out.mp4").stat().st_mode) == mode


@pytest.mark.parametrize("recording", [False, True])
@pytest.mark.parametrize("name", ["out.mp4", "out.mkv"])
def test_the_shape_of_the_pixels_is_told(tmp_path: Path, name: str, recording: bool) -> None:
    sink = H264FileSink(
        tmp_path / name, Fraction(10), (160, 120), recording=recording, pixel_aspect=Fraction(16, 11)
    )  # fmt: skip
    with sink:
        sink.write(protected(0))
    with av.open(str(tmp_path / name)) as container:
        assert container.streams.video[0].sample_aspect_ratio == Fraction(16, 11)


def test_an_ordinary_file_counts_its_frames_in_the_header(tmp_path: Path) -> None:
    with H264FileSink(tmp_path / "out.mp4", Fraction(10), (160, 120)) as sink:
        for number in range(5):
            sink.write(protected(number))
    with av.open(str(tmp_path / "out.mp4")) as container:
        assert container.streams.video[0].frames == 5
    content = (tmp_path / "out.mp4").read_bytes()
    assert content.index(b"moov") < content.index(b"mdat")


def test_a_recording_is_in_fragments_of_two_seconds_at_any_rate(tmp_path: Path) -> None:
    with H264FileSink(tmp_path / "out.mp4", Fraction(25), (160, 120), recording=True) as sink:
        for number in range(10):
            sink.write(protected(number, pts=number * 1000))  # one frame a second, whatever the nominal rate
    with av.open(str(tmp_path / "out.mp4")) as container:
        keys = [packet.is_keyframe for packet in container.demux(video=0) if packet.size]
    assert keys == [True, False] * 5
    assert (tmp_path / "out.mp4").read_bytes().count(b"moof") >= 5


@pytest.mark.parametrize("name", ["out.mp4", "out.mov", "out.mkv"])
def test_a_recording_broken_off_is_put_in_place_with_what_it_holds(tmp_path: Path, name: str) -> None:
    sink = H264FileSink(tmp_path / name, Fraction(10), (160, 120), recording=True)
    for number in range(30):
        sink.write(protected(number))
    sink.abort()
    assert len(read_video(tmp_path / name)) == 30
    assert list(tmp_path.iterdir()) == [tmp_path / name]


def test_a_recording_without_a_picture_takes_nobodys_place(tmp_path: Path) -> None:
    out = tmp_path / "out.mp4"
    out.write_bytes(b"earlier")
    H264FileSink(out, Fraction(10), (160, 120), recording=True).abort()
    assert out.read_bytes() == b"earlier"
    assert list(tmp_path.iterdir()) == [out]


NOISE = """
    import signal, sys
    from fractions import Fraction
    from pathlib import Path
    import numpy as np
    from privseg.errors import StorageError
    from privseg.privacy.filters.registry import create_method
    from privseg.privacy.frames import RawFrame, protect
    from privseg.privacy.masks import PersonMask
    from privseg.streaming.sinks import H264FileSink

    path, recording, count = Path(sys.argv[1]), sys.argv[2] == "recording", int(sys.argv[3])
    rng = np.random.default_rng(0)
    nobody = np.zeros((120, 160), np.bool_)
    try:
        with H264FileSink(path, Fraction(10), (160, 120), recording=recording) as sink:
            for number in range(count):
                noise = rng.integers(0, 256, (120, 160, 3), np.uint8)
                frame = RawFrame(noise, sequence=number, pts=number, time_base=Fraction(1, 10))
                sink.write(protect(frame, PersonMask(nobody, number), create_method("blank")))
            print("written", flush=True)
            if "wait" in sys.argv:
                signal.pause()
    except StorageError as error:
        print(error)
        sys.exit(error.exit_code)
"""
LIMITED = """
    import resource, signal
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, 200_000))  # the kernel refuses every byte beyond it
"""


def command(path: Path, kind: str, count: int, *, limited: bool = False, wait: bool = False) -> list[str]:
    program = textwrap.dedent(LIMITED if limited else "") + textwrap.dedent(NOISE)
    return [sys.executable, "-c", program, str(path), kind, str(count), *(["wait"] if wait else [])]


def test_a_full_disk_is_one_line_and_leaves_the_earlier_file(tmp_path: Path) -> None:
    path = tmp_path / "out.mp4"
    path.write_bytes(b"earlier")
    done = subprocess.run(command(path, "file", 400, limited=True), capture_output=True, text=True, check=False)
    assert done.returncode == StorageError.exit_code, done.stderr
    assert str(path) in done.stdout
    assert "cannot be written" in done.stdout
    assert path.read_bytes() == b"earlier"
    assert list(tmp_path.iterdir()) == [path]


def test_a_full_disk_keeps_what_a_recording_holds(tmp_path: Path) -> None:
    path = tmp_path / "out.mp4"
    done = subprocess.run(command(path, "recording", 400, limited=True), capture_output=True, text=True, check=False)
    assert done.returncode == StorageError.exit_code, done.stderr
    assert list(tmp_path.iterdir()) == [path]
    with av.open(str(path)) as container:
        assert next(container.decode(video=0)).width == 160


def test_a_killed_recording_is_playable_under_a_name_of_its_own(tmp_path: Path) -> None:
    path = tmp_path / "door.mp4"
    path.write_bytes(b"earlier")
    with subprocess.Popen(command(path, "recording", 100, wait=True), stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "written\n"
        process.kill()
    assert path.read_bytes() == b"earlier"
    (partial,) = tmp_path.glob("door.*.partial.mp4")
    assert len(read_video(partial)) >= 80  # of ten seconds, all but the last fragment
