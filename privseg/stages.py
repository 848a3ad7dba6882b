"""The stages: what the commands of ``dvc.yaml`` do, one plain function each, run at the root of a workspace.

Everything heavy is imported inside the functions, so importing this module costs nothing.
"""

from __future__ import annotations

import math
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from privseg import dataset_versions
from privseg.errors import DataError, UsageError
from privseg.model_stages import (
    stage_champion,
    stage_evaluate,
    stage_export,
    stage_parity,
    stage_select,
    stage_train,
)
from privseg.params import Params, load_params
from privseg.stage_files import INGESTED, MANIFEST, REPORTS, VALIDATED, write_json

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["STAGES", "run_stage", "shares"]

IDENTIFIED = Path("data/identified")
ISOLATED = Path("data/isolated")
CHOSEN = Path("data/chosen")
ANALYSED = Path("data/analysed.parquet")
CLEANSED = Path("data/cleansed.parquet")
MERGED = Path("data/merged.parquet")
VALIDATION = REPORTS / "validation"
DATASET = REPORTS / "dataset.json"


def stage_identify(source: str) -> None:
    """Say which pictures of a source show people; only labels are read."""
    from privseg.datasets.identify import identify

    identify(load_params(), source, IDENTIFIED / source)


def stage_isolate() -> None:
    """Set the pictures with people apart, a source at a time."""
    from privseg.datasets.identify import read_identified
    from privseg.datasets.isolate import isolate, write_chosen

    names = sorted(load_params().sources)
    write_chosen(ISOLATED, {name: isolate(read_identified(_identified(name))) for name in names})


def stage_add_no_human() -> None:
    """Add each source's share of pictures without people."""
    from privseg.datasets.identify import read_identified
    from privseg.datasets.isolate import add_no_human, read_chosen, write_chosen

    chosen = {}
    for name, source in sorted(load_params().sources.items()):
        isolated = read_chosen(ISOLATED / f"{name}.parquet")
        chosen[name] = add_no_human(read_identified(_identified(name)), isolated, source.no_human_share)
    write_chosen(CHOSEN, chosen)


def stage_ingest(source: str) -> None:
    """Binarise what was chosen of a source: fixed-size pictures, masks and their manifest."""
    from privseg.datasets.ingest import ingest

    ingest(load_params(), source, INGESTED / source, chosen=CHOSEN / f"{source}.parquet")


def stage_ingest_shard(which: str) -> None:
    """Ingest one shard, ``source:index/count``; not a DVC stage but a part of one."""
    from privseg.datasets.ingest import ingest_shards

    source, _, share = which.partition(":")
    index, _, count = share.partition("/")
    if not (index.isdecimal() and count.isdecimal() and int(index) < int(count)):
        raise UsageError(which, "names no shard", "say it as source:index/count, index from 0")
    ingest_shards(
        load_params(), source, CHOSEN / f"{source}.parquet", INGESTED / source, index=int(index), count=int(count)
    )


def stage_analyse() -> None:
    """Put the sources' manifests side by side, score every picture, list label suspects; tables and plots."""
    from privseg.datasets.analyze import analyze, write_analysis
    from privseg.datasets.manifest import write_manifest

    params = load_params()
    analysed = analyze(params, _manifests(params))
    write_manifest(ANALYSED, analysed)
    write_analysis(params, analysed, identified=IDENTIFIED, ingested=INGESTED, report_dir=REPORTS / "analysis")


def stage_cleanse() -> None:
    """Mark what is unfit to learn from, each picture with its reason; contact sheets show every rule at work."""
    from privseg.datasets.cleanse import cleanse, write_cleansing_report
    from privseg.datasets.manifest import read_manifest, write_manifest

    params = load_params()
    cleansed = cleanse(params, read_manifest(ANALYSED))
    write_manifest(CLEANSED, cleansed)
    write_cleansing_report(params, cleansed, INGESTED, REPORTS / "cleansing")


def stage_merge() -> None:
    """Make one dataset of the cleansed sources, with the overall share of pictures without people."""
    from privseg.datasets.manifest import read_manifest, write_manifest
    from privseg.datasets.merge import merge

    before = read_manifest(CLEANSED)
    merged = merge(load_params(), before)
    write_manifest(MERGED, merged)
    write_json(REPORTS / "merge.json", _counts(merged))


