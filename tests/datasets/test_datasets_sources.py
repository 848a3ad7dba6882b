"""Readers of native layouts: what they list, what they refuse to list, and how masks are stored."""

from __future__ import annotations

import pickle
import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from privseg.datasets.sources.base import Sample, evenly_spaced, read_mask
from privseg.datasets.sources.registry import KINDS, open_source
from privseg.errors import DataError, UsageError
from privseg.params import SourceParams


def samples_of(root: Path, **fields: Any) -> list[Sample]:
    source = open_source("some", SourceParams.model_validate(fields), raw_root=root, size=64, seed=0)
    return list(source.samples())


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


def test_a_sample_tells_its_files_and_its_mask_without_the_image(
    make_pairs: Any, pairs_source: Any, tmp_path: Path
) -> None:
    make_pairs(tmp_path / "train", ["a"])
    source = {**pairs_source, "partitions": pairs_source["partitions"][:1]}
    [sample] = samples_of(tmp_path, **source)
    assert sample.files == (tmp_path / "train/images/a.jpg", tmp_path / "train/masks/a.png")
    _, mask = sample.load()
    sample.files[0].unlink()
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(sample)).load_mask(), mask)  # noqa: S301 - our own bytes
    sample.files[1].unlink()
    with pytest.raises(DataError, match="the mask is missing"):
        sample.load_mask()


def test_a_rendered_scene_has_a_mask_and_no_files() -> None:
    sample = samples_of(Path("/"), kind="synthetic", count=4)[0]
    np.testing.assert_array_equal(sample.load_mask(), sample.load()[1])
    assert sample.files == ()


def test_the_kinds_are_the_modules_and_an_unknown_one_is_refused_naming_them() -> None:
    assert {"voc", "cocostuff164k", "ade20k", "coco_instances", "pairs", "synthetic"} == KINDS
    with pytest.raises(UsageError, match=r"source yard: is of the unknown kind vok.*ade20k"):
        open_source("yard", SourceParams(kind="vok"), raw_root=Path(), size=64, seed=0)


def test_samples_are_light(tmp_path: Path) -> None:
    for folder in ("images/training", "annotations/training"):
        (tmp_path / folder).mkdir(parents=True)
    for index in range(500):
        (tmp_path / f"images/training/ADE_train_{index:08d}.jpg").touch()
    samples_of(tmp_path, kind="ade20k")  # imports what is needed
    tracemalloc.start()
    found = samples_of(tmp_path, kind="ade20k")
    held, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert held / len(found) < 900  # bytes; two Path objects alone would take as much


def test_limit_is_evenly_spaced_and_repeatable() -> None:
    assert evenly_spaced(list(range(10)), 5) == [0, 2, 4, 6, 8]
    assert evenly_spaced(list(range(3)), 5) == [0, 1, 2]
    assert evenly_spaced(list(range(3)), None) == [0, 1, 2]


# ---- broken folders


@pytest.mark.parametrize("kind", ["voc", "cocostuff164k", "ade20k", "coco_instances", "pairs"])
def test_wrong_path_is_named(kind: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="nowhere"):
        samples_of(tmp_path, kind=kind, path="nowhere")


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        ("voc", "ImageSets/Segmentation"),
        ("cocostuff164k", "stuffthingmaps"),
        ("ade20k", "annotations/"),
        ("coco_instances", "instances_"),
    ],
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


def test_every_so_many_pairs_are_held_out_for_testing(make_pairs: Any, pairs_source: Any, tmp_path: Path) -> None:
    make_pairs(tmp_path / "train", list("abcdefghi"))
    part = pairs_source["partitions"][0] | {"hold_out_every": 4}
    pools = {sample.name: sample.pool for sample in samples_of(tmp_path, **pairs_source | {"partitions": [part]})}
    assert {name for name, pool in pools.items() if pool == "test"} == {"a", "e", "i"}
    assert set(pools.values()) == {"train", "test"}


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
