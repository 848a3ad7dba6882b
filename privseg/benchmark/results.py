"""All candidates' results and the choice among them in one file, and as tables for DVC's plots and metrics."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pandas as pd

from privseg.benchmark.select import read_result
from privseg.benchmark.study import study_figures
from privseg.datasets.manifest import write_atomic
from privseg.errors import DataError, StorageError, UsageError

__all__ = ["RESULTS_FILE", "SCHEMA_VERSION", "gather_results", "write_results", "write_tables"]

RESULTS_FILE = "results.json"
SCHEMA_VERSION = 1
_FIGURES = ("iou_human", "mean_iou", "dice", "precision", "recall", "boundary_f")
_SECTIONS = {
    "accuracy": (*_FIGURES, "iou_background", "pixel_accuracy", "person_miss_rate", "person_height_buckets"),
    "complexity": ("parameters", "flops", "flops_by_shape", "flops_convention", "model_bytes", "peak_memory_bytes"),
    "speed": ("runtime", "height", "width", "p50_ms", "p95_ms", "fps"),
    "hardware": ("cpu", "logical_cpus", "threads", "memory_bytes", "gpu", "system", "versions"),
    "training": ("iterations", "seconds"),
}


def gather_results(results: list[Path], selection: dict[str, Any]) -> dict[str, Any]:
    """Put every candidate's result and the selection side by side.

    Args:
        results: Files that ``evaluate`` or ``write_failed`` wrote.
        selection: What ``select`` gave.

    Returns:
        JSON-ready: ``schema_version``; ``winner``, ``rule``, ``outcome``, ``reason``, ``champion`` and ``bootstrap`` as
        ``select`` has them; ``candidates``, best score first, each its result with ``score``, ``accepted`` and
        ``reason``; ``failed``, each ``candidate`` and ``reason``; ``study``, the published figures.

    Raises:
        UsageError: No results.
        DataError: A result cannot be used, or the selection is of other candidates.
    """
    if not results:
        raise UsageError("report", "got no benchmark result", "dvc repro evaluate")
    judged = {row["candidate"]: row for row in selection["candidates"]}
    read = [_read_whole(path) for path in results]
    measured = {result["candidate"]: result for result in read if "failed" not in result}
    failed = {result["candidate"]: result["failed"] for result in read if "failed" in result}
    covered = judged.keys() | {row["candidate"] for row in selection["failed"]}
    if missing := sorted((measured.keys() | failed.keys()) ^ covered):
        again = "in the workspace: dvc repro --force --single-item select"
        raise DataError("selection", f"does not cover the same candidates ({missing[0]})", again)
    return {
        "schema_version": SCHEMA_VERSION,
        **{key: selection[key] for key in ("winner", "outcome", "reason", "rule", "champion", "bootstrap")},
        "candidates": [
            {key: row[key] for key in ("candidate", "score", "accepted", "reason")} | measured[name]
            for name, row in judged.items()
        ],
        "failed": [{"candidate": name, "reason": reason} for name, reason in failed.items()],
        "study": study_figures(),
    }


def write_results(results: dict[str, Any], out_file: Path) -> None:
    """Write what ``gather_results`` gave as JSON.

    Raises:
        StorageError: The disk is full or the file cannot be written.
    """
    write_atomic(out_file, (json.dumps(results, indent=2) + "\n").encode())


def write_tables(results: dict[str, Any], folder: Path) -> None:
    """Write what DVC plots and compares between revisions.

    - ``overall.csv``: a row a candidate, its main figures and whether it won;
    - ``speed.csv``: a row a timing;
    - ``miss_rate.csv``: a row a candidate and height of people;
    - ``metrics/CANDIDATE.json``: the main figures again, a file a candidate, which ``dvc metrics`` shows as a row.

    Raises:
        StorageError: The disk is full or a file cannot be written.
    """
    rows = results["candidates"]
    figures = {row["candidate"]: _figures(row) for row in rows}
    overall = [{"candidate": name, **row, "winner": name == results["winner"]} for name, row in figures.items()]
    speed = [{"candidate": row["candidate"]} | timing for row in rows for timing in row["measurements"]]
    missed = [
        {"candidate": row["candidate"], "height": height} | counts
        for row in rows
        for height, counts in row["accuracy"]["person_miss_rate"].items()
    ]
    for name, table in (("overall", overall), ("speed", speed), ("miss_rate", missed)):
        write_atomic(folder / f"{name}.csv", pd.DataFrame(table).to_csv(index=False, lineterminator="\n").encode())
    metrics = {folder / "metrics" / f"{name}.json": row for name, row in figures.items()}
    for path, row in metrics.items():
        write_atomic(path, (json.dumps(row, indent=2) + "\n").encode())
    try:
        for path in set((folder / "metrics").glob("*.json")) - set(metrics):
            path.unlink()
    except OSError as error:
        raise StorageError.from_os_error(folder, error) from error


def _figures(row: dict[str, Any]) -> dict[str, float]:
    accuracy, speed, complexity = row["accuracy"], row["speed"], row["complexity"]
    return {
        "score": row["score"],
        **{name: accuracy[name] for name in _FIGURES},
        "person_miss_rate": accuracy["person_miss_rate"]["all"]["rate"],
        "p50_ms": speed["p50_ms"],
        "fps": speed["fps"],
        "parameters": complexity["parameters"],
        "flops": complexity["flops"],
    }


def _read_whole(path: Path) -> dict[str, Any]:
    """Read a result of this version, with everything the page shows."""
    result = read_result(path)
    if "failed" not in result:
        lacking = [
            name
            for name in ("measurements", "load_average", "images", "people_images", "threshold")
            if name not in result
        ]
        lacking += [
            f"{section}.{n}" for section, names in _SECTIONS.items() for n in names if n not in result.get(section, {})
        ]
        again = f"in the workspace: dvc repro --force --single-item evaluate@{path.parent.name}"
        if lacking:
            raise DataError(path, f"is the result of another version (it has no {lacking[0]})", again)
    return result
