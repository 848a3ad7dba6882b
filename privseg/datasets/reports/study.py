"""All that a report on a dataset shows: gathered once, then written as a page, as Markdown, as CSV and as plots."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from privseg.datasets.identify import read_identified
from privseg.datasets.ingest import read_people
from privseg.datasets.reports import tables
from privseg.datasets.reports.bins import Distributions, count
from privseg.datasets.reports.rules import rules, suspicions
from privseg.datasets.reports.tables import Table
from privseg.errors import DataError
from privseg.params import Params

__all__ = ["REPORT_COLUMNS", "Study", "gather"]


REPORT_COLUMNS = (
    *("sample_id", "source", "pool", "split", "status", "reason", "suspect"),
    *("is_human", "human_ratio", "surveillance_score", "tallest_ratio", "people"),
)
"""What reports count of a row; large manifests are best reduced to it."""


@dataclass(frozen=True)
class Study:
    """A dataset's report.

    Attributes:
        params: What it was made with.
        before: Rows of all pictures that were ingested, the columns that reports count.
        after: Those that were kept; None where nothing has been removed yet.
        people: Number of people before and after cleansing.
        tables: By name, in the order to show.
        distributions: What is plotted.
        version: The dataset's version; '' before cleansing.
    """

    params: Params
    before: pd.DataFrame
    after: pd.DataFrame | None
    people: tuple[int, int]
    tables: Mapping[str, Table]
    distributions: Distributions
    version: str = ""


def gather(
    params: Params, df: pd.DataFrame, *, identified: Path, ingested: Path, final: bool, version: str = ""
) -> Study:
    """Read what lies beside the manifest, and count.

    Args:
        params: Its sources are the ones reported, in their order.
        df: The rows: analysed ones, or, if ``final``, the manifest after the split.
        identified: Folder of ``<source>/identified.parquet``.
        ingested: Folder of ``<source>/people.parquet``.
        final: Cleansing is done: show what it changed.
        version: The dataset's version.

    Raises:
        DataError: A file is missing or broken, or is of another run than ``df``.
    """
    names = list(params.sources)
    if strangers := sorted(set(df["source"]) - set(names)):
        raise DataError(strangers[0], "is in the manifest, but no source in params.yaml", "dvc repro")
    pictures = {name: read_identified(identified / name / "identified.parquet")[["pool", "is_human"]] for name in names}
    rows = df[list(REPORT_COLUMNS)]
    people = pd.concat(
        [_people(ingested / name / "people.parquet", df["sample_id"]) for name in names], ignore_index=True
    )
    before = tables.readable(rows)
    after = rows[rows["status"] == "kept"] if final else None
    distributions = count(people, before, after)
    feet = distributions.feet
    return Study(
        params,
        before,
        after,
        (int(feet.before.sum()), int((feet.before if feet.after is None else feet.after).sum())),
        {table.name: table for table in _tables(params, pictures, rows, before, after)},
        distributions,
        version,
    )


def _people(path: Path, ids: pd.Series[str]) -> pd.DataFrame:
    """A source's people, each with the label of its picture's row in place of the picture's name."""
    people = read_people(path)
    place = pc.index_in(pa.array(people["sample_id"]), value_set=pa.array(ids)).to_pandas()
    if place.hasnans:
        unknown = people["sample_id"][place.isna()].iloc[0]
        raise DataError(path, f"has people of {unknown}, which the manifest does not know", "dvc repro")
    return people.drop(columns=["sample_id", "area"]).assign(row=ids.index.to_numpy()[place.to_numpy()])


def _tables(
    params: Params,
    pictures: Mapping[str, pd.DataFrame],
    df: pd.DataFrame,
    before: pd.DataFrame,
    after: pd.DataFrame | None,
) -> list[Table]:
    names = list(pictures)
    composition = Table(
        "composition",
        "Surveillance-like dataset: what the sources hold",
        "The pixel shares count the pictures with people and the added ones without.",
        tables.composition(params, pictures, df),
    )
    if after is None:
        doubts = Table(
            "suspects",
            "Labels that may be wrong",
            "Listed, not removed. A picture may have several suspicions.",
            tables.suspects(names, before, suspicions(params)),
        )
        by_score = Table("scores", "By surveillance score", _SCORE_NOTE, tables.scores(before))
        return [composition, by_score, doubts]
    return [
        composition,
        Table("cleansing", "Cleansing: before and after", "", tables.cleansing_shares(before, after)),
        Table(
            "cleansing_sizes",
            "Cleansing: what is left",
            "Pictures with people + without. Validation is the pool of official validation pictures.",
            tables.cleansing_sizes(before, after),
        ),
        Table("sources", "Cleansing by source", "", tables.sources(names, before, after)),
        Table(
            "reasons",
            "Removed, by reason",
            "A picture has the first reason that applies. Its row and its files stay.",
            tables.reasons(names, df, rules(params)),
        ),
        Table(
            "split",
            "Split",
            "The training pool gives the training and validation splits; the official validation pictures test.",
            tables.split_shares(after),
        ),
        Table(
            "split_sizes",
            "Split: sizes",
            "Pictures with people + without; removed: moved from training to validation.",
            tables.split_sizes(after),
        ),
        Table("splits_by_source", "Split by source", "", tables.splits_by_source(names, after)),
        Table("scores", "By surveillance score", _SCORE_NOTE, tables.scores(before, after)),
        Table(
            "suspects",
            "Kept labels that may be wrong",
            "Listed, not removed. A picture may have several suspicions; suspect_pictures.csv names them.",
            tables.suspects(names, after, suspicions(params)),
        ),
    ]


_SCORE_NOTE = "From 0, a portrait, to 1, a surveillance camera's view. Heights are shares of the picture's height."
