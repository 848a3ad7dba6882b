"""Cleansing rules, splitting by hash, and the summary."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from privseg.datasets.analyze import summarize
from privseg.datasets.cleanse import cleanse
from privseg.datasets.manifest import MANIFEST_COLUMNS, manifest_frame, write_manifest
from privseg.datasets.split import split
from privseg.params import Params, load_params

PARAMS = load_params(Path(__file__).parents[2] / "params.yaml")
GOOD = {
    "height": 512,
    "width": 512,
    "original_height": 480,
    "original_width": 640,
    "is_human": True,
    "human_ratio": 0.1,
    "ignore_ratio": 0.0,
    "components": 1,
    "largest_component_ratio": 0.1,
    "min_component_height": 90,
    "max_component_height": 90,
    "pixel_std": 50.0,
    "status": "kept",
    "pool": "train",
}


def row(sample_id: str, **fields: Any) -> dict[str, Any]:
    keys = {"sample_id": sample_id, "source": sample_id.split("/")[0], "sha256": sample_id, "phash": sample_id}
    return {**dict.fromkeys(MANIFEST_COLUMNS, ""), **GOOD, **keys, **fields}


def cleansed(tmp_path: Path, rows: list[dict[str, Any]]) -> pd.DataFrame:
    write_manifest(tmp_path / "m.parquet", manifest_frame(rows))
    return cleanse(PARAMS, [tmp_path / "m.parquet"]).set_index("sample_id")


def with_share(validation_share: float) -> Params:
    return PARAMS.model_copy(update={"split": PARAMS.split.model_copy(update={"validation_share": validation_share})})


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({}, ""),
        ({"original_width": 120}, ""),
        ({"original_width": 119}, "too_small"),
        ({"human_ratio": 0.8}, ""),
        ({"human_ratio": 0.81}, "portrait"),
        ({"human_ratio": 0.0004}, "specks"),
        ({"human_ratio": 0.0, "is_human": False, "max_component_height": 0}, ""),
        ({"max_component_height": 9, "min_component_height": 9}, "too_short"),
        ({"min_component_height": 1}, ""),
        ({"ignore_ratio": 0.61}, "too_much_ignore"),
        ({"pixel_std": 2.9}, "blank"),
        ({"original_width": 20, "human_ratio": 0.9, "pixel_std": 0.0}, "too_small"),
        ({"human_ratio": 0.9, "pixel_std": 0.0}, "portrait"),
    ],
)
def test_rules_and_their_order(fields: dict[str, Any], reason: str, tmp_path: Path) -> None:
    df = cleansed(tmp_path, [row("a/1", **fields), row("a/2")])
    assert len(df) == 2
    assert df.loc["a/1", "reason"] == reason
    assert df.loc["a/1", "status"] == ("removed" if reason else "kept")
    assert df.loc["a/2", "status"] == "kept"


def test_of_equal_files_the_test_copy_stays(tmp_path: Path) -> None:
    rows = [row(f"a/{index}", sha256="same", pool=pool) for index, pool in enumerate(["train", "train", "test"])]
    df = cleansed(tmp_path, [*rows, row("b/1", sha256="mine"), row("b/2", sha256="mine")])
    assert list(df["reason"]) == ["duplicate", "duplicate", "", "", "duplicate"]


def test_unreadable_stays_unreadable_and_is_no_duplicate(tmp_path: Path) -> None:
    broken = {"status": "removed", "reason": "unreadable", "sha256": "", "original_width": 0, "detail": "x: broken"}
    df = cleansed(tmp_path, [row("a/1", **broken), row("a/2", **broken), row("a/3")])
    assert list(df["reason"]) == ["unreadable", "unreadable", ""]
    assert list(df["detail"]) == ["x: broken", "x: broken", ""]


def test_several_sources_are_merged(tmp_path: Path) -> None:
    paths = [tmp_path / "b", tmp_path / "a"]
    write_manifest(paths[0], manifest_frame([row("b/1")]))
    write_manifest(paths[1], manifest_frame([row("a/1")]))
    assert list(cleanse(PARAMS, paths)["sample_id"]) == ["a/1", "b/1"]


LOOKS = st.lists(
    st.tuples(st.text("0123456789abcdef", min_size=1, max_size=2), st.sampled_from(["train", "test"])),
    max_size=40,
)


def frame(looks: list[tuple[str, str]]) -> pd.DataFrame:
    return manifest_frame([row(f"a/{index:03d}", phash=phash, pool=pool) for index, (phash, pool) in enumerate(looks)])


@given(LOOKS, st.floats(0, 1))
def test_splits_exclude_one_another_and_follow_the_pools(looks: list[tuple[str, str]], share: float) -> None:
    df = split(with_share(share), frame(looks))
    kept = df[df["status"] == "kept"]
    assert set(kept["split"]) <= {"train", "validation", "test"}
    assert ((kept["split"] == "test") == (kept["pool"] == "test")).all()
    assert (kept.groupby("phash")["split"].nunique() <= 1).all()
    removed = df[df["status"] == "removed"]
    assert set(removed["reason"]) <= {"leaks_test"}
    assert (removed["split"] == "").all()
    assert set(removed["phash"]) <= set(kept.loc[kept["split"] == "test", "phash"])
    pd.testing.assert_frame_equal(split(with_share(share), df), df)


@given(LOOKS, st.lists(st.text("0123456789abcdef", min_size=1, max_size=2), max_size=20))
def test_new_training_images_never_move_an_old_one(looks: list[tuple[str, str]], more: list[str]) -> None:
    old = frame(looks)
    new = manifest_frame([row(f"A/{index}", phash=phash) for index, phash in enumerate(more)])  # sorts first
    before = split(with_share(0.5), old).set_index("sample_id")["split"]
    after = split(with_share(0.5), pd.concat([new, old], ignore_index=True)).set_index("sample_id")["split"]
    pd.testing.assert_series_equal(after.loc[before.index], before)


def test_share_is_about_what_was_asked() -> None:
    df = split(with_share(0.2), frame([(f"{index:04x}", "train") for index in range(2000)]))
    assert 0.17 < (df["split"] == "validation").mean() < 0.23
    assert (split(with_share(0.0), df)["split"] == "train").all()
    assert (split(with_share(1.0), df)["split"] == "validation").all()


def test_removed_rows_get_no_split_and_do_not_count_as_test_images() -> None:
    df = manifest_frame(
        [
            row("a/1", phash="x", pool="test", status="removed", reason="blank"),
            row("a/2", phash="x"),
            row("a/3", phash="", status="removed", reason="unreadable"),
        ]
    )
    assert list(split(with_share(0.0), df)["split"]) == ["", "train", ""]


def test_summary_counts_by_source() -> None:
    df = manifest_frame(
        [
            row("a/1", split="train", human_ratio=0.2),
            row("a/2", split="train", human_ratio=0.0, is_human=False),
            row("a/3", split="test", pool="test"),
            row("a/4", status="removed", reason="blank"),
            row("b/1", split="validation"),
        ]
    )
    summary = json.loads(json.dumps(summarize(df)))
    assert summary["sources"]["a"] == {
        "images": 4,
        "kept": 3,
        "removed": {"blank": 1},
        "train": 2,
        "validation": 0,
        "test": 1,
        "with_people": 2,
        "mean_human_ratio": {"train": 0.1, "validation": None, "test": 0.1},
    }
    assert summary["sources"]["b"]["validation"] == 1
    assert summary["total"]["images"] == 5
    assert summary["dataset_version"].startswith("ds-")
