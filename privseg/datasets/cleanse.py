"""Cleanse: say which pictures are unfit, and why; no row is ever dropped. ``docs/dataset-cleansing.md`` explains."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd

from privseg.datasets.manifest import write_atomic
from privseg.datasets.near_duplicates import near_duplicates, preferred_order
from privseg.datasets.reports.cleansing_page import render_page
from privseg.datasets.reports.cleansing_sheets import choose_sheets
from privseg.datasets.reports.contact_sheet import contact_sheet
from privseg.datasets.reports.rules import rules, suspicions
from privseg.errors import DataError
from privseg.params import CleanseParams, Params

__all__ = ["COPIES", "RULES", "cleanse", "write_cleansing_report"]

_SCORE_BINS = 5

Rule = Callable[["pd.DataFrame", CleanseParams], "pd.Series[bool]"]
CopyRule = Callable[["pd.DataFrame", CleanseParams], "pd.Series[str]"]


def too_small(df: pd.DataFrame, limits: CleanseParams) -> pd.Series[bool]:
    """The original picture holds too few pixels for a usable person."""
    return df[["original_height", "original_width"]].min(axis="columns") < limits.min_original_side


def blank(df: pd.DataFrame, limits: CleanseParams) -> pd.Series[bool]:
    """The picture shows one colour, or nearly."""
    return df["pixel_std"] < limits.min_pixel_std


def too_much_ignore(df: pd.DataFrame, limits: CleanseParams) -> pd.Series[bool]:
    """Most of the picture is unlabelled."""
    return df["ignore_ratio"] > limits.max_ignore_ratio


def too_little_human(df: pd.DataFrame, limits: CleanseParams) -> pd.Series[bool]:
    """There are people, but next to no pixels of them."""
    return df["is_human"] & (df["human_ratio"] < limits.min_human_ratio)


def too_much_human(df: pd.DataFrame, limits: CleanseParams) -> pd.Series[bool]:
    """People fill the picture."""
    return df["human_ratio"] > limits.max_human_ratio


def specks(df: pd.DataFrame, limits: CleanseParams) -> pd.Series[bool]:
    """There are people, but even the tallest is too low to be watched."""
    return df["is_human"] & (df["max_component_height"] < limits.min_component_height)


def close_up(df: pd.DataFrame, limits: CleanseParams) -> pd.Series[bool]:
    """A portrait, not a camera's view: by its score, or because one person is too large or cut on too many sides."""
    portrait = df["surveillance_score"] < limits.min_surveillance_score
    large = df["largest_component_ratio"] > limits.max_component_ratio
    return df["is_human"] & (portrait | large | (df["borders_touched"] > limits.max_borders_touched))


RULES: tuple[Rule, ...] = (too_small, blank, too_much_ignore, too_little_human, too_much_human, specks, close_up)
"""In order; a picture gets the first reason that applies. A rule's name is its reason code."""


def duplicate(df: pd.DataFrame, limits: CleanseParams) -> pd.Series[str]:
    """Image and mask equal those of a preferred picture byte for byte; which one, by row, '' for none."""
    ordered = preferred_order(df)
    keeper = ordered.groupby("sha256")["sample_id"].transform("first")
    return keeper.where(keeper != ordered["sample_id"], "").reindex(df.index)


def near_duplicate(df: pd.DataFrame, limits: CleanseParams) -> pd.Series[str]:
    """The picture looks like a preferred one, to which its perceptual hash is close; which one, by row, '' for none."""
    ordered = preferred_order(df)
    keeper = near_duplicates(ordered["phash"], limits.near_duplicate_bits)
    names = pd.Series(ordered["sample_id"].to_numpy()[keeper], index=ordered.index, dtype="str")
    return names.where(names != ordered["sample_id"], "").reindex(df.index)


COPIES: tuple[CopyRule, ...] = (duplicate, near_duplicate)
"""What is judged after `RULES`, among the pictures that are still kept."""


def cleanse(params: Params, df: pd.DataFrame) -> pd.DataFrame:
    """Mark what the rules of ``params.cleanse`` remove.

    Every rule sees the rows that are still kept: what could not be read stays ``unreadable``, and a copy of a removed
    picture is judged on its own. Of copies the one in a test pool stays, else the first by name; the others name it in
    ``duplicate_of``. Afterwards no two kept pictures have hashes within ``near_duplicate_bits`` of each other.

    Args:
        params: ``cleanse`` is read.
        df: The analysed manifest of all sources, with unique labels in the index.

    Returns:
        A copy with all rows; ``status``, ``reason`` and ``duplicate_of`` are filled.

    Raises:
        DataError: A picture with people has no surveillance score yet, or a kept row no perceptual hash.
    """
    unscored = df[(df["status"] == "kept") & df["is_human"] & (df["surveillance_score"] == 0.0)]
    if not unscored.empty:
        raise DataError(unscored["sample_id"].iloc[0], "has no surveillance score", "run the analyse stage first")
    result = df.copy()
    for rule in RULES:
        kept = result[result["status"] == "kept"]
        hit = kept.index[rule(kept, params.cleanse)]
        result.loc[hit, ["status", "reason"]] = ["removed", rule.__name__]
    for copies in COPIES:
        kept = result[result["status"] == "kept"]
        original = copies(kept, params.cleanse)
        hit = original.index[original != ""]
        result.loc[hit, ["status", "reason"]] = ["removed", copies.__name__]
        result.loc[hit, "duplicate_of"] = original[hit]
    # The original of a byte for byte copy may itself have become the near duplicate of a third picture.
    further = result.loc[result["duplicate_of"] != ""].set_index("sample_id")["duplicate_of"]
    result["duplicate_of"] = result["duplicate_of"].map(lambda name: further.get(name, name))
    return result


