"""The study's tables: every figure equals what counting row by row gives."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from privseg.datasets.cleanse import COPIES, RULES
from privseg.datasets.manifest import empty_row, manifest_frame
from privseg.datasets.reports import tables
from privseg.datasets.reports.rules import rules, suspicions
from privseg.datasets.reports.tables import Table, write_tables
from privseg.datasets.suspects import SUSPICIONS
from privseg.params import Params, load_params

SOURCES = ["voc", "cocostuff164k", "ade20k"]
REASONS = ["close_up", "near_duplicate", "unreadable", "a_new_rule"]

picture = st.fixed_dictionaries(
    {
        "source": st.sampled_from(SOURCES),
        "pool": st.sampled_from(["train", "test"]),
        "human_ratio": st.sampled_from([0.0, 0.01, 0.125, 0.5]),
        "people": st.integers(1, 9),
        "tallest_ratio": st.sampled_from([0.05, 0.5, 1.0]),
        "surveillance_score": st.sampled_from([0.0, 0.05, 0.1, 0.25, 0.3, 0.7, 0.95, 1.0]),
        "suspect": st.sampled_from(["", "box", "box,fragments", "unheard_of"]),
        "removed": st.sampled_from(["", "", "", *REASONS]),
        "validates": st.booleans(),
    }
)
manifests = st.lists(picture, max_size=40)


def as_row(number: int, values: dict[str, Any]) -> dict[str, Any]:
    values = dict(values)
    reason, validates = values.pop("removed"), values.pop("validates")
    human = values["human_ratio"] > 0
    if not human:
        values |= {"people": 0, "tallest_ratio": 0.0, "surveillance_score": 0.0}
    split = "" if reason else "test" if values["pool"] == "test" else "validation" if validates else "train"
    status = {"status": "removed" if reason else "kept", "reason": reason, "split": split, "is_human": human}
    return empty_row(sample_id=f"{values['source']}/{number:03d}", **values, **status)


def frames(pictures: list[dict[str, Any]]) -> tuple[pd.DataFrame, pd.DataFrame, pd.DataFrame]:
    """The whole manifest, the pictures before cleansing, and those that were kept."""
    df = manifest_frame(as_row(number, values) for number, values in enumerate(pictures))
    return df, tables.readable(df), df[df["status"] == "kept"]


def records(frame: pd.DataFrame) -> dict[str, dict[str, Any]]:
    """A table's rows by the text in its first column."""
    return {str(row[frame.columns[0]]): row for row in frame.to_dict("records")}


def rows_of(df: pd.DataFrame) -> list[dict[str, Any]]:
    return [dict(row) for row in df.to_dict("records")]


def mean(values: list[float]) -> float | None:
    return round(sum(values) / len(values), 6) if values else None


def people_and_others(rows: list[dict[str, Any]]) -> str:
    people = sum(row["is_human"] for row in rows)
    return f"{people:,} + {len(rows) - people:,}"


@pytest.fixture(scope="module")
def params() -> Params:
    return load_params(Path(__file__).parents[2] / "params.yaml")


