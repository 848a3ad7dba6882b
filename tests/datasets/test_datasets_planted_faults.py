"""Faults planted in raw files and in a finished dataset, thirteen and eighteen of them: all are caught and named.

Raw faults go the whole way, from `identify` to `validate`. Those planted into a finished dataset are for the gate
alone, at least one for every family of expectations.
"""

from __future__ import annotations

import json
import re
import shutil
import struct
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from privseg.datasets.analyze import analyze
from privseg.datasets.cleanse import cleanse
from privseg.datasets.identify import identify
from privseg.datasets.ingest import ingest
from privseg.datasets.isolate import add_no_human, isolate, write_chosen
from privseg.datasets.manifest import read_manifest, write_manifest
from privseg.datasets.merge import merge
from privseg.datasets.split import split
from privseg.datasets.validate import ValidationReport, validate
from privseg.errors import DataError, GateFailedError, PrivsegError
from privseg.testing.datasets import make_tiny_coco_instances, make_tiny_pairs, make_tiny_voc

SIZE = 96
SOURCES: dict[str, dict[str, Any]] = {
    "pairs": {
        "kind": "pairs",
        "path": "pairs",
        "human": [1],
        "ignore": [255],
        "no_human_share": 0.2,
        "partitions": [
            {"pool": "train", "images": "train/images", "masks": "train/masks"},
            {"pool": "test", "images": "test/images", "masks": "test/masks"},
        ],
    },
    "voc": {"kind": "voc", "path": "voc", "no_human_share": 0.2},
    "coco": {"kind": "coco_instances", "path": "coco", "no_human_share": 0.2},
}
SECTIONS: dict[str, dict[str, Any]] = {
    "image": {"size": SIZE},
    # Pictures so small hold small people, and few pictures vary much.
    "cleanse": {
        "min_original_side": 32,
        "min_component_height": 2,
        "min_human_ratio": 0.0,
        "min_surveillance_score": 0.0,
    },
    "gate": {"min_images": 4, "min_train_images": 2, "min_test_images": 1, "max_removed_share": 0.8},
    "split": {"validation_share": 0.2},
}


