"""Bad input, one fault a test: what can be read is read right, the rest is one DataError that names the file."""

from __future__ import annotations

import io
import os
import struct
import tempfile
import unicodedata
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from PIL import Image

from privseg.datasets.sources.base import Sample, file_stem, read_image
from privseg.datasets.sources.registry import open_source
from privseg.errors import DataError
from privseg.params import SourceParams

ONE_PART = [{"pool": "train", "images": "images", "masks": "masks"}]
SIZE = (24, 16)  # of the intact pair: width, height


def samples_of(root: Path, **fields: Any) -> list[Sample]:
    params = SourceParams.model_validate({"kind": "pairs", "partitions": ONE_PART, **fields})
    return list(open_source("some", params, raw_root=root, size=64, seed=0).samples())


def refuses(root: Path, file: Path, fault: str, **fields: Any) -> None:
    """The one sample of the source says of ``file`` what is wrong with it, in one line."""
    [sample] = samples_of(root, **fields)
    with pytest.raises(DataError, match=fault) as caught:
        sample.load()
    assert caught.value.subject == str(file)
    assert "\n" not in str(caught.value)
    if file.parent.name == "masks" and "pixels, its image" not in fault:
        with pytest.raises(DataError, match=fault):
            sample.load_mask()


def stored(path: Path) -> Image.Image:
    with Image.open(path) as picture:
        picture.load()
        return picture


def png(path: Path, width: int, height: int, *, bits: int = 8, colour: int = 0, rows: bytes = b"") -> None:
    """A PNG of any header, its rows possibly missing."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    head = struct.pack(">IIBBBBB", width, height, bits, colour, 0, 0, 0)
    path.write_bytes(
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    )


# ---- damaged files


@pytest.mark.parametrize("share", [0.3, 0.6, 0.9])
@pytest.mark.parametrize("progressive", [False, True])
def test_truncated_jpeg_is_refused(share: float, progressive: bool, root: Path, image: Path) -> None:
    stored(image).save(image, "JPEG", quality=95, progressive=progressive)
    data = image.read_bytes()
    image.write_bytes(data[: int(len(data) * share)])
    refuses(root, image, "the image cannot be decoded")


@pytest.mark.parametrize("share", [0.3, 0.6, 0.9])
def test_truncated_mask_is_refused(share: float, root: Path, mask: Path) -> None:
    data = mask.read_bytes()
    mask.write_bytes(data[: int(len(data) * share)])
    refuses(root, mask, "the mask cannot be decoded")


def test_mask_with_flipped_bytes_is_refused(root: Path, mask: Path) -> None:
    data = bytearray(mask.read_bytes())
    middle = data.index(b"IDAT") + 6
    data[middle : middle + 8] = b"\xff" * 8
    mask.write_bytes(data)
    refuses(root, mask, "the mask cannot be decoded")


@pytest.mark.parametrize("which", ["images/a.jpg", "masks/a.png"])
@pytest.mark.parametrize("content", [b"", b"no picture at all", b"GIF89a\1\0\1\0\0\0\0;"])
def test_empty_file_and_one_that_is_no_picture_are_refused(content: bytes, which: str, root: Path) -> None:
    (root / which).write_bytes(content)
    refuses(root, root / which, "cannot be decoded" if content else "the file is empty")


@pytest.mark.parametrize("which", ["images/a.jpg", "masks/a.png"])
def test_png_without_pixels_is_refused(which: str, root: Path) -> None:
    png(root / which, *SIZE)
    data = (root / which).read_bytes()
    (root / which).write_bytes(data[: data.index(b"IDAT") - 4] + data[data.index(b"IEND") - 4 :])
    refuses(root, root / which, "cannot be decoded .damaged.")


@settings(max_examples=60, deadline=None)
@given(position=st.integers(0, 400), byte=st.integers(0, 255), kind=st.sampled_from(["JPEG", "PNG"]))
def test_a_changed_byte_ends_in_a_picture_or_in_a_clear_fault(position: int, byte: int, kind: str) -> None:
    buffer = io.BytesIO()
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (16, 24, 3), np.uint8)).save(buffer, kind)
    data = bytearray(buffer.getvalue())
    data[position] = byte
    with tempfile.NamedTemporaryFile() as file:
        file.write(data)
        file.flush()
        assert blamed(Path(file.name)) in {None, file.name}


def blamed(path: Path) -> str | None:
    """The file that an image's fault names; none if it can be read."""
    try:
        read_image(path)
    except DataError as error:
        return error.subject
    return None


