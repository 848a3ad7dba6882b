"""The gate, run by Great Expectations: open for good data, closed with the right file named."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from privseg.datasets.cleanse import cleanse
from privseg.datasets.ingest import ingest
from privseg.datasets.manifest import manifest_fingerprint, read_manifest, write_manifest
from privseg.datasets.split import split
from privseg.datasets.validate import ValidationReport, validate
from privseg.errors import DataError, GateFailedError

GATE = {"min_images": 10, "min_train_images": 5, "min_test_images": 3}


@pytest.fixture(scope="module")
def raw(make_pairs: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("raw")
    make_pairs(folder / "train", [f"n{index:02d}" for index in range(12)], seed=1)
    make_pairs(folder / "test", [f"z{index:02d}" for index in range(4)], seed=2)
    return folder


@pytest.fixture(scope="module")
def params(make_params: Any, pairs_source: Any, raw: Path) -> Any:
    split_share = {"validation_share": 0.3}
    return make_params(raw, {"some": pairs_source}, image={"size": 96}, gate=GATE, split=split_share)


@pytest.fixture(scope="module")
def good_root(params: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An ingested, cleansed and split dataset."""
    return build(params, tmp_path_factory.mktemp("good"))


def build(params: Any, root: Path) -> Path:
    ingest(params, "some", root / "some")
    write_manifest(root / "manifest.parquet", split(params, cleanse(params, [root / "some/manifest.parquet"])))
    return root


@pytest.fixture
def root(good_root: Path, tmp_path: Path) -> Path:
    """A copy to break."""
    shutil.copytree(good_root, tmp_path / "copy")
    return tmp_path / "copy"


def check(params: Any, root: Path) -> ValidationReport:
    return validate(params, root / "manifest.parquet", root, root / "report")


def failures(report: ValidationReport) -> set[str]:
    return {outcome.name for outcome in report.expectations if not outcome.success}


def change(root: Path, sample_id: str, **fields: Any) -> None:
    df = read_manifest(root / "manifest.parquet")
    for column, value in fields.items():
        df.loc[df["sample_id"] == sample_id, column] = value
    write_manifest(root / "manifest.parquet", df)


def test_good_data_passes_and_is_reported(params: Any, root: Path) -> None:
    report = check(params, root)
    report.raise_if_failed()
    assert report.success
    assert failures(report) == set()
    assert len(report.expectations) >= 12
    assert {outcome.severity for outcome in report.expectations} == {"critical", "warning"}
    version = f"ds-{manifest_fingerprint(read_manifest(root / 'manifest.parquet'))[:12]}"
    assert report.dataset_version == version
    data = json.loads((root / "report/validation.json").read_text())
    assert data["success"] is True
    assert data["dataset_version"] == version
    page = report.page.read_text()
    assert version in page
    assert page.count("passed") > len(report.expectations)
    assert not re.search(r"""(src|href)=|https?:|@import|url\(""", page)  # needs nothing from elsewhere
    first = (root / "report/validation.json").read_bytes()
    check(params, root)
    assert (root / "report/validation.json").read_bytes() == first


def test_a_damaged_mask_is_named(params: Any, root: Path) -> None:
    mask = root / "some/masks/n03.png"
    mask.write_bytes(mask.read_bytes()[:60])
    report = check(params, root)
    assert failures(report) == {"decodes", "files_intact"}
    with pytest.raises(GateFailedError, match=r"some/n03 \(.*some/masks/n03\.png: the mask cannot be decoded"):
        report.raise_if_failed()
    assert "masks/n03.png" in report.page.read_text()


@pytest.mark.parametrize(
    ("value", "expected"), [(9, {"mask_values", "files_intact"}), (0, {"human_ratio_recomputed", "files_intact"})]
)
def test_a_changed_mask_is_named(value: int, expected: set[str], params: Any, root: Path) -> None:
    mask = np.asarray(Image.open(root / "some/masks/n03.png")).copy()
    mask[mask == 1] = value
    Image.fromarray(mask).save(root / "some/masks/n03.png")
    report = check(params, root)
    assert failures(report) == expected
    with pytest.raises(GateFailedError, match=r"some/masks/n03\.png"):
        report.raise_if_failed()


def test_a_lost_file_and_one_of_another_size_are_named(params: Any, root: Path) -> None:
    (root / "some/images/n03.jpg").unlink()
    Image.new("L", (64, 64)).save(root / "some/masks/z01.png")
    report = check(params, root)
    by_name = {outcome.name: outcome for outcome in report.expectations}
    assert by_name["decodes"].examples == ["some/n03"]
    assert "images/n03.jpg: the image is missing" in by_name["decodes"].faults[0]
    assert by_name["pixel_size"].examples == ["some/z01"]
    assert by_name["files_intact"].unexpected_count == 2