@given(manifests)
@settings(max_examples=25, deadline=None)
def test_composition_counts_sources_and_what_was_ingested(pictures: list[dict[str, Any]]) -> None:
    params = load_params(Path(__file__).parents[2] / "params.yaml")
    df, before, _ = frames(pictures)
    # The sources hold every picture twice: what was left out counts in their sizes, and nowhere else.
    identified = {name: pd.concat([df[df["source"] == name]] * 2)[["pool", "is_human"]] for name in SOURCES}
    found = records(tables.composition(params, identified, df))
    assert list(found) == [*SOURCES, "TOTAL"]
    for name, row in found.items():
        all_rows = [one for one in rows_of(df) if name in (one["source"], "TOTAL")]
        used = [one for one in rows_of(before) if name in (one["source"], "TOTAL")]
        pools = {pool: [one for one in used if one["pool"] == pool] for pool in ("train", "test")}
        assert row["Total Size"] == 2 * len(all_rows)
        assert row["Train Size"] == 2 * sum(one["pool"] == "train" for one in all_rows)
        assert row["Test Size"] == row["Total Size"] - row["Train Size"]
        assert row["Human Train Size"] == 2 * sum(one["is_human"] and one["pool"] == "train" for one in all_rows)
        assert row["Human Test Size"] == 2 * sum(one["is_human"] and one["pool"] == "test" for one in all_rows)
        assert row["Human Train Size (with no-human)"] == len(pools["train"])
        assert row["Human Test Size (with no-human)"] == len(pools["test"])
        assert row["Human Pixels % (training)"] == mean([one["human_ratio"] for one in pools["train"]])
        assert row["Human Pixels % (validation)"] == mean([one["human_ratio"] for one in pools["test"]])
        people = sum(one["is_human"] for one in used)
        share = f"{100 * (len(used) - people) / people:.1f}%" if people else None
        assert row["+ No-human images"] == share


@given(manifests)
@settings(max_examples=25, deadline=None)
def test_before_and_after_count_the_pools_and_the_splits(pictures: list[dict[str, Any]]) -> None:
    _, before, after = frames(pictures)
    old, new = rows_of(before), rows_of(after)
    shares, sizes = records(tables.cleansing_shares(before, after)), records(tables.cleansing_sizes(before, after))
    for title, pool, column in (("Training", "train", "Human Train Size"), ("Validation", "test", "Human Test Size")):
        old_pool, new_pool = ([one for one in rows if one["pool"] == pool] for rows in (old, new))
        assert (shares["Old"][column], shares["New"][column]) == (len(old_pool), len(new_pool))
        pixels = f"Human Pixels % ({title.lower()})"
        assert shares["Old"][pixels] == mean([one["human_ratio"] for one in old_pool])
        assert shares["New"][pixels] == mean([one["human_ratio"] for one in new_pool])
        assert sizes[title]["Total+noHuman"] == people_and_others(new_pool)
        assert sizes[title]["Removed"] == len(old_pool) - len(new_pool) >= 0
    split, split_sizes = records(tables.split_shares(after)), records(tables.split_sizes(after))
    for title, name in (("Train", "train"), ("Validation", "validation"), ("Test", "test")):
        part = [one for one in new if one["split"] == name]
        long = "Training" if title == "Train" else title
        assert split["Result"][f"Human {title} Size"] == len(part)
        assert split["Result"][f"Human Pixels % ({long.lower()})"] == mean([one["human_ratio"] for one in part])
        assert split_sizes[long]["Total+noHuman"] == people_and_others(part)
    assert split_sizes["Training"]["Removed"] == sum(one["split"] == "validation" for one in new)
    assert split["new"]["Human Test Size"] is None


@given(manifests)
@settings(max_examples=25, deadline=None)
def test_breakdowns_lose_no_picture(pictures: list[dict[str, Any]]) -> None:
    df, before, after = frames(pictures)
    by_source = records(tables.sources(SOURCES, before, after))
    by_split = records(tables.splits_by_source(SOURCES, after))
    by_reason = records(tables.reasons(SOURCES, df, {"close_up": "too near"}))
    assert next(iter(by_reason)) == "close_up"  # rules come first, met or not
    for name in [*SOURCES, "TOTAL"]:
        rows = [one for one in rows_of(df) if name in (one["source"], "TOTAL")]
        kept = [one for one in rows if one["status"] == "kept"]
        assert by_source[name]["New"] == len(kept)
        assert by_source[name]["Removed"] == sum(one["reason"] not in ("", "unreadable") for one in rows)
        for split in ("Train", "Validation", "Test"):
            assert by_split[name][split] == sum(one["split"] == split.lower() for one in kept)
        for reason in REASONS:
            expected = sum(one["reason"] == reason for one in rows)
            assert by_reason.get(reason, {name: 0})[name] == expected
        assert by_reason["TOTAL"][name] == sum(one["status"] == "removed" for one in rows)