@pytest.mark.parametrize("which", ["images/a.jpg", "masks/a.png"])
def test_missing_file_is_named(which: str, root: Path) -> None:
    [sample] = samples_of(root)
    (root / which).unlink()
    with pytest.raises(DataError, match="is missing") as caught:
        sample.load()
    assert caught.value.subject == str(root / which)


def test_mask_of_another_size_than_its_image_names_both_sizes(root: Path, mask: Path) -> None:
    Image.new("L", (15, 20)).save(mask)
    refuses(root, mask, "is 15x20 pixels, its image a.jpg 24x16")


# ---- sizes


def test_picture_of_60000_by_2_pixels_is_read(root: Path, image: Path, mask: Path) -> None:
    Image.new("RGB", (60_000, 2)).save(image)
    Image.new("L", (60_000, 2), 1).save(mask)
    [sample] = samples_of(root)
    pixels, labels = sample.load()
    assert pixels.shape == (2, 60_000, 3)
    assert labels.sum() == 120_000


@pytest.mark.parametrize(
    "side", [9_200, 20_000, 2**31 - 1]
)  # more than is read, than Pillow warns of, than fits memory
@pytest.mark.parametrize("which", ["images/a.jpg", "masks/a.png"])
def test_decompression_bomb_is_refused_by_its_header(which: str, side: int, root: Path) -> None:
    png(root / which, side, side)  # without rows: were it decoded, it would be called truncated
    refuses(root, root / which, "pixels")


def test_decompression_bomb_that_calls_itself_jpeg_is_refused_by_its_header(root: Path, image: Path) -> None:
    data = bytearray(image.read_bytes())
    frame = data.index(b"\xff\xc0")
    data[frame + 5 : frame + 9] = struct.pack(">HH", 65_000, 65_000)
    image.write_bytes(data)
    refuses(root, image, "pixels")


# ---- names


@pytest.mark.parametrize("form", ["NFC", "NFD"])
def test_unicode_names_are_read_in_either_composition(form: Any, root: Path, image: Path, mask: Path) -> None:
    name = unicodedata.normalize(form, "Zürich Straße é 東京 👪")
    image.rename(image.with_name(f"{name}.jpg"))
    mask.rename(mask.with_name(f"{name}.png"))
    [sample] = samples_of(root)
    assert sample.name == name
    assert sample.load()[1].any()
    assert unicodedata.is_normalized("NFC", file_stem(name))


def test_names_that_differ_only_in_composition_get_files_of_their_own(root: Path, image: Path, mask: Path) -> None:
    names = [unicodedata.normalize(form, "é") for form in ("NFC", "NFD")]
    for name in names:
        image.with_name(f"{name}.jpg").write_bytes(image.read_bytes())
        mask.with_name(f"{name}.png").write_bytes(mask.read_bytes())
    assert {sample.name for sample in samples_of(root)} == {"a", *names}
    first, second = (unicodedata.normalize("NFC", file_stem(name)) for name in names)
    assert first != second


def test_very_long_names_are_read_and_get_shorter_stems(root: Path, image: Path, mask: Path) -> None:
    names = ["東" * 83 + ending for ending in "ab"]  # 250 bytes and a suffix of four
    for name in names:
        image.with_name(f"{name}.jpg").write_bytes(image.read_bytes())
        mask.with_name(f"{name}.png").write_bytes(mask.read_bytes())
    found = [sample for sample in samples_of(root) if sample.name != "a"]
    assert [sample.name for sample in found] == names
    assert all(sample.load()[1].any() for sample in found)
    first, second = (file_stem(name) for name in names)
    assert first != second
    (root / f"{first}.png").touch()


@given(names=st.sets(st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1, max_size=300), max_size=6))
@example(names={"é", "e\u0301"})
@example(names={"a" * 200, "a" * 201, "a" * 202})
def test_file_stems_are_short_composed_and_one_to_one(names: set[str]) -> None:
    stems = {file_stem(name) for name in names}
    assert len(stems) == len(names)
    for stem in stems:
        assert len(stem.encode()) <= 200
        assert unicodedata.is_normalized("NFC", stem)
    assert file_stem("2007_000032") == "2007_000032"


def test_name_that_is_another_ones_shortened_stem_is_refused(root: Path, image: Path) -> None:
    long = "x" * 240
    for name in (long, file_stem(long)):
        image.with_name(f"{name}.jpg").write_bytes(image.read_bytes())
    with pytest.raises(DataError, match="has the same name as"):
        samples_of(root)