def write_cleansing_report(params: Params, df: pd.DataFrame, root: Path, report_dir: Path) -> dict[str, Any]:
    """Write ``report.json``, ``suspects.csv``, contact sheets (JPEG) and ``index.html``, which shows them.

    "Before" means every picture that could be read, "after" those that are kept; mean heights are over pictures with
    people, mean human shares over all. Equal data gives equal bytes. Sheets of an earlier report are removed.

    Args:
        params: The parameters that `cleanse` was given.
        df: The cleansed manifest.
        root: Folder that its paths are relative to; a file that is missing there becomes a tile that says so.
        report_dir: Where the report goes; made if it is not there.

    Returns:
        What ``report.json`` holds: ``thresholds``, ``images``, ``kept``, ``removed`` (by reason),
        ``removed_by_source``, ``before``, ``after``, ``by_source``, ``by_surveillance_score``, ``suspects`` (by code)
        and ``suspects_kept``.

    Raises:
        StorageError: The report cannot be written.
    """
    report = _statistics(params, df)
    sheets = choose_sheets(df, root)
    for sheet in sheets:
        write_atomic(report_dir / sheet.file_name, contact_sheet(sheet.tiles))
    page = render_page(report, sheets, rules(params) | suspicions(params))
    write_atomic(report_dir / "index.html", page.encode())
    listed = df.loc[df["suspect"] != "", ["sample_id", "suspect", "status", "reason", "image_path", "mask_path"]]
    write_atomic(report_dir / "suspects.csv", listed.to_csv(index=False, lineterminator="\n").encode())
    write_atomic(report_dir / "report.json", (json.dumps(report, indent=2) + "\n").encode())
    for stale in set(report_dir.glob("*.jpg")) - {report_dir / sheet.file_name for sheet in sheets}:
        with contextlib.suppress(OSError):
            stale.unlink()
    return report


def _statistics(params: Params, df: pd.DataFrame) -> dict[str, Any]:
    before, after = df[df["reason"] != "unreadable"], df[df["status"] == "kept"]
    removed = df[df["status"] == "removed"]
    return {
        "thresholds": params.cleanse.model_dump(),
        "images": len(df),
        "kept": len(after),
        "removed": _counts(removed["reason"]),
        "removed_by_source": {str(name): _counts(rows["reason"]) for name, rows in removed.groupby("source")},
        "before": _means(before),
        "after": _means(after),
        "by_source": {
            str(name): {"before": _means(rows), "after": _means(rows[rows["status"] == "kept"])}
            for name, rows in before.groupby("source")
        },
        "by_surveillance_score": _by_score(before[before["is_human"]]),
        "suspects": _counts(_codes(df)),
        "suspects_kept": _counts(_codes(after)),
    }


def _by_score(people: pd.DataFrame) -> list[dict[str, Any]]:
    number = (people["surveillance_score"] * _SCORE_BINS).astype("int64").clip(upper=_SCORE_BINS - 1)
    table = []
    for index in range(_SCORE_BINS):
        rows = people[number == index]
        kept = int((rows["status"] == "kept").sum())
        edges = {"from": index / _SCORE_BINS, "to": (index + 1) / _SCORE_BINS}
        means = {name: value for name, value in _means(rows).items() if name.startswith("mean")}
        table.append({**edges, "before": len(rows), "after": kept, **means})
    return table


def _means(df: pd.DataFrame) -> dict[str, Any]:
    people = df[df["is_human"]]
    return {
        "images": len(df),
        "with_people": len(people),
        "mean_human_ratio": _mean(df["human_ratio"]),
        "mean_tallest_ratio": _mean(people["tallest_ratio"]),
    }


def _mean(values: pd.Series[float]) -> float | None:
    return round(float(values.mean()), 6) if len(values) else None


def _codes(df: pd.DataFrame) -> pd.Series[str]:
    return df.loc[df["suspect"] != "", "suspect"].str.split(",").explode()


def _counts(codes: pd.Series[str]) -> dict[str, int]:
    return {str(code): int(count) for code, count in codes.value_counts().sort_index().items()}