def test_an_unreadable_raw_image_closes_the_gate_and_is_named(params: Any, raw: Path, tmp_path: Path) -> None:
    shutil.copytree(raw, tmp_path / "raw")
    (tmp_path / "raw/train/images/n05.jpg").write_bytes(b"\xff\xd8 nothing")
    report = check(params, build(params.model_copy(update={"raw_root": str(tmp_path / "raw")}), tmp_path / "out"))
    assert failures(report) == {"unreadable"}
    with pytest.raises(GateFailedError, match=r"some/n05 \(.*raw/train/images/n05\.jpg: the image cannot be decoded"):
        report.raise_if_failed()


def test_a_leaked_duplicate_is_named(params: Any, root: Path) -> None:
    df = read_manifest(root / "manifest.parquet").set_index("sample_id")
    test_row = df.loc["some/z00"]
    leaked = {column: test_row[column] for column in ("image_path", "mask_path", "sha256", "phash", "human_ratio")}
    change(root, "some/n03", **leaked, split="train")
    report = check(params, root)
    assert failures(report) == {"same_bytes_one_split", "same_look_one_split"}
    leak = next(outcome for outcome in report.expectations if outcome.name == "same_bytes_one_split")
    assert leak.examples == ["some/n03", "some/z00"]
    with pytest.raises(GateFailedError, match="some/n03; some/z00"):
        report.raise_if_failed()


def test_odd_rows_are_found_one_by_one(params: Any, root: Path) -> None:
    change(root, "some/n00", split="")
    change(root, "some/n01", ignore_ratio=0.9)
    change(root, "some/n02", height=95)
    change(root, "some/n03", status="maybe")
    change(root, "some/n04", status="removed", reason="", human_ratio=1.5)
    change(root, "some/z00", split="train")
    found = {outcome.name: outcome.examples for outcome in check(params, root).expectations if not outcome.success}
    assert found == {
        "split": ["some/n00"],
        "ignore_ratio": ["some/n01"],
        "height": ["some/n02"],
        "status": ["some/n03"],
        "reason": ["some/n04"],
        "human_ratio": ["some/n04"],
        "pool_fits_split": ["some/z00"],
    }


def test_thresholds_of_the_gate(make_params: Any, params: Any, root: Path) -> None:
    strict = {
        "min_images": 17,
        "min_train_images": 17,
        "min_test_images": 5,
        "min_human_share": 1.0,
        "max_mean_human_ratio": 0.001,
        "max_removed_share": 0.0,
    }
    df = read_manifest(root / "manifest.parquet")
    df.loc[df["split"] == "validation", ["status", "reason", "split"]] = ["removed", "blank", ""]
    write_manifest(root / "manifest.parquet", df)
    strict_params = make_params(Path(params.raw_root), {"some": {"kind": "synthetic"}}, image={"size": 96}, gate=strict)
    report = check(strict_params, root)
    counts = {"images", "train_images", "test_images", "mean_human_ratio", "removed_share", "validation_images"}
    assert failures(report) == counts
    removed = next(outcome for outcome in report.expectations if outcome.name == "removed_share")
    assert removed.examples == list(df.loc[df["status"] == "removed", "sample_id"])[:5]


def test_only_warnings_leave_the_gate_open(params: Any, root: Path) -> None:
    df = read_manifest(root / "manifest.parquet")
    df.loc[df["split"] == "validation", "split"] = "train"
    write_manifest(root / "manifest.parquet", df)
    report = check(params, root)
    assert failures(report) == {"validation_images"}
    assert report.success
    report.raise_if_failed()


def test_a_dataset_with_nothing_kept_is_refused_in_one_line(params: Any, root: Path) -> None:
    df = read_manifest(root / "manifest.parquet")
    df[["status", "reason", "split"]] = ["removed", "blank", ""]
    write_manifest(root / "manifest.parquet", df)
    report = check(params, root)
    assert {"images", "train_images", "test_images", "removed_share", "sources_emptied"} <= failures(report)
    with pytest.raises(GateFailedError, match="images"):
        report.raise_if_failed()


def test_a_column_out_of_place_and_a_sample_listed_twice(params: Any, root: Path) -> None:
    df = read_manifest(root / "manifest.parquet")
    mixed = pd.concat([df, df.iloc[:1]], ignore_index=True)[df.columns[::-1]]
    mixed.to_parquet(root / "manifest.parquet")
    report = check(params, root)
    assert {"columns", "sample_id_unique"} <= failures(report)


def test_a_manifest_without_a_column_is_bad_data(params: Any, root: Path) -> None:
    df = read_manifest(root / "manifest.parquet")
    df.drop(columns="phash").to_parquet(root / "manifest.parquet")
    with pytest.raises(DataError, match="no column phash"):
        check(params, root)
