"""Merging: how many pictures without people stay, and which."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from privseg.datasets.manifest import empty_row, manifest_frame
from privseg.datasets.merge import merge
from privseg.datasets.split import hash_share
from privseg.params import MergeParams, Params, load_params

UNHURRIED = settings(deadline=None, max_examples=40)  # the first call of a process may be slow
PARAMS = load_params(Path(__file__).parents[2] / "params.yaml")


def with_share(share: float) -> Params:
    return PARAMS.model_copy(update={"merge": MergeParams(no_human_share=share)})


def frame(people: int, nobody: int, pool: str = "train", **fields: Any) -> pd.DataFrame:
    return manifest_frame(
        empty_row(sample_id=f"{pool}/{number:03d}", pool=pool, is_human=number < people, **fields)
        for number in range(people + nobody)
    )


@pytest.mark.parametrize(
    ("people", "nobody", "share", "stay"),
    [(20, 10, 0.1, 2), (20, 1, 0.1, 1), (20, 10, 0.0, 0), (0, 10, 0.1, 0), (26, 10, 0.1, 3), (5, 10, 1.0, 5)],
)
def test_share_of_pictures_without_people(people: int, nobody: int, share: float, stay: int) -> None:
    df = merge(with_share(share), frame(people, nobody))
    kept = df[df["status"] == "kept"]
    assert kept["is_human"].sum() == people
    assert (~kept["is_human"]).sum() == stay
    assert len(df) == people + nobody
    assert set(df.loc[df["status"] == "removed", "reason"]) <= {"surplus_no_human"}


def test_those_with_the_lowest_hash_stay() -> None:
    df = merge(with_share(0.1), frame(30, 20))
    nobody = df[~df["is_human"]]
    lowest = sorted(nobody["sample_id"], key=hash_share)[:3]
    assert set(nobody.loc[nobody["status"] == "kept", "sample_id"]) == set(lowest)


def test_pools_are_counted_apart_and_removed_rows_do_not_count() -> None:
    gone = frame(10, 5, "train", status="removed", reason="blank").assign(
        sample_id=lambda df: "gone/" + df["sample_id"].str[-3:]
    )
    df = pd.concat([frame(20, 5, "train"), frame(10, 5, "test"), gone], ignore_index=True)
    merged = merge(with_share(0.1), df)
    kept = merged[(merged["status"] == "kept") & ~merged["is_human"]]
    assert kept["pool"].value_counts().to_dict() == {"train": 2, "test": 1}
    pd.testing.assert_frame_equal(merged[merged["reason"] == "blank"], df[df["reason"] == "blank"])


@UNHURRIED
@given(st.integers(0, 30), st.integers(0, 30), st.floats(0, 2))
def test_merging_again_changes_nothing(people: int, nobody: int, share: float) -> None:
    once = merge(with_share(share), frame(people, nobody))
    pd.testing.assert_frame_equal(merge(with_share(share), once), once)
