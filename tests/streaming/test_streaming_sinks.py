"""Only protected frames are written, and a file takes its place when it is whole."""

from __future__ import annotations

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


FULL_DISK = """
    import resource, signal, sys
    from fractions import Fraction
    from pathlib import Path
    import numpy as np
    from privseg.errors import StorageError
    from privseg.privacy.filters.registry import create_method
    from privseg.privacy.frames import RawFrame, protect
    from privseg.privacy.masks import PersonMask
    from privseg.streaming.sinks import H264FileSink

    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, 200_000))  # the kernel refuses every byte beyond it
    rng = np.random.default_rng(0)
    nobody = np.zeros((120, 160), np.bool_)
    try:
        with H264FileSink(Path(sys.argv[1]), Fraction(10), (160, 120)) as sink:
            for number in range(400):
                noise = rng.integers(0, 256, (120, 160, 3), np.uint8)
                frame = RawFrame(noise, sequence=number, pts=number, time_base=Fraction(1, 10))
                sink.write(protect(frame, PersonMask(nobody, number), create_method("blank")))
    except StorageError as error:
        print(error)
        sys.exit(error.exit_code)
"""


def test_a_full_disk_is_one_line_and_leaves_the_earlier_file(tmp_path: Path) -> None:
    path = tmp_path / "out.mp4"
    path.write_bytes(b"earlier")
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(FULL_DISK), str(path)], capture_output=True, text=True, check=False
    )
    assert done.returncode == StorageError.exit_code, done.stderr
    assert str(path) in done.stdout
    assert "cannot be written" in done.stdout
    assert path.read_bytes() == b"earlier"
    assert list(tmp_path.iterdir()) == [path]
