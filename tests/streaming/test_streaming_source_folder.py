"""A folder of pictures as a recording: every whole picture, upright and in order; no other file, and no people out."""

from __future__ import annotations

import io
import os
import threading
from fractions import Fraction
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, ImageOps

from privseg.errors import DataError, UsageError
from privseg.privacy.filters.registry import create_method
from privseg.streaming.anonymize import anonymize
from privseg.streaming.exif import orientation_of
from privseg.streaming.source_folder import FolderSource
from privseg.streaming.sources import open_source
from privseg.testing.camera import beacon_pixels, read_video, scene
from privseg.testing.segmenter import FaultySegmenter

Pixels = npt.NDArray[np.uint8]


def encoded(pixels: Pixels, kind: str = "PNG", *, mode: str = "RGB", orientation: int = 0, **options: Any) -> bytes:
    file = io.BytesIO()
    if orientation:
        exif = Image.Exif()
        exif[0x0112] = orientation
        options["exif"] = exif
    Image.fromarray(pixels).convert(mode).save(file, kind, **options)
    return file.getvalue()


def grey(level: int, width: int = 64, height: int = 64) -> Pixels:
    return np.full((height, width, 3), level, np.uint8)


def smooth(width: int = 96, height: int = 64) -> Pixels:
    """Another colour everywhere, and no two corners alike."""
    y, x = np.mgrid[0:height, 0:width]
    return np.stack([40 + 2 * x, 220 - 2 * y, 30 + x + y], axis=-1).astype(np.uint8)


def noise(width: int = 160, height: int = 120) -> Pixels:
    return np.random.default_rng(0).integers(0, 255, (height, width, 3), dtype=np.uint8)


def fill(folder: Path, files: dict[str, bytes]) -> Path:
    for name, content in files.items():
        (folder / name).write_bytes(content)
    return folder


def level_of(frame: Any) -> int:
    return int(np.median(frame.model_input(64)))


def test_pictures_come_in_the_order_of_their_numbers(tmp_path: Path) -> None:
    names = {
        "frame10.png": "PNG",
        "frame9.bmp": "BMP",
        "Frame2.JPG": "JPEG",
        "frame100.webp": "WEBP",
        "frame1.jpeg": "JPEG",
    }
    for name, kind in names.items():
        number = int("".join(c for c in name if c.isdigit()))
        (tmp_path / name).write_bytes(encoded(grey(number * 2), kind))
    source = FolderSource(tmp_path)
    frames = list(source.frames())
    assert [level_of(frame) for frame in frames] == pytest.approx([2, 4, 18, 20, 200], abs=2)
    assert [frame.sequence for frame in frames] == [0, 1, 2, 3, 4]
    assert [frame.pts * frame.time_base for frame in frames] == [Fraction(number, 10) for number in range(5)]
    assert (source.live, source.endless, source.frame_rate, source.corrupt, source.fault) == (False, False, 10, 0, None)


@pytest.mark.parametrize(
    ("kind", "options"),
    [
        ("JPEG", {"quality": 95}),
        ("JPEG", {"quality": 95, "progressive": True}),
        ("JPEG", {"quality": 95, "mode": "CMYK"}),
        ("PNG", {}),
        ("PNG", {"mode": "RGBA"}),
        ("BMP", {}),
        ("WEBP", {"lossless": True}),
        ("WEBP", {"quality": 95}),
    ],
)
def test_colours_are_those_of_the_file(tmp_path: Path, kind: str, options: dict[str, Any]) -> None:
    fill(tmp_path, {f"a.{kind.lower()}": encoded(smooth(), kind, **options)})
    (frame,) = FolderSource(tmp_path).frames()
    assert np.abs(frame.model_input(96)[0].astype(int) - smooth()).mean() < 5


def test_what_a_file_is_its_content_tells(tmp_path: Path) -> None:
    fill(tmp_path, {"a.png": encoded(grey(80), "JPEG"), "b.jpg": encoded(grey(120), "PNG")})
    assert [level_of(frame) for frame in FolderSource(tmp_path).frames()] == pytest.approx([80, 120], abs=2)


def damaged(content: bytes) -> bytes:
    middle = len(content) // 2
    return content[:middle] + bytes(300) + content[middle + 300 :]


UNREADABLE = {
    "text": b"no picture at all",
    "empty": b"",
    "magic alone": b"\xff\xd8\xff",
    "half a JPEG": encoded(noise(), "JPEG")[:9000],
    "JPEG without its end": encoded(noise(), "JPEG")[:-200],
    "half a PNG": encoded(noise(), "PNG")[:9000],
    "damaged PNG": damaged(encoded(noise(), "PNG")),
    "half a BMP": encoded(noise(), "BMP")[:9000],
    "half a WebP": encoded(noise(), "WEBP")[:3000],
}


