"""Re-evaluate: the finished dataset against what went in: the study's tables, plots, a page, the version's README."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd

from privseg.datasets.analyze import summarize
from privseg.datasets.manifest import read_manifest, write_atomic
from privseg.datasets.reports.page import write_report
from privseg.datasets.reports.readme import render_readme
from privseg.datasets.reports.study import REPORT_COLUMNS, Study, gather
from privseg.datasets.reports.tables import mean_share
from privseg.errors import DataError
from privseg.params import Params

__all__ = ["reevaluate"]


def reevaluate(
    params: Params, *, identified: Path, ingested: Path, analysed: Path, manifest: Path, report_dir: Path
) -> dict[str, Any]:
    """Report on the dataset after the split: ``index.html``, ``README.md``, ``tables/*.csv`` and ``plots/*``.

    Args:
        params: What the dataset was made with.
        identified: Folder of ``<source>/identified.parquet``.
        ingested: Folder of ``<source>/people.parquet``.
        analysed: The rows before cleansing.
        manifest: The rows after the split.
        report_dir: Where to write.

    Returns:
        JSON-ready: what `summarize` gives, and ``cleansing`` with ``before`` and ``after``, each ``images``,
        ``with_people``, ``people``, ``mean_human_ratio``, and of the pictures with people
        ``mean_human_ratio_with_people`` and ``mean_surveillance_score``.

    Raises:
        DataError: A file is missing or broken, or the files are of different runs.
        StorageError: The disk is full or the place cannot be written.
    """
    earlier = _identities(read_manifest(analysed))
    df = read_manifest(manifest)
    if not earlier.equals(identities := _identities(df)):
        ids = set(earlier.items()) ^ set(identities.items())
        raise DataError(manifest, f"and the analysed rows differ in {min(ids)[0]}", "dvc repro")
    summary = summarize(df)
    version = str(summary["dataset_version"])
    doubtful = df.loc[(df["status"] == "kept") & (df["suspect"] != ""), ["sample_id", "split", "suspect", "mask_path"]]
    df = df[list(REPORT_COLUMNS)]
    study = gather(params, df, identified=identified, ingested=ingested, final=True, version=version)
    write_report(study, report_dir)
    text = doubtful.to_csv(index=False, lineterminator="\n")
    write_atomic(report_dir / "tables" / "suspect_pictures.csv", text.encode())
    write_atomic(report_dir / "README.md", render_readme(study).encode())
    return summary | {"cleansing": _cleansing(study)}


def _identities(df: pd.DataFrame) -> pd.Series[str]:
    """Digest by sample_id. Cleansing, merging and splitting drop no row and change no picture."""
    return df.set_index("sample_id")["sha256"].sort_index()


def _cleansing(study: Study) -> dict[str, Any]:
    parts = {"before": study.before, "after": study.before if study.after is None else study.after}
    return {
        name: {
            "images": len(rows),
            "with_people": int(rows["is_human"].sum()),
            "people": people,
            "mean_human_ratio": mean_share(rows),
            "mean_human_ratio_with_people": mean_share(rows[rows["is_human"]]),
            "mean_surveillance_score": _score(rows),
        }
        for (name, rows), people in zip(parts.items(), study.people, strict=True)
    }


def _score(rows: pd.DataFrame) -> float | None:
    people = rows.loc[rows["is_human"], "surveillance_score"]
    return round(float(people.mean()), 6) if len(people) else None
