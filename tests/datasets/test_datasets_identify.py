"""Identify, isolate, add: who shows people, and what is chosen of it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from privseg.datasets.identify import IDENTIFIED_COLUMNS, identify, read_identified
from privseg.datasets.isolate import CHOSEN_COLUMNS, add_no_human, isolate, read_chosen, write_chosen
from privseg.datasets.split import hash_share
from privseg.errors import DataError, StorageError, UsageError

NAMES = [f"n{index:02d}" for index in range(8)]


@pytest.fixture
def raw(make_pairs: Any, tmp_path: Path) -> Path:
    make_pairs(tmp_path / "raw/train", NAMES[:6], seed=1)
    make_pairs(tmp_path / "raw/test", NAMES[6:], seed=2)
    for name in (NAMES[1], NAMES[2]):
        Image.new("L", (200, 150)).save(tmp_path / f"raw/train/masks/{name}.png")
    return tmp_path / "raw"


@pytest.fixture
def params(make_params: Any, pairs_source: Any, raw: Path) -> Any:
    return make_params(raw, {"some": pairs_source}, image={"size": 96})


def test_labels_alone_say_who_shows_people(params: Any, raw: Path, tmp_path: Path) -> None:
    for picture in raw.rglob("*.jpg"):
        picture.write_bytes(b"no picture at all")  # not looked at
    (raw / f"train/masks/{NAMES[3]}.png").write_bytes(b"nothing")
    df = identify(params, "some", tmp_path / "identified/some")
    pd.testing.assert_frame_equal(df, read_identified(tmp_path / "identified/some/identified.parquet"))
    assert tuple(df.columns) == IDENTIFIED_COLUMNS
    assert list(df["name"]) == NAMES
    assert list(df["pool"]) == ["train"] * 6 + ["test"] * 2
    assert [name for name, human in zip(df["name"], df["is_human"], strict=True) if human] == [
        NAMES[index] for index in (0, 4, 5, 6, 7)
    ]
    mask = np.asarray(Image.open(raw / f"train/masks/{NAMES[0]}.png"))
    assert df["human_ratio"].iloc[0] == (mask == 1).sum() / (mask != 255).sum()
    assert (df["height"].iloc[0], df["width"].iloc[0]) == (150, 200)
    faulty = df[df["fault"] != ""]
    assert list(faulty["name"]) == [NAMES[3]]
    assert faulty["fault"].iloc[0].startswith(f"{raw}/train/masks/{NAMES[3]}.png: the mask cannot be decoded")
    assert json.loads((tmp_path / "identified/some/report.json").read_text())["pools"] == {
        "train": {"total": 6, "with_people": 3, "without_people": 2, "unreadable": 1},
        "test": {"total": 2, "with_people": 2, "without_people": 0, "unreadable": 0},
        "all": {"total": 8, "with_people": 5, "without_people": 2, "unreadable": 1},
    }
    assert sorted(path.name for path in (tmp_path / "identified").iterdir()) == ["some"]


def test_shards_do_not_show_in_the_result(
    make_params: Any, params: Any, pairs_source: Any, raw: Path, tmp_path: Path
) -> None:
    cut = make_params(raw, {"some": pairs_source}, image={"size": 96}, ingest={"shard_size": 3})
    identify(params, "some", tmp_path / "whole/some")
    identify(cut, "some", tmp_path / "cut/some", staging=tmp_path / "elsewhere")
    for name in ("identified.parquet", "report.json"):
        assert (tmp_path / "whole/some" / name).read_bytes() == (tmp_path / "cut/some" / name).read_bytes()
    assert not (tmp_path / "elsewhere").exists()


def test_rendered_scenes_are_identified_too(make_params: Any, tmp_path: Path) -> None:
    params = make_params(tmp_path, {"scenes": {"kind": "synthetic", "count": 6}}, image={"size": 64})
    df = identify(params, "scenes", tmp_path / "scenes")
    assert len(df) == 6
    assert set(df["height"]) == {64}


def test_wrong_use(params: Any, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="choose one of some"):
        identify(params, "other", tmp_path / "other")
    with pytest.raises(UsageError, match="does not end in the source's name"):
        identify(params, "some", tmp_path / "elsewhere")
    with pytest.raises(DataError, match=r"there is no .* here.*run the stage identify"):
        read_identified(tmp_path / "identified.parquet")


def identified_table(pools: list[str], humans: list[bool], faults: list[bool]) -> pd.DataFrame:
    rows = [
        {
            "name": f"picture {index}",
            "pool": pool,
            "is_human": human and not fault,
            "human_ratio": 0.1,
            "height": 9,
            "width": 9,
            "fault": "file: fault" if fault else "",
        }
        for index, (pool, human, fault) in enumerate(zip(pools, humans, faults, strict=True))
    ]
    return pd.DataFrame(rows, columns=list(IDENTIFIED_COLUMNS)).astype({"is_human": bool, "name": "str"})


ROWS = st.lists(st.tuples(st.sampled_from(["train", "test"]), st.booleans(), st.booleans()), min_size=1, max_size=60)


@settings(deadline=None, max_examples=60)
@given(ROWS, st.sampled_from([None, 0.0, 0.1, 0.2, 1.0, 5.0]))
def test_what_is_chosen(rows: list[tuple[str, bool, bool]], share: float | None) -> None:
    identified = identified_table(*map(list, zip(*rows, strict=True)))
    isolated = isolate(identified)
    chosen = add_no_human(identified, isolated, share)
    for df in (isolated, chosen):
        assert tuple(df.columns) == CHOSEN_COLUMNS
        assert list(df["name"]) == sorted(set(df["name"]))
    role = {name: "unreadable" if fault else "human" for name, human, fault in
            identified[["name", "is_human", "fault"]].itertuples(index=False) if human or fault}  # fmt: skip
    assert dict(zip(isolated["name"], isolated["role"], strict=True)) == role
    assert isolated.merge(chosen).shape == isolated.shape  # nothing is lost by adding
    added = chosen[~chosen["name"].isin(isolated["name"])]
    assert set(added["role"]) <= {"no_human"}
    for pool in ("train", "test"):
        free = identified[(identified["pool"] == pool) & ~identified["is_human"] & (identified["fault"] == "")]
        people = ((isolated["pool"] == pool) & (isolated["role"] == "human")).sum()
        wanted = len(free) if share is None else min(len(free), round(share * int(people)))
        names = sorted(free["name"], key=hash_share)[:wanted]
        assert sorted(added.loc[added["pool"] == pool, "name"]) == sorted(names)


def test_a_new_picture_displaces_few() -> None:
    before = identified_table(["train"] * 100, [index % 2 == 0 for index in range(100)], [False] * 100)
    after = identified_table(["train"] * 102, [index % 2 == 0 for index in range(102)], [False] * 102)
    first, second = (set(add_no_human(df, isolate(df), 0.2)["name"]) for df in (before, after))
    assert len(first - second) <= 1


def test_chosen_tables_are_written_with_counts(tmp_path: Path) -> None:
    identified = identified_table(["train", "train", "test"], [True, False, True], [False, False, True])
    chosen = add_no_human(identified, isolate(identified), None)
    for _ in range(2):  # again, over what is there
        write_chosen(tmp_path / "chosen", {"one": chosen, "two": isolate(identified)})
    assert sorted(path.name for path in (tmp_path / "chosen").iterdir()) == [
        "one.parquet",
        "report.json",
        "two.parquet",
    ]
    pd.testing.assert_frame_equal(read_chosen(tmp_path / "chosen/one.parquet"), chosen)
    counts = json.loads((tmp_path / "chosen/report.json").read_text())["sources"]
    assert counts["one"]["all"] == {"total": 3, "human": 1, "no_human": 1, "unreadable": 1}
    assert counts["two"]["train"] == {"total": 1, "human": 1, "no_human": 0, "unreadable": 0}
    write_chosen(tmp_path / "chosen", {"two": chosen})
    assert not (tmp_path / "chosen/one.parquet").exists()
    with pytest.raises(StorageError):
        write_chosen(Path("/proc/nowhere"), {"one": chosen})


def test_a_broken_table_is_named(tmp_path: Path) -> None:
    path = tmp_path / "one.parquet"
    path.write_bytes(b"nothing")
    with pytest.raises(DataError, match=r"one\.parquet: is no readable Parquet file"):
        read_chosen(path)
    pd.DataFrame({"name": ["a"], "pool": ["train"]}).to_parquet(path)
    with pytest.raises(DataError, match="no complete column role"):
        read_chosen(path)
    pd.DataFrame({"name": ["a"], "pool": ["train"], "role": [1]}).to_parquet(path)
    with pytest.raises(DataError, match="column role is int64"):
        read_chosen(path)
