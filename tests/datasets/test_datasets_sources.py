"""Readers of native layouts: on real files, and on broken ones."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from privseg.datasets.sources.base import Sample, evenly_spaced, read_image, read_mask
from privseg.datasets.sources.registry import open_source
from privseg.errors import DataError, UsageError
from privseg.params import SourceParams


def samples_of(root: Path, **fields: Any) -> list[Sample]:
    source = open_source("some", SourceParams.model_validate(fields), raw_root=root, size=64, seed=0)
    return list(source.samples())


# Where each real dataset lies, where its raw masks are, and which raw values mean human and ignore.
NATIVE = {
    "voc": ("VOCdevkit/VOC2012", "SegmentationClass/*.png", 15, 255, {"train": 2, "test": 1}),
    "cocostuff164k": ("cocostuff164k", "stuffthingmaps/*/*.png", 0, 255, {"train": 13, "test": 8}),
    "ade20k": ("ADEChallengeData2016", "annotations/*/*.png", 13, 0, {"train": 2, "test": 3}),
}


@pytest.mark.parametrize("kind", NATIVE)
def test_native_layout_gives_the_person_mask_pixel_for_pixel(kind: str, privseg_data: Path) -> None:
    path, masks, human, ignore, pools = NATIVE[kind]
    found = samples_of(privseg_data, kind=kind, path=path)
    assert [sample.name for sample in found] == sorted(sample.name for sample in found)
    assert {pool: sum(sample.pool == pool for sample in found) for pool in pools} == pools
    with_people = 0
    for sample in found:
        [mask_file] = [file for file in (privseg_data / path).glob(masks) if file.stem == sample.name]
        raw = np.asarray(Image.open(mask_file))  # palette files give their indices
        image, mask = pickle.loads(pickle.dumps(sample)).load()  # noqa: S301 - as worker processes get it
        assert image.shape == (*raw.shape, 3)
        assert image.dtype == mask.dtype == np.uint8
        np.testing.assert_array_equal(mask == 1, raw == human)
        np.testing.assert_array_equal(mask == 255, raw == ignore)
        assert set(np.unique(mask)) <= {0, 1, 255}
        with_people += bool((mask == 1).any())
    assert with_people >= 1


def test_coco_training_ids_are_read_where_there_are_any(tmp_path: Path) -> None:
    for folder in ("images/train2017", "annotations/train2017"):
        (tmp_path / folder).mkdir(parents=True)
    Image.new("RGB", (4, 2)).save(tmp_path / "images/train2017/000000000009.jpg")
    Image.fromarray(np.array([[0, 1, 170, 255]] * 2, np.uint8)).save(
        tmp_path / "annotations/train2017/000000000009_labelTrainIds.png"
    )
    Image.fromarray(np.full((2, 4), 7, np.uint8)).save(tmp_path / "annotations/train2017/000000000009.png")
    [sample] = samples_of(tmp_path, kind="cocostuff164k")
    np.testing.assert_array_equal(sample.load()[1], [[1, 0, 0, 255]] * 2)


def test_real_pairs_count_instance_ids_as_people(privseg_data: Path) -> None:
    part = {"pool": "train", "images": "images", "masks": "masks", "mask_suffix": "_mask"}
    found = samples_of(privseg_data, kind="pairs", path="pairs/pennfudan", partitions=[part], limit=3)
    assert len(found) == 3
    for sample in found:
        raw = np.asarray(Image.open(privseg_data / f"pairs/pennfudan/masks/{sample.name}_mask.png"))
        np.testing.assert_array_equal(sample.load()[1], raw > 0)


def test_limit_is_evenly_spaced_and_repeatable() -> None:
    assert evenly_spaced(list(range(10)), 5) == [0, 2, 4, 6, 8]
    assert evenly_spaced(list(range(3)), 5) == [0, 1, 2]
    assert evenly_spaced(list(range(3)), None) == [0, 1, 2]


# ---- broken folders


@pytest.mark.parametrize("kind", ["voc", "cocostuff164k", "ade20k", "pairs"])
def test_wrong_path_is_named(kind: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="nowhere"):
        samples_of(tmp_path, kind=kind, path="nowhere")


@pytest.mark.parametrize(
    ("kind", "expected"),
    [("voc", "ImageSets/Segmentation"), ("cocostuff164k", "stuffthingmaps"), ("ade20k", "annotations/")],
)
def test_empty_folder_is_named_with_what_belongs_there(kind: str, expected: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=expected) as caught:
        samples_of(tmp_path, kind=kind)
    assert str(tmp_path) in str(caught.value)


def test_empty_partition_is_named(make_pairs: Any, pairs_source: Any, tmp_path: Path) -> None:
    make_pairs(tmp_path / "train", ["a"])
    make_pairs(tmp_path / "test", [])
    with pytest.raises(DataError, match="test/images: holds no sample"):
        samples_of(tmp_path, **pairs_source)


def test_pairs_without_partitions_is_a_usage_error(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="partitions"):
        samples_of(tmp_path, kind="pairs")


def test_missing_annotation_folder_is_one_error(tmp_path: Path) -> None:
    (tmp_path / "images/training").mkdir(parents=True)
    Image.new("RGB", (4, 4)).save(tmp_path / "images/training/a.jpg")
    with pytest.raises(DataError, match="annotations/training"):
        samples_of(tmp_path, kind="ade20k")


def test_same_name_in_two_pools_is_refused(make_pairs: Any, pairs_source: Any, tmp_path: Path) -> None:
    make_pairs(tmp_path / "train", ["a"])
    make_pairs(tmp_path / "test", ["a"])
    with pytest.raises(DataError, match="same name"):
        samples_of(tmp_path, **pairs_source)


@pytest.mark.parametrize("line", ["../../etc/passwd", ".hidden", "a\tb"])
def test_a_list_cannot_name_files_elsewhere(line: str, tmp_path: Path) -> None:
    for folder in ("ImageSets/Segmentation", "JPEGImages", "SegmentationClass"):
        (tmp_path / folder).mkdir(parents=True)
    (tmp_path / "ImageSets/Segmentation/train.txt").write_text(f"{line}\n")
    with pytest.raises(DataError, match="cannot be a sample's name"):
        samples_of(tmp_path, kind="voc")


# ---- broken files: load() names the file


@pytest.fixture
def pair(make_pairs: Any, pairs_source: Any, tmp_path: Path) -> tuple[Path, Path, Sample]:
    """The image file, the mask file and the sample of one intact pair."""
    make_pairs(tmp_path / "train", ["a"])
    source = {**pairs_source, "partitions": pairs_source["partitions"][:1]}
    [sample] = samples_of(tmp_path, **source)
    sample.load()
    return tmp_path / "train/images/a.jpg", tmp_path / "train/masks/a.png", sample


def refuses(sample: Sample, file: Path, fault: str) -> None:
    with pytest.raises(DataError, match=fault) as caught:
        sample.load()
    assert caught.value.subject == str(file)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("which", [0, 1])
def test_corrupt_file(pair: tuple[Path, Path, Sample], which: int) -> None:
    pair[which].write_bytes(b"no picture at all")
    refuses(pair[2], pair[which], "cannot be decoded")


@pytest.mark.parametrize("which", [0, 1])
@pytest.mark.parametrize("share", [0.0, 0.3, 0.6, 0.9])
def test_truncated_file(pair: tuple[Path, Path, Sample], which: int, share: float) -> None:
    data = pair[which].read_bytes()
    pair[which].write_bytes(data[: int(len(data) * share)])
    refuses(pair[2], pair[which], "cannot be decoded")


def test_flipped_bytes_in_a_mask(pair: tuple[Path, Path, Sample]) -> None:
    data = bytearray(pair[1].read_bytes())
    middle = data.index(b"IDAT") + 20
    data[middle : middle + 8] = b"\xff" * 8
    pair[1].write_bytes(data)
    refuses(pair[2], pair[1], "cannot be decoded")


@pytest.mark.parametrize("which", [0, 1])
def test_missing_file(pair: tuple[Path, Path, Sample], which: int) -> None:
    pair[which].unlink()
    refuses(pair[2], pair[which], "is missing")


def test_mask_of_another_size_names_both_sizes(pair: tuple[Path, Path, Sample]) -> None:
    Image.new("L", (150, 200)).save(pair[1])
    refuses(pair[2], pair[1], "150x200 pixels, its image a.jpg 200x150")


def test_mask_with_colours(pair: tuple[Path, Path, Sample]) -> None:
    Image.new("RGB", (200, 150)).save(pair[1])
    refuses(pair[2], pair[1], "pixel format RGB")


def test_mask_in_a_lossy_format(pair: tuple[Path, Path, Sample]) -> None:
    Image.new("L", (200, 150)).save(pair[1], "JPEG")
    refuses(pair[2], pair[1], "no PNG file")


def test_decompression_bomb(pair: tuple[Path, Path, Sample]) -> None:
    Image.new("1", (20_000, 20_000)).save(pair[0], "PNG")
    refuses(pair[2], pair[0], "cannot be decoded")


def test_folder_in_place_of_an_image(pair: tuple[Path, Path, Sample]) -> None:
    pair[0].unlink()
    pair[0].mkdir()
    refuses(pair[2], pair[0], "cannot be read")


def test_label_unknown_to_the_dataset(tmp_path: Path) -> None:
    for folder in ("images/training", "annotations/training"):
        (tmp_path / folder).mkdir(parents=True)
    Image.new("RGB", (4, 4)).save(tmp_path / "images/training/a.jpg")
    Image.new("L", (4, 4), 200).save(tmp_path / "annotations/training/a.png")
    [sample] = samples_of(tmp_path, kind="ade20k")
    refuses(sample, tmp_path / "annotations/training/a.png", "label 200")


# ---- pixel formats


@pytest.mark.parametrize("bits", [2, 4, 8])
@pytest.mark.parametrize("mode", ["P", "L"])
def test_masks_keep_stored_values_whatever_the_bit_depth(mode: str, bits: int, tmp_path: Path) -> None:
    labels = np.arange(4, dtype=np.uint8).repeat(8).reshape(4, 8)
    image = Image.fromarray(labels, "L" if mode == "L" else None)
    if mode == "P":
        image = Image.frombytes("P", (8, 4), labels.tobytes())
        image.putpalette([channel for value in range(256) for channel in (255 - value, 7, value)])
        image.save(tmp_path / "mask.png", bits=bits)
    else:
        write_grey_png(tmp_path / "mask.png", labels, bits)
    np.testing.assert_array_equal(read_mask(tmp_path / "mask.png"), labels)


def write_grey_png(path: Path, labels: np.ndarray, bits: int) -> None:
    """A greyscale PNG of the given depth; Pillow writes only 8 bits."""
    import struct
    import zlib

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    rows = b""
    for row in labels:
        digits = "".join(f"{value:0{bits}b}" for value in row)
        rows += b"\0" + int(digits, 2).to_bytes(len(digits) // 8, "big")
    head = struct.pack(">IIBBBBB", labels.shape[1], labels.shape[0], bits, 0, 0, 0, 0)
    path.write_bytes(
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    )


@pytest.mark.parametrize("mode", ["L", "CMYK", "RGB"])
def test_pictures_become_rgb(mode: str, tmp_path: Path) -> None:
    Image.new("RGB", (8, 4), (90, 90, 90)).convert(mode).save(tmp_path / "a.jpg", quality=100)
    image = read_image(tmp_path / "a.jpg")
    assert image.shape == (4, 8, 3)
    assert np.abs(image.astype(int) - 90).max() <= 3


def test_orientation_tag_does_not_turn_the_picture_away_from_its_mask(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (8, 4)).save(tmp_path / "a.jpg", exif=exif)
    assert read_image(tmp_path / "a.jpg").shape == (4, 8, 3)
