"""Splitting by hash: exclusive, stable when data is added, and no look in two splits."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from hypothesis import given, settings
from hypothesis import strategies as st

from privseg.datasets.analyze import summarize
from privseg.datasets.cleanse import cleanse
from privseg.datasets.manifest import empty_row, manifest_frame
from privseg.datasets.merge import merge
from privseg.datasets.near_duplicates import hamming
from privseg.datasets.split import split
from privseg.params import Params, load_params

UNHURRIED = settings(deadline=None, max_examples=25)  # the first call of a process may be slow
PARAMS = load_params(Path(__file__).parents[2] / "params.yaml")
GOOD = {
    "original_height": 480,
    "original_width": 640,
    "is_human": True,
    "human_ratio": 0.1,
    "largest_component_ratio": 0.1,
    "max_component_height": 90,
    "surveillance_score": 0.7,
    "pixel_std": 50.0,
    "pool": "train",
}


def row(sample_id: str, **fields: Any) -> dict[str, Any]:
    keys = {"sample_id": sample_id, "source": sample_id.split("/")[0], "sha256": sample_id, "phash": sample_id}
    return empty_row(**{**GOOD, **keys, **fields})


def with_share(validation_share: float) -> Params:
    return PARAMS.model_copy(update={"split": PARAMS.split.model_copy(update={"validation_share": validation_share})})


def factory(df: pd.DataFrame) -> pd.DataFrame:
    """What becomes of analysed rows: cleansed, merged and split in halves."""
    params = with_share(0.5)
    return split(params, merge(params, cleanse(params, df)))


POOLS = st.sampled_from(["train", "test"])
LOOKS = st.lists(st.tuples(st.integers(0, 2**12 - 1), POOLS, st.booleans()), max_size=20)


def frame(looks: list[tuple[int, str, bool]], source: str = "b") -> pd.DataFrame:
    """Pictures whose hashes differ in 0 to 12 bits."""
    return manifest_frame(
        row(f"{source}/{number:03d}", phash=f"{look:016x}", pool=pool, is_human=is_human)
        for number, (look, pool, is_human) in enumerate(looks)
    )


@UNHURRIED
@given(LOOKS)
def test_no_look_is_in_two_splits(looks: list[tuple[int, str, bool]]) -> None:
    df = factory(frame(looks))
    kept = df[df["status"] == "kept"]
    assert set(kept["split"]) <= {"train", "validation", "test"}
    assert ((kept["split"] == "test") == (kept["pool"] == "test")).all()
    assert (df.loc[df["status"] == "removed", "split"] == "").all()
    pairs = kept[["phash", "split"]].merge(kept[["phash", "split"]], how="cross")
    close = hamming(pairs["phash_x"], pairs["phash_y"]) <= PARAMS.cleanse.near_duplicate_bits
    assert (pairs.loc[close, "split_x"] == pairs.loc[close, "split_y"]).all()


@UNHURRIED
@given(LOOKS, LOOKS, st.sampled_from(["a", "c"]))
def test_more_data_never_moves_an_image_to_another_split(
    looks: list[tuple[int, str, bool]], more: list[tuple[int, str, bool]], source: str
) -> None:
    old, new = frame(looks), frame(more, source)  # sorts before or after
    before = factory(old).set_index("sample_id")["split"]
    after = factory(pd.concat([new, old], ignore_index=True)).set_index("sample_id")["split"].loc[before.index]
    stays = (before != "") & (after != "")
    pd.testing.assert_series_equal(after[stays], before[stays])


@UNHURRIED
@given(LOOKS, st.floats(0, 1))
def test_splitting_again_changes_nothing(looks: list[tuple[int, str, bool]], share: float) -> None:
    once = split(with_share(share), frame(looks))
    pd.testing.assert_frame_equal(split(with_share(share), once), once)


def test_a_name_does_not_decide() -> None:
    rng = np.random.default_rng(0)
    hashes = [f"{value:016x}" for value in rng.integers(0, 2**63, 200)]
    first = split(with_share(0.5), manifest_frame(row(f"a/{number}", phash=look) for number, look in enumerate(hashes)))
    second = split(
        with_share(0.5), manifest_frame(row(f"z/{-number}", phash=look) for number, look in enumerate(hashes))
    )
    assert list(first["split"]) == list(second["split"])


def test_share_is_about_what_was_asked() -> None:
    df = manifest_frame(row(f"a/{number}", phash=f"{number:016x}") for number in range(2000))
    assert 0.17 < (split(with_share(0.2), df)["split"] == "validation").mean() < 0.23
    assert (split(with_share(0.0), df)["split"] == "train").all()
    assert (split(with_share(1.0), df)["split"] == "validation").all()


def test_removed_rows_get_no_split() -> None:
    df = manifest_frame(
        [
            row("a/1", pool="test", status="removed", reason="blank", split="test"),
            row("a/2"),
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
    found = summary["sources"]["a"]
    assert (found["images"], found["kept"], found["removed"]) == (4, 3, {"blank": 1})
    assert (found["train"], found["validation"], found["test"], found["with_people"]) == (2, 0, 1, 2)
    assert found["mean_human_ratio"] == {"train": 0.1, "validation": None, "test": 0.1}
    assert summary["sources"]["b"]["validation"] == 1
    assert summary["total"]["images"] == 5
    assert summary["dataset_version"].startswith("ds-")
