"""Ingest: what is written, what is measured, and what survives a fault."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from privseg.datasets.ingest import PEOPLE_COLUMNS, ingest, ingest_shards, read_people
from privseg.datasets.isolate import CHOSEN_COLUMNS, write_chosen
from privseg.datasets.manifest import manifest_fingerprint, read_manifest
from privseg.errors import DataError, StorageError, UsageError

NAMES = [f"n{index:02d}" for index in range(8)]


@pytest.fixture
def raw(make_pairs: Any, tmp_path: Path) -> Path:
    make_pairs(tmp_path / "raw/train", NAMES[:6], seed=1)
    make_pairs(tmp_path / "raw/test", NAMES[6:], seed=2)
    return tmp_path / "raw"


@pytest.fixture
def params(make_params: Any, pairs_source: Any, raw: Path) -> Any:
    return make_params(raw, {"some": pairs_source}, image={"size": 96})


def files_of(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_every_row_tells_the_truth_about_its_files(params: Any, tmp_path: Path) -> None:
    root = tmp_path / "ingested"
    df = ingest(params, "some", root / "some")
    pd.testing.assert_frame_equal(df, read_manifest(root / "some/manifest.parquet"))
    assert list(df["sample_id"]) == [f"some/{name}" for name in NAMES]
    assert list(df["pool"]) == ["train"] * 6 + ["test"] * 2
    assert set(df["status"]) == {"kept"}
    assert set(df["split"]) == {""}
    for row in df.itertuples():
        image_bytes, mask_bytes = (root / row.image_path).read_bytes(), (root / row.mask_path).read_bytes()
        assert row.sha256 == hashlib.sha256(image_bytes + mask_bytes).hexdigest()
        with Image.open(root / row.mask_path) as mask_file, Image.open(root / row.image_path) as image_file:
            assert (mask_file.mode, mask_file.size) == ("L", (96, 96))
            assert (image_file.mode, image_file.size) == ("RGB", (96, 96))
            assert all(len({layer[axis] for layer in image_file.layer}) == 1 for axis in (1, 2))  # 4:4:4
            mask = np.asarray(mask_file)
        human, labelled = (mask == 1).sum(), (mask != 255).sum()
        assert row.is_human
        assert row.human_ratio == pytest.approx(human / labelled)
        # a 200x150 picture covers 96x72 pixels; everything else is padding
        assert (mask[:12] == 255).all()
        assert (mask[-12:] == 255).all()
        assert row.ignore_ratio == pytest.approx((mask[12:-12] == 255).mean())
        assert row.components == 1
        assert row.largest_component_ratio == pytest.approx(human / (96 * 72))
        tall = int((mask == 1).any(axis=1).sum())
        assert row.min_component_height == row.max_component_height == tall
        assert (row.height, row.width, row.original_height, row.original_width) == (96, 96, 150, 200)
        assert len(row.phash) == 16
        assert row.pixel_std > 10


def test_lowest_and_tallest_component_are_told_apart(params: Any, raw: Path, tmp_path: Path) -> None:
    mask = np.zeros((150, 200), np.uint8)
    mask[10:20, 10:20] = 1
    mask[30:130, 100:140] = 1
    Image.fromarray(mask).save(raw / f"train/masks/{NAMES[0]}.png")
    row = ingest(params, "some", tmp_path / "some").iloc[0]
    assert row["components"] == 2
    assert row["min_component_height"] == pytest.approx(10 * 96 / 200, abs=1)
    assert row["max_component_height"] == pytest.approx(100 * 96 / 200, abs=1)


def test_unreadable_samples_become_rows_that_name_file_and_fault(
    params: Any, raw: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    (raw / f"train/images/{NAMES[1]}.jpg").write_bytes(b"nothing")
    (raw / f"test/masks/{NAMES[6]}.png").unlink()
    df = ingest(params, "some", tmp_path / "some").set_index("sample_id")
    bad = df[df["reason"] == "unreadable"]
    assert list(bad.index) == [f"some/{NAMES[1]}", f"some/{NAMES[6]}"]
    assert set(bad["status"]) == {"removed"}
    assert f"{raw}/train/images/{NAMES[1]}.jpg: the image cannot be decoded" in bad["detail"].iloc[0]
    assert f"{raw}/test/masks/{NAMES[6]}.png: the mask is missing" in bad["detail"].iloc[1]
    assert (df.drop(index=bad.index)["status"] == "kept").all()
    assert len(list((tmp_path / "some/images").iterdir())) == 6
    assert "ingest some: 8/8 images, 2 unreadable" in capfd.readouterr().err


def test_worker_processes_give_the_same_bytes(
    make_params: Any, make_pairs: Any, pairs_source: Any, tmp_path: Path
) -> None:
    make_pairs(tmp_path / "raw/train", [f"t{index:03d}" for index in range(36)])
    make_pairs(tmp_path / "raw/test", ["z"])
    (tmp_path / "raw/train/images/t007.jpg").write_bytes(b"nothing")
    params = make_params(tmp_path / "raw", {"some": pairs_source}, image={"size": 64})
    ingest(params, "some", tmp_path / "one/some", processes=1)
    ingest(params, "some", tmp_path / "two/some", processes=2)
    assert files_of(tmp_path / "one") == files_of(tmp_path / "two")


def test_a_second_ingest_replaces_the_first(params: Any, raw: Path, tmp_path: Path) -> None:
    ingest(params, "some", tmp_path / "out/some")
    for folder, suffix in (("images", "jpg"), ("masks", "png")):
        (raw / f"train/{folder}/{NAMES[0]}.{suffix}").unlink()
    ingest(params, "some", tmp_path / "out/some")
    assert not (tmp_path / f"out/some/images/{NAMES[0]}.jpg").exists()
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["some"]


def test_a_failed_ingest_leaves_the_earlier_one(params: Any, raw: Path, tmp_path: Path) -> None:
    ingest(params, "some", tmp_path / "out/some")
    before = files_of(tmp_path / "out")
    (raw / "test/images").rename(raw / "elsewhere")
    with pytest.raises(DataError, match="test/images"):
        ingest(params, "some", tmp_path / "out/some")
    assert files_of(tmp_path / "out") == before


def test_a_run_that_died_between_its_renames_is_put_right(params: Any, tmp_path: Path) -> None:
    ingest(params, "some", tmp_path / "out/some")
    before = files_of(tmp_path / "out/some")
    (tmp_path / "out/some").rename(tmp_path / "out/.some.previous")
    (tmp_path / "out/.some.partial/images").mkdir(parents=True)
    ingest(params, "some", tmp_path / "out/some")
    assert files_of(tmp_path / "out") == {f"some/{name}": data for name, data in before.items()}


def test_unknown_source_and_wrong_destination(params: Any, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="choose one of some"):
        ingest(params, "other", tmp_path / "other")
    with pytest.raises(UsageError, match="does not end in the source's name"):
        ingest(params, "some", tmp_path / "elsewhere")


def shards_made(params: Any, source: str, folder: Path) -> int:
    """Number of shards that a source is worked on in."""
    ingest_shards(params, source, None, folder / source, 0, 1)
    return len(list((folder / f".{source}.shards").glob("*/shard.json")))


def test_only_what_was_chosen(params: Any, raw: Path, tmp_path: Path) -> None:
    (raw / f"train/masks/{NAMES[4]}.png").write_bytes(b"nothing")
    chosen = tmp_path / "chosen"
    rows = [(NAMES[0], "train", "human"), (NAMES[7], "test", "no_human"), (NAMES[4], "train", "unreadable")]
    write_chosen(chosen, {"some": pd.DataFrame(rows, columns=list(CHOSEN_COLUMNS))})
    df = ingest(params, "some", tmp_path / "out/some", chosen=chosen / "some.parquet")
    assert list(df["sample_id"]) == [f"some/{NAMES[index]}" for index in (0, 4, 7)]
    assert list(df["reason"]) == ["", "unreadable", ""]
    assert f"{NAMES[4]}.png" in df["detail"].iloc[1]
    (raw / f"test/images/{NAMES[7]}.jpg").unlink()
    with pytest.raises(DataError, match=f"some/{NAMES[7]}: is chosen in .*run identify again"):
        ingest(params, "some", tmp_path / "out/some", chosen=chosen / "some.parquet")


def test_nothing_chosen_is_an_empty_dataset(params: Any, tmp_path: Path) -> None:
    write_chosen(tmp_path / "chosen", {"some": pd.DataFrame([], columns=list(CHOSEN_COLUMNS))})
    df = ingest(params, "some", tmp_path / "out/some", chosen=tmp_path / "chosen/some.parquet")
    assert df.empty
    assert read_people(tmp_path / "out/some/people.parquet").empty


def test_people_and_report(params: Any, raw: Path, tmp_path: Path) -> None:
    (raw / f"train/images/{NAMES[1]}.jpg").write_bytes(b"nothing")
    Image.new("L", (200, 150)).save(raw / f"train/masks/{NAMES[2]}.png")
    df = ingest(params, "some", tmp_path / "some").set_index("sample_id")
    people = read_people(tmp_path / "some/people.parquet")
    assert tuple(people.columns) == PEOPLE_COLUMNS
    assert people.groupby("sample_id").size().to_dict() == df.loc[df["components"] > 0, "components"].to_dict()
    tallest = people.groupby("sample_id")["height"].max()
    assert tallest.to_dict() == df.loc[df["is_human"], "max_component_height"].to_dict()
    assert set(people["content_height"]) == {72}
    assert set(people["content_width"]) == {96}
    assert json.loads((tmp_path / "some/report.json").read_text())["pools"] == {
        "train": {"total": 6, "with_people": 4, "without_people": 1, "unreadable": 1},
        "test": {"total": 2, "with_people": 2, "without_people": 0, "unreadable": 0},
        "all": {"total": 8, "with_people": 6, "without_people": 1, "unreadable": 1},
    }


@pytest.mark.parametrize(("shard_size", "shards"), [(28, 1), (7, 4), (4, 7)])
def test_shards_do_not_show_in_the_result(
    make_params: Any, make_pairs: Any, pairs_source: Any, tmp_path: Path, shard_size: int, shards: int
) -> None:
    make_pairs(tmp_path / "raw/train", [f"t{index:03d}" for index in range(20)])
    make_pairs(tmp_path / "raw/test", [f"x{index:03d}" for index in range(8)])
    source = {"some": pairs_source}

    def with_shards(size: int) -> Any:
        return make_params(tmp_path / "raw", source, image={"size": 64}, ingest={"shard_size": size})

    whole = ingest(with_shards(500), "some", tmp_path / "whole/some")
    params = with_shards(shard_size)
    assert shards_made(params, "some", tmp_path / "made") == shards
    df = ingest(params, "some", tmp_path / "cut/some")
    assert files_of(tmp_path / "cut") == files_of(tmp_path / "whole")
    assert manifest_fingerprint(df) == manifest_fingerprint(whole)


def test_machines_share_the_shards_and_one_puts_them_together(
    make_params: Any, make_pairs: Any, pairs_source: Any, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    make_pairs(tmp_path / "raw/train", [f"t{index:03d}" for index in range(20)])
    make_pairs(tmp_path / "raw/test", ["z"])
    params = make_params(tmp_path / "raw", {"some": pairs_source}, image={"size": 64}, ingest={"shard_size": 5})
    assert shards_made(params, "some", tmp_path / "made") == 5
    for index in reversed(range(3)):
        ingest_shards(params, "some", None, tmp_path / "out/some", index, 3)
    assert not (tmp_path / "out/some").exists()
    made = {path.name: path.stat().st_ino for path in (tmp_path / "out/.some.shards").glob("*/images/*")}
    assert len(made) == 21
    capfd.readouterr()
    ingest(params, "some", tmp_path / "out/some")
    assert "21/21 images, 0 unreadable, all from an earlier run" in capfd.readouterr().err
    assert {path.name: path.stat().st_ino for path in (tmp_path / "out/some/images").iterdir()} == made
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["some"]
    ingest(params, "some", tmp_path / "alone/some")
    assert files_of(tmp_path / "out") == files_of(tmp_path / "alone")


def test_a_small_source_is_still_work_for_several(make_params: Any, tmp_path: Path) -> None:
    source = {"kind": "synthetic", "count": 240}
    params = make_params(tmp_path, {"scenes": source}, image={"size": 64})
    assert shards_made(params, "scenes", tmp_path / "made") == 8


def test_very_long_and_unicode_names(make_params: Any, make_pairs: Any, pairs_source: Any, tmp_path: Path) -> None:
    names = ["я" * 120, "n" * 250, "e\u0301té 人 🙂", "O'Brien; rm -rf $HOME"]
    make_pairs(tmp_path / "raw/train", names)
    make_pairs(tmp_path / "raw/test", ["z"])
    params = make_params(tmp_path / "raw", {"some": pairs_source}, image={"size": 64})
    df = ingest(params, "some", tmp_path / "out/some").set_index("sample_id")
    assert set(df.index) == {f"some/{name}" for name in [*names, "z"]}
    assert set(df["status"]) == {"kept"}
    for row in df.itertuples():
        pair = (tmp_path / "out" / row.image_path).read_bytes() + (tmp_path / "out" / row.mask_path).read_bytes()
        assert hashlib.sha256(pair).hexdigest() == row.sha256
    assert df["image_path"].is_unique


def test_a_place_that_cannot_be_written(params: Any) -> None:
    with pytest.raises(StorageError):
        ingest(params, "some", Path("/proc/nowhere/some"))
