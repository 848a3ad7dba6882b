"""The study's tables of a dataset, with its own columns, as frames that are written as CSV, HTML and Markdown.

A cell is an int, a float, a text, or None where a row has no such figure. Human pixel shares are means over the
pictures that the row counts, those without people included, as in the study; it calls the pool of official validation
pictures *Test* where it counts and *validation* where it averages, and so do these tables.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from privseg.datasets.manifest import write_atomic
from privseg.datasets.split import SPLITS
from privseg.params import Params

__all__ = [
    "POOLS",
    "Table",
    "cleansing_shares",
    "cleansing_sizes",
    "composition",
    "mean_share",
    "readable",
    "reasons",
    "score_bins",
    "scores",
    "sources",
    "split_shares",
    "split_sizes",
    "splits_by_source",
    "suspects",
    "write_tables",
]

POOLS = ("train", "test")
UNREADABLE = "unreadable"
NO_PEOPLE = "no people"
TOTAL = "TOTAL"
_TRAINING, _VALIDATION, _TEST = (f"Human Pixels % ({name})" for name in ("training", "validation", "test"))
_SCORE_EDGES = np.arange(11) / 10
_SCORE_LABELS = tuple(f"{tenth / 10:.1f}-{(tenth + 1) / 10:.1f}" for tenth in range(10))
_DIGITS = 6  # of shares: more would change with nothing but the order of summation


@dataclass(frozen=True)
class Table:
    """A table and the words around it; ``name`` is the name of its file."""

    name: str
    title: str
    note: str
    frame: pd.DataFrame


def readable(df: pd.DataFrame) -> pd.DataFrame:
    """The rows of pictures that were ingested: all but the unreadable."""
    return df[df["reason"] != UNREADABLE]


def mean_share(rows: pd.DataFrame) -> float | None:
    """Mean human share of the pictures in ``rows``, 0..1; None without any."""
    return _mean(rows["human_ratio"])


def composition(params: Params, identified: Mapping[str, pd.DataFrame], rows: pd.DataFrame) -> pd.DataFrame:
    """What the sources hold, which pictures show people, and what was ingested of them, a source a row.

    Args:
        params: Sources and the shape of ingested pictures.
        identified: By source, all its pictures: columns ``pool`` and ``is_human``.
        rows: The ingested rows of all sources, as they were before cleansing.
    """
    shape = f"{params.image.size}x{params.image.size}"
    everything = pd.concat([table[["pool", "is_human"]] for table in identified.values()], ignore_index=True)
    ingested = readable(rows)
    parts = [(name, table, ingested[ingested["source"] == name]) for name, table in identified.items()]
    return _frame(_composition_row(*part, shape) for part in [*parts, (TOTAL, everything, ingested)])


def _composition_row(name: str, found: pd.DataFrame, ingested: pd.DataFrame, shape: str) -> dict[str, Any]:
    train, test = (found["pool"] == pool for pool in POOLS)
    used_train, used_test = (ingested[ingested["pool"] == pool] for pool in POOLS)
    people = int(ingested["is_human"].sum())
    return {
        "Original Dataset": name,
        "shape": "" if name == TOTAL else shape,
        "Total Size": len(found),
        "Train Size": int(train.sum()),
        "Test Size": int(test.sum()),
        "Human Train Size": int((train & found["is_human"]).sum()),
        "Human Test Size": int((test & found["is_human"]).sum()),
        "+ No-human images": _percent(len(ingested) - people, people),
        "Human Train Size (with no-human)": len(used_train),
        "Human Test Size (with no-human)": len(used_test),
        _TRAINING: mean_share(used_train),
        _VALIDATION: mean_share(used_test),
    }


def cleansing_shares(before: pd.DataFrame, after: pd.DataFrame) -> pd.DataFrame:
    """Sizes and human pixel shares of both pools before (Old) and after cleansing and merging (New)."""
    rows = []
    for name, part in (("Old", before), ("New", after)):
        train, test = (part[part["pool"] == pool] for pool in POOLS)
        rows.append(
            {
                "Dataset": name,
                "Human Train Size": len(train),
                "Human Test Size": len(test),
                _TRAINING: mean_share(train),
                _VALIDATION: mean_share(test),
            }
        )
    return _frame(rows)


def cleansing_sizes(before: pd.DataFrame, after: pd.DataFrame) -> pd.DataFrame:
    """What is left of both pools, with people + without, and how many pictures were removed."""
    rows = []
    for name, pool in (("Validation", "test"), ("Training", "train")):
        left = after[after["pool"] == pool]
        removed = int((before["pool"] == pool).sum()) - len(left)
        rows.append({"New Dataset": name, "Total+noHuman": _sum(left), "Removed": removed})
    return _frame(rows)


def split_shares(after: pd.DataFrame) -> pd.DataFrame:
    """Sizes and human pixel shares before the split (new: the two pools) and after it (Result: the three splits)."""
    train, test = (after[after["pool"] == pool] for pool in POOLS)
    parts = {"new": (train, test, None), "Result": tuple(after[after["split"] == name] for name in SPLITS)}
    sizes = ("Human Train Size", "Human Validation Size", "Human Test Size")
    return _frame(
        {
            "Dataset": name,
            **{column: None if part is None else len(part) for column, part in zip(sizes, three, strict=True)},
            **{
                column: None if part is None else mean_share(part)
                for column, part in zip((_TRAINING, _VALIDATION, _TEST), three, strict=True)
            },
        }
        for name, three in parts.items()
    )


def split_sizes(after: pd.DataFrame) -> pd.DataFrame:
    """The splits, with people + without; from the training pool the validation split was taken away."""
    splits = {name: after[after["split"] == name] for name in SPLITS}
    moved = {"train": int((after["pool"] == "train").sum()) - len(splits["train"])}
    names = {"Validation": "validation", "Training": "train", "Test": "test"}
    return _frame(
        {"New Dataset": title, "Total+noHuman": _sum(splits[name]), "Removed": moved.get(name)}
        for title, name in names.items()
    )


def splits_by_source(names: Sequence[str], after: pd.DataFrame) -> pd.DataFrame:
    """Kept pictures of every source by split, and its share of the dataset."""
    parts = [(name, after[after["source"] == name]) for name in names]
    return _frame(
        {
            "Dataset": name,
            **{split.capitalize(): int((part["split"] == split).sum()) for split in SPLITS},
            "Total+noHuman": _sum(part),
            "Share of the dataset": _percent(len(part), len(after)),
        }
        for name, part in [*parts, (TOTAL, after)]
    )


def sources(names: Sequence[str], before: pd.DataFrame, after: pd.DataFrame) -> pd.DataFrame:
    """Old and New for every source."""
    parts = [(name, before[before["source"] == name], after[after["source"] == name]) for name in names]
    return _frame(
        {
            "Dataset": name,
            "Old": len(old),
            "New": len(new),
            "Removed": len(old) - len(new),
            "Removed %": _percent(len(old) - len(new), len(old)),
            "Human Pixels % (old)": mean_share(old),
            "Human Pixels % (new)": mean_share(new),
        }
        for name, old, new in [*parts, (TOTAL, before, after)]
    )


def reasons(names: Sequence[str], df: pd.DataFrame, rules: Mapping[str, str]) -> pd.DataFrame:
    """Removed pictures by reason and source, the unreadable included.

    Args:
        names: The sources, one a column.
        df: The whole manifest.
        rules: Reason code to what it removes; these come first and in this order, met or not.
    """
    removed = df[df["status"] == "removed"]
    counts = pd.crosstab(removed["reason"], removed["source"])
    codes = [*rules, *sorted(set(counts.index) - set(rules))]
    counts = counts.reindex(index=codes, columns=list(names), fill_value=0)
    rows = [(code, rules.get(code, ""), counts.loc[code]) for code in codes]
    return _frame(
        {"Reason": code, "Rule": rule, TOTAL: int(row.sum()), **{name: int(row[name]) for name in names}}
        for code, rule, row in [*rows, (TOTAL, "", counts.sum())]
    )


def score_bins(df: pd.DataFrame) -> pd.Series[str]:
    """Which tenth of the surveillance score a picture is in, as '0.3-0.4'; those without people are apart."""
    labels = np.array(_SCORE_LABELS)
    place = np.searchsorted(_SCORE_EDGES, df["surveillance_score"].to_numpy(), side="right") - 1
    return pd.Series(np.where(df["is_human"], labels[np.clip(place, 0, 9)], NO_PEOPLE), index=df.index, dtype=object)


def scores(before: pd.DataFrame, after: pd.DataFrame | None = None) -> pd.DataFrame:
    """Pictures by surveillance score; ``after``, a selection of ``before``, adds how many of them were kept."""
    bins = score_bins(before)
    parts = [(label, before[bins == label]) for label in (NO_PEOPLE, *_SCORE_LABELS)]
    kept = None if after is None else after.index
    return _frame(_score_row(label, part, kept) for label, part in [*parts, (TOTAL, before)])


def _score_row(label: str, part: pd.DataFrame, kept: pd.Index[Any] | None) -> dict[str, Any]:
    row: dict[str, Any] = {
        "surveillance_score": label,
        "Images": len(part),
        "Human Pixels %": mean_share(part),
        "Mean height of the tallest person": _mean(part.loc[part["is_human"], "tallest_ratio"]),
        "Mean number of people": _mean(part.loc[part["is_human"], "people"]),
    }
    if kept is None:
        return row
    left = int(part.index.isin(kept).sum())
    return row | {"Removed": len(part) - left, "Removed %": _percent(len(part) - left, len(part)), "Kept": left}


def suspects(names: Sequence[str], rows: pd.DataFrame, meanings: Mapping[str, str]) -> pd.DataFrame:
    """Pictures whose label may be wrong, by code and source; a picture may have several codes, TOTAL counts it once."""
    doubtful = rows[rows["suspect"] != ""]
    pairs = doubtful.assign(suspect=doubtful["suspect"].str.split(",")).explode("suspect")
    counts = pd.crosstab(pairs["suspect"], pairs["source"])
    codes = [*meanings, *sorted(set(counts.index) - set(meanings))]
    counts = counts.reindex(index=codes, columns=list(names), fill_value=0)
    once = doubtful["source"].value_counts().reindex(list(names), fill_value=0)
    parts = [(code, meanings.get(code, ""), counts.loc[code]) for code in codes]
    return _frame(
        {"Suspicion": code, "Why": why, TOTAL: int(row.sum()), **{name: int(row[name]) for name in names}}
        for code, why, row in [*parts, (TOTAL, "", once)]
    )


def write_tables(tables: Iterable[Table], folder: Path) -> None:
    """Write every table as ``<name>.csv``.

    Raises:
        StorageError: The disk is full or the place cannot be written.
    """
    for table in tables:
        write_atomic(folder / f"{table.name}.csv", table.frame.to_csv(index=False, lineterminator="\n").encode())


def _frame(rows: Iterable[dict[str, Any]]) -> pd.DataFrame:
    return pd.DataFrame(list(rows), dtype=object)  # object: a column may hold ints and a gap without becoming floats


def _sum(part: pd.DataFrame) -> str:
    people = int(part["is_human"].sum())
    return f"{people:,} + {len(part) - people:,}"


def _percent(count: int, whole: int) -> str | None:
    return f"{100 * count / whole:.1f}%" if whole else None


def _mean(values: pd.Series[Any]) -> float | None:
    return round(float(values.mean()), _DIGITS) if len(values) else None