@pytest.mark.parametrize("fault", UNREADABLE)
def test_a_corrupt_picture_is_counted_and_leaves_a_gap(tmp_path: Path, fault: str) -> None:
    fill(tmp_path, {"1.jpg": encoded(grey(50)), "2.jpg": UNREADABLE[fault], "3.jpg": encoded(grey(150))})
    source = FolderSource(tmp_path, rate=5)
    frames = list(source.frames())
    assert [level_of(frame) for frame in frames] == [50, 150]
    assert [frame.sequence for frame in frames] == [0, 1]
    assert [frame.pts * frame.time_base for frame in frames] == [0, Fraction(2, 5)]
    assert source.corrupt == 1


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "BMP", "WEBP"])
def test_a_small_file_that_unpacks_to_a_huge_picture_is_refused(tmp_path: Path, kind: str) -> None:
    content = bytearray(encoded(grey(9, 64, 64), kind, **({"lossless": True} if kind == "WEBP" else {})))
    if kind == "PNG":
        file = io.BytesIO()
        Image.new("1", (9000, 9000)).save(file, "PNG")
        content = bytearray(file.getvalue())
    elif kind == "BMP":
        content[18:26] = (30000).to_bytes(4, "little") * 2
    elif kind == "JPEG":
        start = content.index(b"\xff\xc0") + 5
        content[start : start + 4] = (30000).to_bytes(2, "big") * 2
    else:
        start = content.index(b"VP8L") + 9
        content[start : start + 4] = (16382 | 16382 << 14).to_bytes(4, "little")
    fill(tmp_path, {"1.png": bytes(content), "2.png": encoded(grey(50))})
    source = FolderSource(tmp_path)
    assert [level_of(frame) for frame in source.frames()] == [50]
    assert source.corrupt == 1


def test_only_pictures_right_in_the_folder_are_read(tmp_path: Path) -> None:
    fill(tmp_path, {"1.png": encoded(grey(50)), "notes.txt": b"1", "._1.png": b"a resource fork", ".2.png": b""})
    (tmp_path / "below.png").mkdir()
    (tmp_path / "deeper").mkdir()
    fill(tmp_path / "deeper", {"3.png": encoded(grey(90))})
    os.mkfifo(tmp_path / "4.png")
    source = FolderSource(tmp_path)
    assert len(list(source.frames())) == 1
    assert source.corrupt == 0


@pytest.mark.parametrize(
    ("files", "fault"),
    [({}, "holds no picture"), ({"a.txt": b""}, "holds no picture"), ({"a.png": b"", "b.jpg": b"x"}, "none of its 2")],
)
@pytest.mark.parametrize("loop", [False, True])
def test_a_folder_without_a_readable_picture(tmp_path: Path, files: dict[str, bytes], fault: str, loop: bool) -> None:
    source = FolderSource(fill(tmp_path, files), loop=loop)
    with pytest.raises(DataError, match=fault) as caught:
        list(source.frames())
    assert str(tmp_path) in str(caught.value)
    assert "JPEG, PNG, BMP or WebP" in caught.value.next_step


def test_a_folder_that_goes_away(tmp_path: Path) -> None:
    folder = tmp_path / "gone"
    folder.mkdir()
    source = FolderSource(folder)
    folder.rmdir()
    with pytest.raises(DataError, match="cannot be read"):
        list(source.frames())


def test_what_is_no_folder_and_what_is_no_rate(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="is not a folder"):
        FolderSource(tmp_path / "none")
    for rate in (0, 0.0004, -1, 1001, float("nan")):
        with pytest.raises(UsageError, match="pictures a second"):
            FolderSource(tmp_path, rate=rate)


def test_a_looped_folder_never_ends_and_its_time_goes_on(tmp_path: Path) -> None:
    fill(tmp_path, {"1.png": encoded(grey(50)), "2.png": b"", "3.png": encoded(grey(90))})
    source = FolderSource(tmp_path, loop=True, rate=2)
    frames = list(islice(source.frames(), 5))
    assert [frame.sequence for frame in frames] == [0, 1, 2, 3, 4]
    assert [frame.pts * frame.time_base for frame in frames] == [0, 1, Fraction(3, 2), Fraction(5, 2), 3]
    assert [level_of(frame) for frame in frames] == [50, 90, 50, 90, 50]


