"""The gate, run by Great Expectations: open for good data, closed with the right file named."""

from __future__ import annotations

import hashlib
import io
import json
import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from privseg.datasets.cleanse import COPIES, RULES
from privseg.datasets.features import features
from privseg.datasets.fit import fit
from privseg.datasets.gate.checks import REASONS
from privseg.datasets.manifest import empty_row, manifest_fingerprint, manifest_frame, read_manifest, write_manifest
from privseg.datasets.validate import Outcome, ValidationReport, validate
from privseg.errors import DataError, GateFailedError, StorageError

SIZE = 96
GATE = {"min_images": 10, "min_train_images": 5, "min_test_images": 3}


@pytest.fixture(scope="module")
def params(make_params: Any, tmp_path_factory: pytest.TempPathFactory) -> Any:
    raw = tmp_path_factory.mktemp("raw")
    sections = {"image": {"size": SIZE}, "gate": GATE, "split": {"validation_share": 0.25}}
    return make_params(raw, {"some": {"kind": "synthetic"}}, cleanse={"near_duplicate_bits": 4}, **sections)


def with_gate(params: Any, **values: Any) -> Any:
    return params.model_copy(update={"gate": params.gate.model_copy(update=values)})


@pytest.fixture(scope="module")
def good_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twelve pictures to learn from, of which three validate, and four to test on; one more was removed."""
    root = tmp_path_factory.mktemp("good")
    rng = np.random.default_rng(0)
    rows = [
        draw(root, f"n{index:02d}", rng, split="validation" if index % 4 == 0 else "train", pool="train")
        for index in range(12)
    ]
    rows += [draw(root, f"z{index:02d}", rng, split="test", pool="test") for index in range(4)]
    rows.append(draw(root, "y00", rng, split="", pool="train", status="removed", reason="blank"))
    write_manifest(root / "manifest.parquet", manifest_frame(rows))
    return root


def draw(root: Path, name: str, rng: np.random.Generator, **values: Any) -> dict[str, Any]:
    """Random blocks with one person and a strip nobody labelled; writes both files, returns the row."""
    image = rng.integers(0, 256, (16, 16, 3), np.uint8).repeat(6, axis=0).repeat(6, axis=1)
    mask = np.zeros((SIZE, SIZE), np.uint8)
    top, left = (int(value) for value in rng.integers(0, SIZE // 2, 2))
    mask[top : top + 32, left : left + 20] = 1
    mask[-3:] = 255
    fitted = fit(image, mask, size=SIZE)
    pair = []
    for kind, suffix, pixels in (("images", "jpg", fitted.image), ("masks", "png", fitted.mask)):
        buffer = io.BytesIO()
        Image.fromarray(pixels).save(buffer, "JPEG" if suffix == "jpg" else "PNG")
        path = root / "some" / kind / f"{name}.{suffix}"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(buffer.getvalue())
        pair.append(buffer.getvalue())
    return empty_row(
        sample_id=f"some/{name}",
        source="some",
        image_path=f"some/images/{name}.jpg",
        mask_path=f"some/masks/{name}.png",
        sha256=hashlib.sha256(b"".join(pair)).hexdigest(),
        surveillance_score=0.5,
        **features(fitted),
        **values,
    )


@pytest.fixture
def root(good_root: Path, tmp_path: Path) -> Path:
    """A copy to break."""
    shutil.copytree(good_root, tmp_path / "copy")
    return tmp_path / "copy"


def check(params: Any, root: Path, **options: Any) -> ValidationReport:
    return validate(params, root / "manifest.parquet", root, root / "report", **{"data_docs": False, **options})


def failed(report: ValidationReport) -> dict[str, Outcome]:
    return {outcome.name: outcome for outcome in report.expectations if not outcome.success}


def change(root: Path, sample_id: str, **fields: Any) -> None:
    df = read_manifest(root / "manifest.parquet")
    for column, value in fields.items():
        df.loc[df["sample_id"] == sample_id, column] = value
    write_manifest(root / "manifest.parquet", df)


def test_good_data_passes_and_is_reported(params: Any, root: Path) -> None:
    report = check(params, root)
    report.raise_if_failed()
    assert report.success
    assert failed(report) == {}
    assert len(report.expectations) >= 25
    assert len({outcome.name for outcome in report.expectations}) == len(report.expectations)
    assert {outcome.severity for outcome in report.expectations} == {"critical", "warning"}
    assert {outcome.group for outcome in report.expectations} == {
        "manifest",
        "files and pixels",
        "people",
        "splits",
        "drift",
    }
    version = f"ds-{manifest_fingerprint(read_manifest(root / 'manifest.parquet'))[:12]}"
    assert report.dataset_version == version
    data = json.loads((root / "report/validation.json").read_text())
    assert data["success"] is True
    assert data["dataset_version"] == version
    first = (root / "report/validation.json").read_bytes()
    check(params, root)
    assert (root / "report/validation.json").read_bytes() == first


def test_the_page_says_everything_and_loads_nothing(params: Any, root: Path) -> None:
    (root / "some/images/n03.jpg").unlink()
    report = check(params, root, data_docs=True)
    page = report.page.read_text()
    assert report.dataset_version in page
    assert page.count(">passed<") == len(report.expectations) - 1
    assert all(outcome.name in page for outcome in report.expectations)
    assert re.findall(r"""(?:src|href)=["']?([^"' >]+)""", page) == ["data_docs/index.html"]
    assert not re.search(r"https?:|@import|url\(|<script", page)
    assert "The gate is closed" in page
    assert page.index("some/images/n03.jpg: the image is missing") < page.index(">passed<")


def test_the_librarys_own_pages_hold_this_run_alone(params: Any, root: Path) -> None:
    stale = root / "report/data_docs/validations/stale.html"
    stale.parent.mkdir(parents=True)
    stale.write_text("of an earlier run")
    report = check(params, root, data_docs=True)
    docs = root / "report/data_docs"
    assert (docs / "index.html").is_file()
    results = [page.read_text() for page in (docs / "validations").rglob("*.html")]
    assert len(results) == len(list((docs / "expectations").rglob("*.html"))) > 1
    meanings = [outcome.meaning for outcome in report.expectations if "'" not in outcome.meaning]
    assert [text for text in meanings if not any(text in page for page in results)] == []
    assert not stale.exists()


def test_a_place_that_cannot_be_written_is_named(params: Any, root: Path) -> None:
    (root / "report").write_text("in the way")
    with pytest.raises(StorageError, match="report"):
        check(params, root)


def test_a_damaged_mask_is_named(params: Any, root: Path) -> None:
    mask = root / "some/masks/n03.png"
    mask.write_bytes(mask.read_bytes()[:60])
    report = check(params, root)
    assert set(failed(report)) == {"decodes", "files_intact"}
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
    assert set(failed(report)) == expected
    with pytest.raises(GateFailedError, match=r"some/masks/n03\.png"):
        report.raise_if_failed()


def test_people_are_counted_again(params: Any, root: Path) -> None:
    columns = {"some/n01": "components", "some/n02": "min_component_height", "some/n03": "max_component_height"}
    for sample_id, column in columns.items():
        change(root, sample_id, **{column: 7})
    found = failed(check(params, root))
    assert set(found) == {"people_recomputed"}
    assert found["people_recomputed"].examples == list(columns)
    for column, named in zip(columns.values(), found["people_recomputed"].named, strict=True):
        assert f"{column} is" in named
        assert "the manifest says 7" in named


def test_lost_and_emptied_files_and_one_of_another_size_are_named(params: Any, root: Path) -> None:
    (root / "some/images/n03.jpg").unlink()
    (root / "some/masks/n05.png").write_bytes(b"")
    change(root, "some/n07", image_path="gone/n07.jpg")  # its whole folder is missing
    Image.new("L", (64, 64)).save(root / "some/masks/z01.png")
    found = failed(check(params, root))
    assert set(found) == {"files_present", "pixel_size", "files_intact"}
    assert found["files_present"].named == [
        f"some/n03 ({root}/some/images/n03.jpg: the image is missing)",
        f"some/n05 ({root}/some/masks/n05.png: the mask is empty)",
        f"some/n07 ({root}/gone/n07.jpg: the image is missing)",
    ]
    assert found["pixel_size"].examples == ["some/z01"]
    assert found["files_intact"].examples == ["some/z01"]


def test_paths_that_leave_the_dataset_are_not_followed(params: Any, root: Path) -> None:
    outside = root.parent / "outside.jpg"
    shutil.copy(root / "some/images/n03.jpg", outside)
    change(root, "some/n03", image_path="../outside.jpg")
    change(root, "some/n05", image_path=str(outside))
    change(root, "some/n07", mask_path="some/masks/../masks/n07.png")
    report = check(params, root)
    assert set(failed(report)) == {"paths_inside", "files_present"}
    assert failed(report)["paths_inside"].examples == ["some/n03", "some/n05", "some/n07"]
    with pytest.raises(GateFailedError, match=r"\.\./outside\.jpg.*leaves the dataset"):
        report.raise_if_failed()


def test_a_sample_of_files_is_looked_at_and_the_two_samples_differ(params: Any, root: Path) -> None:
    sampled = with_gate(params, decoded_pairs=4, hashed_files=12)
    report = check(sampled, root)
    assert report.success
    looked = {outcome.name: outcome.observed for outcome in report.expectations}
    assert looked["files_present"] == "0 of 16 fail"
    assert looked["decodes"] == "0 of 4 fail"
    assert looked["files_intact"] == "0 of 12 fail"
    # Together the samples cover every pair, so a broken file is found wherever it is.
    names = ("n01", "n06", "n11")
    for name in names:
        (root / f"some/masks/{name}.png").write_bytes(b"nothing")
    found = failed(check(sampled, root))
    assert {f"some/{name}" for name in names} == {
        example for check_name in ("decodes", "files_intact") for example in found[check_name].examples
    }


def test_links_into_a_cache_are_followed(params: Any, root: Path) -> None:
    mask = root / "some/masks/n03.png"
    mask.rename(root / "cached")
    mask.symlink_to(root / "cached")
    assert check(params, root).success


def test_an_unreadable_raw_image_closes_the_gate_and_is_named(params: Any, root: Path) -> None:
    fault = "raw/n05.jpg: the image cannot be decoded (truncated)"
    change(root, "some/y00", reason="unreadable", detail=fault, image_path="", mask_path="", sha256="", phash="")
    report = check(params, root)
    assert set(failed(report)) == {"unreadable"}
    with pytest.raises(GateFailedError, match=re.escape(f"some/y00 ({fault})")):
        report.raise_if_failed()
    assert check(with_gate(params, max_unreadable=1), root).success


def test_a_leaked_duplicate_is_named(params: Any, root: Path) -> None:
    df = read_manifest(root / "manifest.parquet").set_index("sample_id")
    test_row = df.loc["some/z00"]
    names = (
        "image_path",
        "mask_path",
        "sha256",
        "phash",
        "human_ratio",
        "min_component_height",
        "max_component_height",
    )
    change(root, "some/n03", **{column: test_row[column] for column in names}, split="train")
    found = failed(check(params, root))
    assert set(found) == {
        "same_bytes_one_split",
        "same_look_one_split",
        "near_look_one_split",
        "near_duplicates_removed",
    }
    assert found["same_bytes_one_split"].examples == ["some/n03", "some/z00"]


def test_a_near_duplicate_in_another_split_is_named(params: Any, root: Path) -> None:
    df = read_manifest(root / "manifest.parquet").set_index("sample_id")
    for other, mine, bits in (("some/z00", "some/n03", 0b1111), ("some/z01", "some/n05", 0b11111)):
        change(root, other, phash=f"{int(df.loc[mine, 'phash'], 16) ^ bits:016x}")
    found = failed(check(params, root))
    assert set(found) == {"near_look_one_split", "near_duplicates_removed"}  # four bits are near, five are not
    assert found["near_look_one_split"].named == [f"some/n03 ({root}/some/images/n03.jpg: looks like some/z00)"]


def test_odd_rows_are_found_one_by_one(params: Any, root: Path) -> None:
    change(root, "some/n00", split="", phash="no hash")
    change(root, "some/n01", ignore_ratio=0.9, reason="blank")
    change(root, "some/n02", height=95, people=2)
    change(root, "some/n04", status="maybe")
    change(root, "some/y00", reason="because", human_ratio=1.5, surveillance_score=-0.1)
    change(root, "some/n05", source="other")
    change(root, "some/n06", duplicate_of="some/n07")
    change(root, "some/n07", is_human=False)
    change(root, "some/z00", split="train")
    found = failed(check(with_gate(params, min_source_images=0), root))
    assert {name: outcome.examples for name, outcome in found.items()} == {
        "split": ["some/n00"],
        "phash_form": ["some/n00"],
        "ignore_ratio": ["some/n01"],
        "no_reason_to_keep": ["some/n01"],
        "height": ["some/n02"],
        "people_are_components": ["some/n02"],
        "status": ["some/n04"],
        "reason": ["some/y00"],
        "human_ratio": ["some/y00"],
        "surveillance_score": ["some/y00"],
        "source_fits": ["some/n05"],
        "duplicate_of": ["some/n06"],
        "people_consistent": ["some/n07"],
        "pool_fits_split": ["some/z00"],
    }
    assert found["height"].named == [f"some/n02 ({root}/some/images/n02.jpg)"]


def test_a_duplicate_names_the_sample_that_stands_for_it(params: Any, root: Path) -> None:
    change(root, "some/n01", status="removed", reason="surplus_no_human", split="")  # after it was chosen to stay
    named = {"a": "some/n03", "b": "some/n01", "c": "some/y00", "d": "some/gone", "e": "", "f": "some/f"}
    df = read_manifest(root / "manifest.parquet")
    removed = df[df["sample_id"] == "some/y00"].assign(reason="near_duplicate")
    copies = [removed.assign(sample_id=f"some/{name}", duplicate_of=other) for name, other in named.items()]
    write_manifest(root / "manifest.parquet", pd.concat([df, *copies], ignore_index=True))
    found = failed(check(params, root))
    assert set(found) == {"duplicate_of"}
    assert found["duplicate_of"].examples == ["some/c", "some/d", "some/e", "some/f"]


def test_all_reasons_of_the_cleansing_rules_are_known() -> None:
    assert {rule.__name__ for rule in (*RULES, *COPIES)} <= set(REASONS)


def test_thresholds_of_the_gate(params: Any, root: Path) -> None:
    strict = {
        "min_images": 17,
        "min_train_images": 17,
        "min_test_images": 5,
        "min_human_share": 1.0,
        "max_mean_human_ratio": 0.001,
        "min_mean_human_ratio": 0.0,
        "max_removed_share": 0.0,
        "min_source_images": 14,
        "max_suspect_share": 0.0,
    }
    change(root, "some/n03", suspect="box")
    change(root, "some/n05", is_human=False, human_ratio=0.0, components=0, people=0)
    df = read_manifest(root / "manifest.parquet")
    df.loc[df["split"] == "validation", ["status", "reason", "split"]] = ["removed", "blank", ""]
    write_manifest(root / "manifest.parquet", df)
    report = check(with_gate(params, **strict), root)
    found = failed(report)
    counts = {
        "images",
        "train_images",
        "test_images",
        "human_share",
        "mean_human_ratio",
        "removed_share",
        "validation_images",
        "source_images",
        "suspect_share",
    }
    assert set(found) == counts | {"human_ratio_recomputed"}
    assert found["removed_share"].examples == list(df.loc[df["status"] == "removed", "sample_id"])[:5]
    assert found["suspect_share"].examples == ["some/n03"]
    assert found["suspect_share"].severity == found["validation_images"].severity == "warning"


def test_no_more_pictures_without_people_than_merged(params: Any, root: Path) -> None:
    nobody = {"is_human": False, "human_ratio": 0.0, "components": 0, "people": 0, "tallest_ratio": 0.0}
    change(root, "some/n01", **nobody)
    change(root, "some/z03", **nobody)  # of three with people a tenth is one, rounded up
    assert "surplus_no_human" not in failed(check(params, root))
    change(root, "some/n02", **nobody)
    change(root, "some/n03", **nobody)  # of nine with people too
    found = failed(check(params, root))["surplus_no_human"]
    assert found.observed == "2"
    assert found.examples == ["some/n02", "some/n03"]


def test_only_warnings_leave_the_gate_open(params: Any, root: Path) -> None:
    df = read_manifest(root / "manifest.parquet")
    df.loc[df["split"] == "validation", "split"] = "train"
    write_manifest(root / "manifest.parquet", df)
    report = check(params, root)
    assert set(failed(report)) == {"validation_images"}
    assert report.success
    report.raise_if_failed()


def test_the_validation_share_is_near_what_was_meant(params: Any, root: Path) -> None:
    """Three of twelve are a quarter; twelve are far off, which in so small a set is only a warning."""
    df = read_manifest(root / "manifest.parquet")
    df.loc[df["split"] == "train", "split"] = "validation"
    write_manifest(root / "manifest.parquet", df)
    found = failed(check(with_gate(params, min_train_images=1), root))
    assert {name: outcome.severity for name, outcome in found.items()} == {
        "train_images": "critical",
        "validation_share": "warning",
    }
    assert found["validation_share"].observed == "100.00%"


def test_in_a_large_set_a_wrong_validation_share_closes_the_gate(params: Any, tmp_path: Path) -> None:
    hashes = np.random.default_rng(0).integers(0, 2**64, 600, np.uint64)
    rows = [
        empty_row(
            sample_id=f"some/{index:03d}",
            source="some",
            pool="train",
            phash=f"{int(value):016x}",
            split="validation" if index % 20 == 0 else "train",
        )
        for index, value in enumerate(hashes)
    ]
    write_manifest(tmp_path / "manifest.parquet", manifest_frame(rows))
    found = failed(check(params, tmp_path))["validation_share"]
    assert found.severity == "critical"
    assert found.observed == "5.00%"
    assert found.least is not None
    assert 0.1 < found.least < 0.25


def test_a_dataset_with_nothing_kept_is_refused_in_one_line(params: Any, root: Path) -> None:
    df = read_manifest(root / "manifest.parquet")
    df[["status", "reason", "split"]] = ["removed", "blank", ""]
    write_manifest(root / "manifest.parquet", df)
    report = check(params, root)
    assert {"images", "train_images", "test_images", "removed_share", "source_images"} <= set(failed(report))
    with pytest.raises(GateFailedError, match="images"):
        report.raise_if_failed()


def test_a_source_that_gave_nothing_is_named(params: Any, root: Path) -> None:
    more = params.model_copy(update={"sources": {**params.sources, "other": params.sources["some"]}})
    found = failed(check(more, root))
    assert set(found) == {"source_images"}
    assert found["source_images"].named == ["other (source other: 0 of 0 images are kept)"]


def test_a_source_whose_pictures_are_kept_as_those_of_another_gives_them(params: Any, root: Path) -> None:
    df = read_manifest(root / "manifest.parquet")
    keeper = df.loc[df["status"] == "kept", "sample_id"].iloc[0]
    copy = df[df["sample_id"] == keeper].assign(
        sample_id="other/x", source="other", status="removed", reason="duplicate", split="", duplicate_of=keeper
    )
    write_manifest(root / "manifest.parquet", pd.concat([df, copy], ignore_index=True))
    more = params.model_copy(update={"sources": {**params.sources, "other": params.sources["some"]}})
    assert failed(check(more, root)) == {}


def test_a_column_out_of_place_and_a_sample_listed_twice(params: Any, root: Path) -> None:
    df = read_manifest(root / "manifest.parquet")
    mixed = pd.concat([df, df.iloc[:1]], ignore_index=True)[df.columns[::-1]]
    mixed.to_parquet(root / "manifest.parquet")
    report = check(params, root)
    assert {"columns", "sample_id_unique"} <= set(failed(report))
    with pytest.raises(GateFailedError, match=r"columns.*manifest\.parquet"):
        report.raise_if_failed()


def test_a_manifest_without_a_column_is_bad_data(params: Any, root: Path) -> None:
    df = read_manifest(root / "manifest.parquet")
    df.drop(columns="phash").to_parquet(root / "manifest.parquet")
    with pytest.raises(DataError, match="no column phash"):
        check(params, root)