@pytest.fixture(scope="module")
def raw(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three small sources without a fault; every fourth picture shows nobody, the last quarter is for testing."""
    folder = tmp_path_factory.mktemp("raw")
    make_tiny_pairs(folder / "pairs", images=24, size=SIZE, seed=1)
    make_tiny_voc(folder / "voc", images=8, size=SIZE, seed=2)
    make_tiny_coco_instances(folder / "coco", images=8, size=SIZE, seed=3)
    return folder


def build(params: Any, work: Path) -> Path:
    """Every stage before the gate."""
    identified = {name: identify(params, name, work / "identified" / name, processes=1) for name in params.sources}
    chosen = {
        name: add_no_human(table, isolate(table), params.sources[name].no_human_share)
        for name, table in identified.items()
    }
    write_chosen(work / "chosen", chosen)
    for name in params.sources:
        ingest(params, name, work / "ingested" / name, chosen=work / "chosen" / f"{name}.parquet", processes=1)
    rows = analyze(params, [work / "ingested" / name / "manifest.parquet" for name in sorted(params.sources)])
    write_manifest(work / "manifest.parquet", split(params, merge(params, cleanse(params, rows))))
    return work


def gate(params: Any, work: Path, baseline: Path | None = None) -> ValidationReport:
    return validate(
        params, work / "manifest.parquet", work / "ingested", work / "report", baseline=baseline, data_docs=False
    )


@pytest.fixture(scope="module")
def params(make_params: Any, raw: Path) -> Any:
    return make_params(raw, SOURCES, **SECTIONS)


@pytest.fixture(scope="module")
def sound(params: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A dataset that passes."""
    work = build(params, tmp_path_factory.mktemp("sound"))
    gate(params, work).raise_if_failed()
    return work


# --- raw files -----------------------------------------------------------------------------------------------------


def truncate(file: Path) -> None:
    file.write_bytes(file.read_bytes()[:-200])


def png_bomb(file: Path) -> None:
    """A valid header that promises 3.6 thousand million pixels, and next to no data."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", 60_000, 60_000, 8, 0, 0, 0, 0)
    data = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(bytes(60_001))) + chunk(b"IEND", b"")
    file.write_bytes(b"\x89PNG\r\n\x1a\n" + data)


def another_size(file: Path) -> None:
    Image.open(file).resize((SIZE, SIZE // 2), Image.Resampling.NEAREST).save(file)


def wide_labels(file: Path) -> None:
    Image.fromarray(np.asarray(Image.open(file)).astype(np.uint16) * 300).save(file)


def coloured(file: Path) -> None:
    pixels = np.asarray(Image.open(file))
    Image.fromarray(np.stack([pixels, pixels * 0, pixels * 0], axis=2)).save(file)


def undefined_label(file: Path) -> None:
    labels = Image.open(file)
    pixels = np.asarray(labels).copy()
    pixels[:4, :4] = 77
    changed = Image.fromarray(pixels)
    changed.putpalette(labels.getpalette() or [])
    changed.save(file)


def link_outside(file: Path) -> None:
    outside = file.parents[3] / "elsewhere.jpg"
    file.rename(outside)
    file.symlink_to(outside)


def odd_polygon(file: Path) -> None:
    content = json.loads(file.read_text())
    person = next(one for one in content["annotations"] if one["category_id"] == 1 and not one["iscrowd"])
    person["segmentation"] = [[1.0, 2.0, 3.0]]
    file.write_text(json.dumps(content))


def repeated_id(file: Path) -> None:
    content = json.loads(file.read_text())
    content["images"].append(content["images"][0])
    file.write_text(json.dumps(content))


@dataclass(frozen=True)
class RawFault:
    """A kind of bad input: what is done to which file, and what must be said beside the file's name."""

    name: str
    file: str
    plant: Callable[[Path], object]
    fault: str


RAW_FAULTS = [
    RawFault("truncated JPEG", "pairs/train/images/pair_0000.jpg", truncate, "cannot be decoded"),
    RawFault("empty image", "pairs/train/images/pair_0001.jpg", lambda file: file.write_bytes(b""), "empty"),
    RawFault("text named jpg", "pairs/train/images/pair_0002.jpg", lambda file: file.write_text("hello"), "no JPEG"),
    RawFault("link out of the tree", "pairs/train/images/pair_0004.jpg", link_outside, "outside"),
    RawFault("missing mask", "pairs/train/masks/pair_0005.png", Path.unlink, "missing"),
    RawFault("truncated PNG mask", "pairs/train/masks/pair_0006.png", truncate, "cannot be decoded"),
    RawFault("PNG bomb", "pairs/train/masks/pair_0008.png", png_bomb, "decompression bomb|60000x60000"),
    RawFault("mask of another size", "pairs/train/masks/pair_0009.png", another_size, "96x48 pixels, its image"),
    RawFault("16-bit labels above 255", "pairs/train/masks/pair_0010.png", wide_labels, "holds label 300"),
    RawFault("mask in colours", "pairs/train/masks/pair_0012.png", coloured, "in colours"),
    RawFault("undefined label", "voc/SegmentationClass/2007_000001.png", undefined_label, "holds label 77"),
    RawFault("listed image missing", "voc/JPEGImages/2007_000002.jpg", Path.unlink, "missing"),
    RawFault("misdrawn polygon", "coco/annotations/instances_train2017.json", odd_polygon, "annotation"),
]


@pytest.fixture(scope="module")
def refused(make_params: Any, raw: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, ValidationReport]:
    """Raw data with all these faults, each in a picture of its own, and what the gate says of it."""
    work = tmp_path_factory.mktemp("planted")
    shutil.copytree(raw, work / "raw")
    for planted in RAW_FAULTS:
        planted.plant(work / "raw" / planted.file)
    params = make_params(work / "raw", SOURCES, **SECTIONS)
    return work / "raw", gate(params, build(params, work))


@pytest.mark.parametrize("planted", RAW_FAULTS, ids=lambda planted: planted.name)
def test_a_fault_in_a_raw_file_is_caught_and_named(planted: RawFault, refused: tuple[Path, ValidationReport]) -> None:
    folder, report = refused
    unreadable = next(outcome for outcome in report.expectations if outcome.name == "unreadable")
    (named,) = [text for text in unreadable.named if str(folder / planted.file) in text]
    assert re.search(planted.fault, named)


def test_raw_faults_close_the_gate_and_nothing_else_is_taken_for_one(refused: tuple[Path, ValidationReport]) -> None:
    _, report = refused
    unreadable = next(outcome for outcome in report.expectations if outcome.name == "unreadable")
    assert unreadable.value == len(unreadable.named) == len(RAW_FAULTS)
    with pytest.raises(GateFailedError, match=r"check unreadable .*\.json"):
        report.raise_if_failed()


def test_a_list_that_contradicts_itself_stops_before_the_gate(make_params: Any, raw: Path, tmp_path: Path) -> None:
    shutil.copytree(raw / "coco", tmp_path / "coco")
    repeated_id(tmp_path / "coco/annotations/instances_train2017.json")
    with pytest.raises(DataError, match=r"instances_train2017\.json"):
        build(make_params(tmp_path, {"coco": SOURCES["coco"]}, **SECTIONS), tmp_path / "work")


# --- a finished dataset --------------------------------------------------------------------------------------------


class Dataset:
    """A copy of the sound dataset, to plant faults into."""

    def __init__(self, work: Path) -> None:
        self.work = work
        self.manifest = work / "manifest.parquet"
        self.rows = read_manifest(self.manifest)
        kept = self.rows[(self.rows["status"] == "kept") & self.rows["is_human"]]
        self.train, self.other = (str(name) for name in kept.loc[kept["split"] == "train", "sample_id"].head(2))
        self.test = str(kept.loc[kept["split"] == "test", "sample_id"].iloc[0])
        self.baseline: Path | None = None

    def get(self, sample_id: str, column: str) -> Any:
        return self.rows.loc[self.rows["sample_id"] == sample_id, column].iloc[0]

    def file(self, sample_id: str, column: str = "mask_path") -> Path:
        return self.work / "ingested" / str(self.get(sample_id, column))

    def set(self, sample_id: str, **values: Any) -> str:
        """Edit a row; returns the file to be named."""
        named = str(self.file(sample_id, "image_path"))
        for column, value in values.items():
            self.rows.loc[self.rows["sample_id"] == sample_id, column] = value
        write_manifest(self.manifest, self.rows)
        return named

    def draw(self, change: Callable[[np.ndarray[Any, Any]], np.ndarray[Any, Any]]) -> str:
        file = self.file(self.train)
        Image.fromarray(change(np.asarray(Image.open(file)).copy())).save(file)
        return str(file)


def stranger(data: Dataset) -> str:
    return data.draw(lambda mask: np.where(mask == 1, 7, mask).astype(np.uint8))


def resized(data: Dataset) -> str:
    return data.draw(lambda mask: mask[::2, ::2])


def moved_people(data: Dataset) -> str:
    return data.draw(lambda mask: np.where(mask == 1, 0, mask).astype(np.uint8))


def flipped_byte(data: Dataset) -> str:
    file = data.file(data.train, "image_path")
    content = bytearray(file.read_bytes())
    content[8] ^= 1  # of the JFIF header: the picture is the same
    file.write_bytes(content)
    return str(file)


def deleted(data: Dataset) -> str:
    data.file(data.train, "image_path").unlink()
    return str(data.file(data.train, "image_path"))


def emptied(data: Dataset) -> str:
    data.file(data.train).write_bytes(b"")
    return str(data.file(data.train))


def edited_ratio(data: Dataset) -> str:
    data.set(data.train, human_ratio=0.123)
    return str(data.file(data.train))


def escaped(data: Dataset) -> str:
    data.set(data.train, image_path="../../secret.jpg")
    return "../../secret.jpg"


def column_lost(data: Dataset) -> str:
    data.rows.drop(columns="sha256").to_parquet(data.manifest)
    return str(data.manifest)


def listed_twice(data: Dataset) -> str:
    again = data.rows[data.rows["sample_id"] == data.train]
    write_manifest(data.manifest, pd.concat([data.rows, again], ignore_index=True))
    return str(data.file(data.train, "image_path"))


def same_bytes(data: Dataset) -> str:
    data.set(data.train, sha256=data.get(data.test, "sha256"))
    for column in ("image_path", "mask_path"):
        shutil.copy(data.file(data.test, column), data.file(data.train, column))
    measured = ("human_ratio", "components", "people", "min_component_height", "max_component_height")
    return data.set(data.train, **{column: data.get(data.test, column) for column in measured})


def near_look(data: Dataset) -> str:
    """Two bits of the perceptual hash differ."""
    return data.set(data.train, phash=f"{int(data.get(data.test, 'phash'), 16) ^ 0b101:016x}")


def lost_source(data: Dataset) -> str:
    mine = data.rows["source"] == "voc"
    data.rows.loc[mine, ["status", "reason", "split"]] = ["removed", "blank", ""]
    write_manifest(data.manifest, data.rows)
    return "source voc"


def drifted(data: Dataset) -> str:
    """The version before had small people only."""
    report = json.loads((data.work / "report/distribution.json").read_text())
    for measure in ("human_ratio", "tallest_ratio"):
        counts = report["distribution"][measure]["counts"]
        report["distribution"][measure]["counts"] = [10_000, *[0] * (len(counts) - 1)]
    data.baseline = data.work / "before.json"
    data.baseline.write_text(json.dumps(report | {"dataset_version": "ds-before"}))
    return "/images/"


@dataclass(frozen=True)
class Fault:
    """A fault in a finished dataset: which check must fail, and what is done; that returns what must be named."""

    check: str
    plant: Callable[[Dataset], str]
    error: type[PrivsegError] = GateFailedError


FAULTS = [
    Fault("mask_values", stranger),
    Fault("pixel_size", resized),
    Fault("human_ratio_recomputed", moved_people),
    Fault("human_ratio_recomputed", edited_ratio),
    Fault("files_intact", flipped_byte),
    Fault("files_present", deleted),
    Fault("files_present", emptied),
    Fault("no column sha256", column_lost, DataError),
    Fault("sample_id_unique", listed_twice),
    Fault("paths_inside", escaped),
    Fault("reason", lambda data: data.set(data.train, status="removed", reason="dislike", split="")),
    Fault("duplicate_of", lambda data: data.set(data.train, duplicate_of=data.other)),
    Fault("people_consistent", lambda data: data.set(data.train, is_human=False)),
    Fault("pool_fits_split", lambda data: data.set(data.test, split="train")),
    Fault("same_bytes_one_split", same_bytes),
    Fault("near_look_one_split", near_look),
    Fault("source_images", lost_source),
    Fault("drift_human_ratio", drifted),
]


@pytest.mark.parametrize("planted", FAULTS, ids=lambda planted: planted.check)
def test_a_fault_in_a_finished_dataset_is_caught_and_named(
    planted: Fault, params: Any, sound: Path, tmp_path: Path
) -> None:
    data = Dataset(shutil.copytree(sound, tmp_path / "copy"))
    named = planted.plant(data)
    with pytest.raises(planted.error, match=rf"{re.escape(planted.check)}\b") as caught:
        gate(params, data.work, data.baseline).raise_if_failed()
    assert named in str(caught.value)
