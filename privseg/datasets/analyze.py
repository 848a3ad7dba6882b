"""Analyse: a dataset in numbers, for reports and DVC metrics."""

from __future__ import annotations

from typing import Any

import pandas as pd

from privseg.datasets.manifest import dataset_version

__all__ = ["SPLITS", "summarize"]

SPLITS = ("train", "validation", "test")


def summarize(df: pd.DataFrame) -> dict[str, Any]:
    """Count a manifest, a source at a time and in total.

    Returns:
        JSON-ready: ``{"dataset_version": ..., "sources": {name: table}, "total": table}``, where a table holds
        ``images``, ``kept``, ``removed`` (by reason), ``train``, ``validation``, ``test``, ``with_people`` (kept
        images that show a person) and ``mean_human_ratio`` (by split; None where there is no image).
    """
    return {
        "dataset_version": dataset_version(df),
        "sources": {str(name): _table(rows) for name, rows in df.groupby("source", sort=True)},
        "total": _table(df),
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
        "mean_human_ratio": {
            name: round(float(rows["human_ratio"].mean()), 6) if len(rows) else None for name, rows in by_split.items()
        },
    }