@given(manifests)
@settings(max_examples=25, deadline=None)
def test_scores_and_suspects_count_every_picture(pictures: list[dict[str, Any]]) -> None:
    _, before, after = frames(pictures)
    found = records(tables.scores(before, after))
    total = found.pop("TOTAL")
    for column in ("Images", "Removed", "Kept"):
        assert sum(row[column] for row in found.values()) == total[column]
    assert (total["Images"], total["Kept"]) == (len(before), len(after))
    assert found["no people"]["Images"] == sum(not one["is_human"] for one in rows_of(before))
    for label, row in found.items():
        if label != "no people":
            low, high = map(float, label.split("-"))
            inside = [
                one
                for one in rows_of(before)
                if one["is_human"]
                and (low <= one["surveillance_score"] < high or one["surveillance_score"] == high == 1)
            ]
            assert row["Images"] == len(inside)
            assert row["Human Pixels %"] == mean([one["human_ratio"] for one in inside])
            assert row["Mean height of the tallest person"] == mean([one["tallest_ratio"] for one in inside])
    doubts = records(tables.suspects(SOURCES, after, {"fragments": "many pieces"}))
    codes = [one["suspect"].split(",") for one in rows_of(after) if one["suspect"]]
    assert doubts["TOTAL"]["TOTAL"] == len(codes)  # a picture with two suspicions counts once
    for code in ("box", "fragments", "unheard_of"):
        assert doubts.get(code, {"TOTAL": 0})["TOTAL"] == sum(code in one for one in codes)


def test_columns_are_the_studys(params: Params) -> None:
    df, before, after = frames([])
    empty = {name: df[["pool", "is_human"]] for name in SOURCES}
    assert list(tables.composition(params, empty, df).columns) == [
        *("Original Dataset", "shape", "Total Size", "Train Size", "Test Size", "Human Train Size", "Human Test Size"),
        *("+ No-human images", "Human Train Size (with no-human)", "Human Test Size (with no-human)"),
        *("Human Pixels % (training)", "Human Pixels % (validation)"),
    ]
    assert list(tables.cleansing_shares(before, after).columns) == [
        *("Dataset", "Human Train Size", "Human Test Size", "Human Pixels % (training)", "Human Pixels % (validation)")
    ]
    assert list(tables.cleansing_sizes(before, after).columns) == ["New Dataset", "Total+noHuman", "Removed"]
    assert list(tables.split_shares(after).columns) == [
        *("Dataset", "Human Train Size", "Human Validation Size", "Human Test Size"),
        *("Human Pixels % (training)", "Human Pixels % (validation)", "Human Pixels % (test)"),
    ]
    assert list(tables.split_sizes(after).columns) == ["New Dataset", "Total+noHuman", "Removed"]


def test_every_rule_and_suspicion_is_explained_with_its_threshold(params: Params) -> None:
    explained = rules(params)
    in_order = ["unreadable", *(rule.__name__ for rule in (*RULES, *COPIES)), "surplus_no_human"]
    assert list(explained) == in_order
    assert list(suspicions(params)) == [suspicion.__name__ for suspicion in SUSPICIONS]
    stricter = params.model_copy(update={"cleanse": params.cleanse.model_copy(update={"min_original_side": 333})})
    assert "333" in rules(stricter)["too_small"]


def test_csv_keeps_whole_numbers_whole_and_gaps_empty(tmp_path: Path) -> None:
    _, _, after = frames([])
    write_tables([Table("split", "", "", tables.split_shares(after))], tmp_path)
    header, new, result = csv.reader((tmp_path / "split.csv").read_text(encoding="utf-8").splitlines())
    assert dict(zip(header, new, strict=True))["Human Test Size"] == ""
    assert dict(zip(header, result, strict=True))["Human Train Size"] == "0"
    assert dict(zip(header, result, strict=True))["Human Pixels % (test)"] == ""