def stage_split() -> None:
    """Assign kept images to train, validation and test."""
    from privseg.datasets.manifest import read_manifest, write_manifest
    from privseg.datasets.split import split

    manifest = split(load_params(), read_manifest(MERGED))
    write_manifest(MANIFEST, manifest)
    write_json(REPORTS / "split.json", _counts(manifest))


def stage_reevaluate() -> None:
    """Describe the result as the study does: tables, plots, the README of the dataset version, one page."""
    from privseg.datasets.drift import distribution
    from privseg.datasets.manifest import read_manifest
    from privseg.datasets.reevaluate import reevaluate

    summary = reevaluate(
        load_params(),
        identified=IDENTIFIED,
        ingested=INGESTED,
        analysed=ANALYSED,
        manifest=MANIFEST,
        report_dir=REPORTS / "dataset",
    )
    write_json(DATASET, summary | {"distribution": distribution(read_manifest(MANIFEST))})


def stage_validate() -> None:
    """Run the gate; a critical failure raises, so that nothing is trained on bad data."""
    from privseg.datasets.manifest import dataset_version, read_manifest
    from privseg.datasets.validate import validate

    baseline = _baseline(dataset_version(read_manifest(MANIFEST)))
    report = validate(load_params(), MANIFEST, INGESTED, VALIDATION, baseline=baseline)
    report.raise_if_failed()
    write_json(VALIDATED, {"dataset_version": report.dataset_version})


STAGES = {
    "identify": stage_identify,
    "isolate": stage_isolate,
    "add_no_human": stage_add_no_human,
    "ingest": stage_ingest,
    "ingest_shard": stage_ingest_shard,
    "analyse": stage_analyse,
    "cleanse": stage_cleanse,
    "merge": stage_merge,
    "split": stage_split,
    "reevaluate": stage_reevaluate,
    "validate": stage_validate,
    "train": stage_train,
    "evaluate": stage_evaluate,
    "champion": stage_champion,
    "select": stage_select,
    "export": stage_export,
    "parity": stage_parity,
}


def shares(root: Path, source: str) -> int:
    """How many tasks a source of a workspace is worth: one for ``shard_size`` samples, at most ``ingest.workers``."""
    from privseg.datasets.isolate import read_chosen

    limits = load_params(root / "params.yaml").ingest
    chosen = len(read_chosen(root / CHOSEN / f"{source}.parquet"))
    return min(limits.workers, math.ceil(chosen / limits.shard_size))


def run_stage(name: str, argument: str | None) -> None:
    """Run one stage by name: the body of ``privseg stage NAME [ARGUMENT]``."""
    if name not in STAGES:
        raise UsageError(name, "is not a stage", f"use one of {', '.join(STAGES)}")
    if not Path("dvc.yaml").is_file():
        raise UsageError(Path.cwd(), "is not a workspace", "privseg workspace, then run the stage there")
    function: Any = STAGES[name]
    print(f"{name} {argument or ''}".strip(), file=sys.stderr, flush=True)
    if argument is None:
        function()
    else:
        function(argument)


def _baseline(version: str) -> Path | None:
    """What the version before says of its people; None where there is none, or it counted them in another way."""
    from privseg.datasets.drift import read_baseline

    previous = dataset_versions.previous_summary(Path.cwd(), version, str(DATASET))
    if previous is None:
        return None
    path = Path(".dvc/tmp/baseline.json")
    write_json(path, previous)
    try:
        read_baseline(path)
    except DataError as error:
        print(f"no drift check: the version before {error.fault}", file=sys.stderr, flush=True)
        return None
    return path


def _identified(source: str) -> Path:
    return IDENTIFIED / source / "identified.parquet"


def _manifests(params: Params) -> list[Path]:
    return [INGESTED / name / "manifest.parquet" for name in sorted(params.sources)]


def _counts(df: pd.DataFrame) -> dict[str, Any]:
    """What a manifest holds, by source: kept pictures with and without people, splits, reasons."""
    counts: dict[str, Any] = {}
    for source, rows in df.groupby("source", sort=True):
        kept, removed = rows[rows["status"] == "kept"], rows[rows["status"] == "removed"]
        people = int(kept["is_human"].sum())
        counts[str(source)] = {
            "images": len(rows),
            "kept_with_people": people,
            "kept_without_people": len(kept) - people,
            "splits": {str(name): int(count) for name, count in kept["split"].value_counts().items() if name},
            "removed": {str(reason): int(count) for reason, count in removed["reason"].value_counts().items()},
        }
    return counts