@pytest.mark.parametrize("loop", [False, True])
def test_stop_ends_a_paced_folder_at_once(tmp_path: Path, loop: bool) -> None:
    fill(tmp_path, {"1.png": encoded(grey(50)), **({} if loop else {"2.png": encoded(grey(90))})})
    source = FolderSource(tmp_path, realtime=True, loop=loop, rate=0.001)  # the next one is due in 1000 s
    assert source.live
    frames = source.frames()
    next(frames)
    threading.Timer(0, source.stop).start()
    assert list(frames) == []


def test_stop_ends_a_folder_that_is_not_paced(tmp_path: Path) -> None:
    fill(tmp_path, {f"{number}.png": encoded(grey(50)) for number in range(5)})
    source = FolderSource(tmp_path, loop=True)
    frames = source.frames()
    next(frames)
    source.stop()
    assert list(frames) == []


def test_pictures_may_be_of_any_size(tmp_path: Path) -> None:
    sizes = [(64, 48), (161, 121), (48, 64), (1, 1)]
    fill(tmp_path, {f"{at}.jpg": encoded(grey(50, *size), "JPEG") for at, size in enumerate(sizes)})
    assert [(frame.width, frame.height) for frame in FolderSource(tmp_path).frames()] == sizes


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_photograph_is_put_upright(tmp_path: Path, kind: str, orientation: int) -> None:
    options: dict[str, Any] = {"lossless": True} if kind == "WEBP" else {"quality": 95} if kind == "JPEG" else {}
    content = encoded(smooth(), kind, orientation=orientation, **options)
    fill(tmp_path, {"a.jpg": content})
    (frame,) = FolderSource(tmp_path).frames()
    upright = np.asarray(ImageOps.exif_transpose(Image.open(io.BytesIO(content))).convert("RGB"))
    assert (frame.height, frame.width) == upright.shape[:2]
    assert np.abs(frame.model_input(96)[0].astype(int) - upright).mean() < 3


def test_a_nonsensical_orientation_is_none() -> None:
    assert [orientation_of(encoded(smooth(), "JPEG", orientation=number)) for number in (9, 60000)] == [1, 1]
    assert orientation_of(encoded(smooth(), "BMP")) == 1


@given(
    st.sampled_from([b"\xff\xd8\xff\xe1\x00\x40Exif\0\0MM\0*\0\0\0\x08", b"\x89PNG\r\n\x1a\n\0\0\0\x0ceXIf", b"RIFF"]),
    st.binary(max_size=80),
)
def test_no_file_can_break_the_orientation(start: bytes, rest: bytes) -> None:
    assert 1 <= orientation_of(start + rest) <= 8


def test_the_kind_of_source_is_told_by_the_path(tmp_path: Path) -> None:
    source = open_source(str(fill(tmp_path, {"1.png": encoded(grey(50))})), realtime=True, image_rate=2.5)
    assert isinstance(source, FolderSource)
    assert (source.live, source.frame_rate) == (True, Fraction(5, 2))
    with pytest.raises(UsageError, match="does not exist"):
        open_source(str(tmp_path / "none"))


def test_a_folder_of_pictures_comes_out_covered(tmp_path: Path) -> None:
    folder = tmp_path / "pictures"
    folder.mkdir()
    for number in range(12):
        size = (320, 240) if number < 8 else (200, 160)
        orientation = 6 if number in {4, 9} else 0
        content = encoded(scene(number, *size), "JPEG", quality=95, orientation=orientation)
        (folder / f"{number}.jpg").write_bytes(content[: 2000 if number == 5 else None])
    out = tmp_path / "out.mp4"
    report = anonymize(str(folder), out, method=create_method("blank"), segmenter=FaultySegmenter())
    assert (report.frames_in, report.frames_out, report.frames_blanked, report.corrupt_packets) == (11, 11, 0, 1)
    pictures = read_video(out)
    assert len(pictures) == 11
    assert [beacon_pixels(picture) for picture in pictures] == [0] * 11


def test_a_report_cannot_take_the_place_of_a_picture(tmp_path: Path) -> None:
    folder = tmp_path / "pictures"
    folder.mkdir()
    picture = encoded(grey(50))
    fill(folder, {"1.png": picture})
    with pytest.raises(UsageError, match="is the same file as a source"):
        anonymize(
            str(folder), tmp_path / "out.mp4", method=create_method("blank"), segmenter=FaultySegmenter(),
            report=folder / "1.png",
        )  # fmt: skip
    assert (folder / "1.png").read_bytes() == picture