@pytest.mark.parametrize("name", [b"a\tb.jpg", b"\xff\xfe.jpg", "a\u2028b.jpg".encode(), b"a\\b.jpg"])
def test_name_that_cannot_be_written_again_is_refused(name: bytes, root: Path, image: Path) -> None:
    os.rename(image, os.path.join(os.fsencode(image.parent), name))  # noqa: PTH104, PTH118 - not every name is text
    with pytest.raises(DataError, match="cannot be a sample's name") as caught:
        samples_of(root)
    str(caught.value).encode()  # can be printed


# ---- links and other things that are no files


@pytest.mark.parametrize("which", ["images/a.jpg", "masks/a.png"])
def test_symlink_out_of_the_source_is_refused(which: str, root: Path) -> None:
    outside = root.parent / "outside"
    (root / which).rename(outside)
    (root / which).symlink_to(outside)
    refuses(root, root / which, f"points outside the source's folder .to {outside}.")


def test_symlinked_folder_out_of_the_source_is_refused(root: Path, image: Path) -> None:
    image.parent.rename(root.parent / "data-of-others")  # begins like the root, but is not in it
    image.parent.symlink_to(root.parent / "data-of-others", target_is_directory=True)
    refuses(root, image, "points outside the source's folder")


def test_symlinks_inside_the_source_and_a_symlinked_root_are_fine(root: Path, image: Path) -> None:
    image.rename(root / "store")
    image.symlink_to(Path("../store"))
    (root.parent / "link").symlink_to(root, target_is_directory=True)
    for place in (root, root.parent / "link"):
        [sample] = samples_of(place)
        assert sample.load()[1].any()


@pytest.mark.parametrize("which", ["images/a.jpg", "masks/a.png"])
@pytest.mark.parametrize(
    ("make", "fault"),
    [
        (os.mkfifo, "cannot be read .it is no regular file."),
        (os.mkdir, "cannot be read .it is a folder."),
        (lambda path: path.symlink_to(path), "cannot be read"),
        (lambda path: path.symlink_to("nowhere"), "is missing"),
    ],
    ids=["pipe", "folder", "link to itself", "dangling link"],
)
def test_what_is_no_file_is_refused_without_waiting(
    make: Callable[[Path], None], fault: str, which: str, root: Path
) -> None:
    (root / which).unlink()
    make(root / which)
    refuses(root, root / which, fault)


def test_directory_loop_is_harmless(root: Path, image: Path) -> None:
    (image.parent / "loop").symlink_to(root, target_is_directory=True)
    (image.parent / "loop.jpg").symlink_to(root, target_is_directory=True)
    loop, sample = sorted(samples_of(root), key=lambda sample: sample.name == "a")
    assert sample.load()[1].any()
    with pytest.raises(DataError, match=r"loop\.(jpg: cannot be read|png: the mask is missing)"):
        loop.load()


# ---- the same name twice


def test_jpg_and_png_of_one_name_are_duplicate_ids(root: Path, image: Path) -> None:
    stored(image).save(image.with_suffix(".png"))
    with pytest.raises(DataError, match="has the same name as") as caught:
        samples_of(root)
    assert "a.jpg" in str(caught.value)
    assert "a.png" in str(caught.value)


@pytest.mark.parametrize(
    ("train", "val", "fault"), [("a a", "", "train.txt: names a twice"), ("a", "b a", "val.txt: names a, as train.txt")]
)
def test_voc_list_with_duplicate_ids_is_named(train: str, val: str, fault: str, tmp_path: Path) -> None:
    for folder in ("ImageSets/Segmentation", "JPEGImages", "SegmentationClass"):
        (tmp_path / folder).mkdir(parents=True)
    for name, listed in (("train", train), ("val", val)):
        (tmp_path / f"ImageSets/Segmentation/{name}.txt").write_text("\n".join(listed.split()))
    with pytest.raises(DataError, match=fault):
        samples_of(tmp_path, kind="voc")


@pytest.mark.parametrize("line", ["../../etc/passwd", ".hidden", "a\tb"])
def test_voc_list_cannot_name_files_elsewhere(line: str, tmp_path: Path) -> None:
    for folder in ("ImageSets/Segmentation", "JPEGImages", "SegmentationClass"):
        (tmp_path / folder).mkdir(parents=True)
    (tmp_path / "ImageSets/Segmentation/train.txt").write_text(f"{line}\n")
    with pytest.raises(DataError, match="cannot be a sample's name"):
        samples_of(tmp_path, kind="voc")
