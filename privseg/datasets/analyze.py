"""Analyse: all sources as one table, scored and checked for doubtful labels; a dataset in numbers, tables and plots."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd

from privseg.datasets.manifest import dataset_version, merge_manifests
from privseg.datasets.reports.page import write_report
from privseg.datasets.reports.study import gather
from privseg.datasets.reports.tables import mean_share, readable, score_bins
from privseg.datasets.score import surveillance_score
from privseg.datasets.split import SPLITS
from privseg.datasets.suspects import suspects
from privseg.params import Params

__all__ = ["analyze", "summarize", "write_analysis"]


def analyze(params: Params, manifests: list[Path]) -> pd.DataFrame:
    """Merge ingested manifests; fill ``surveillance_score`` and ``suspect``, and leave everything else as it is.

    Args:
        params: ``cleanse`` holds the limits of suspicion.
        manifests: One a source.

    Returns:
        All rows, sorted by sample_id.

    Raises:
        UsageError: No manifest was given.
        DataError: A manifest is missing or broken, or two of them hold the same sample.
    """
    df = merge_manifests(manifests)
    df["surveillance_score"] = surveillance_score(df)
    df["suspect"] = suspects(df, params.cleanse)
    return df


def write_analysis(params: Params, df: pd.DataFrame, *, identified: Path, ingested: Path, report_dir: Path) -> None:
    """Write what the data looks like before cleansing: ``index.html``, ``tables/*.csv`` and ``plots/*``.

    Args:
        params: Its sources are the ones reported.
        df: What `analyze` returned.
        identified: Folder of ``<source>/identified.parquet``.
        ingested: Folder of ``<source>/people.parquet``.
        report_dir: Where to write.

    Raises:
        DataError: A file is missing or broken, or is of another run than ``df``.
        StorageError: The disk is full or the place cannot be written.
    """
    write_report(gather(params, df, identified=identified, ingested=ingested, final=False), report_dir)


def summarize(df: pd.DataFrame) -> dict[str, Any]:
    """Count a manifest, a source at a time and in total.

    Returns:
        JSON-ready: ``{"dataset_version": ..., "sources": {name: table}, "total": table, "scores": {bin: figures},
        "suspects": n}``. A table holds ``images``, ``kept``, ``removed`` (by reason), ``train``, ``validation``,
        ``test``, ``with_people`` (kept images that show a person) and ``mean_human_ratio`` (by split; None where there
        is no image). ``scores`` breaks down by tenth of the surveillance score (``0_3`` is 0.3 to 0.4; ``no_people``):
        ``images``, ``kept`` and the ``mean_human_ratio`` of the kept. ``suspects`` counts kept images.
    """
    kept = df["status"] == "kept"
    return {
        "dataset_version": dataset_version(df),
        "sources": {str(name): _table(rows) for name, rows in df.groupby("source", sort=True)},
        "total": _table(df),
        "scores": _scores(readable(df)),
        "suspects": int((kept & (df["suspect"] != "")).sum()),
    }


def _table(df: pd.DataFrame) -> dict[str, Any]:
    kept = df[df["status"] == "kept"]
    reasons = df.loc[df["status"] == "removed", "reason"].value_counts().sort_index()
    by_split = {name: kept[kept["split"] == name] for name in SPLITS}
    return {
        "images": len(df),
        "kept": len(kept),
        "removed": {str(reason): int(count) for reason, count in reasons.items()},
        **{name: len(rows) for name, rows in by_split.items()},
        "with_people": int(kept["is_human"].sum()),
        "mean_human_ratio": {name: mean_share(rows) for name, rows in by_split.items()},
    }


def _scores(df: pd.DataFrame) -> dict[str, Any]:
    """By bin; the names hold no dots, because DVC joins the names of nested metrics with them."""
    bins = score_bins(df).str.split("-").str[0].str.replace(".", "_").str.replace(" ", "_")
    kept = df["status"] == "kept"
    return {
        str(name): {
            "images": len(rows),
            "kept": int(kept[rows.index].sum()),
            "mean_human_ratio": mean_share(rows[kept[rows.index]]),
        }
        for name, rows in df.groupby(bins, sort=True)
    }
