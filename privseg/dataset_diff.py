"""What changed between two versions of the dataset: samples, splits, removals, parameters, distributions."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from privseg.dataset_checkout import manifest_file
from privseg.dataset_store import read_yaml
from privseg.dataset_versions import show
from privseg.errors import DataError

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["compare_manifests", "diff"]

EXAMPLES = 20
_COLUMNS = ("sample_id", "source", "split", "status", "reason", "sha256", "is_human", "human_ratio", "tallest_ratio")
_NEEDED = _COLUMNS[:-1]  # the last came with a later privseg
# What comes after the dataset has no part in it.
_LATER = ("profile", "public_sources", "candidates", "train", "benchmark", "select", "export")


def diff(workspace: Path, first: str, second: str) -> dict[str, Any]:
    """Compare two versions by their manifests and parameters; the workspace stays as it is.

    Args:
        workspace: Whose versions they are.
        first: Full name of the version before.
        second: Full name of the version after.

    Returns:
        JSON-ready: ``from``, ``to``, all that `compare_manifests` gives, and ``parameters``: by dotted name, those of
        the dataset that differ, each with ``from`` and ``to``.

    Raises:
        DataError: A manifest is missing or cannot be read.
        ServerUnavailableError: A manifest is on a server only, and that does not answer.
    """
    before, after = (_read(manifest_file(workspace, version), version) for version in (first, second))
    return {
        "from": first,
        "to": second,
        **compare_manifests(before, after),
        "parameters": _parameters(workspace, first, second),
    }


def compare_manifests(before: pd.DataFrame, after: pd.DataFrame) -> dict[str, Any]:
    """Compare two manifests by sample_id.

    Returns:
        JSON-ready: ``kept``, the images in the dataset before and after; ``samples``, counts of ``added``, ``removed``,
        ``changed`` (other content), ``moved`` (kept in both, but in another split), ``judged`` (another status or
        reason; a sample may be several of these three) and ``same``; ``by_source``, the same by source; ``moved``,
        every moved sample with both splits; ``judged``, counts by ``kept → removed: reason``; ``examples``, up to 20
        samples of each kind; ``drift``, by measure the population stability index and what chance alone may make of it
        (`privseg.datasets.drift`), None where one side has no people or did not measure it.
    """
    before, after = (table.set_index("sample_id").sort_index() for table in (before, after))
    common = before.index.intersection(after.index)
    old, new = before.loc[common], after.loc[common]
    moved = (old["split"] != new["split"]) & (old["split"] != "") & (new["split"] != "")
    judged = (old["status"] != new["status"]) | (old["reason"] != new["reason"])
    changed = old["sha256"] != new["sha256"]
    kinds = {
        "added": after.loc[after.index.difference(before.index)],
        "removed": before.loc[before.index.difference(after.index)],
        "changed": new[changed],
        "moved": new[moved],
        "judged": new[judged],
        "same": new[~(moved | judged | changed)],
    }
    sources = sorted({*before["source"], *after["source"]})
    return {
        "kept": [int((table["status"] == "kept").sum()) for table in (before, after)],
        "samples": {kind: len(rows) for kind, rows in kinds.items()},
        "by_source": {
            source: {kind: int((rows["source"] == source).sum()) for kind, rows in kinds.items()} for source in sources
        },
        "moved": [
            {"sample_id": name, "from": old.at[name, "split"], "to": new.at[name, "split"]} for name in common[moved]
        ],
        "judged": _judgements(old[judged], new[judged]),
        "examples": {kind: rows.index[:EXAMPLES].tolist() for kind, rows in kinds.items() if kind != "same"},
        "drift": _drift(before, after),
    }


def _read(manifest: Path, version: str) -> pd.DataFrame:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        there = pq.read_schema(manifest).names
        frame: pd.DataFrame = pq.read_table(manifest, columns=[n for n in _COLUMNS if n in there]).to_pandas()
    except (OSError, pa.ArrowException) as error:
        raise DataError(manifest, f"is no readable manifest of {version} ({error})", f"rm {manifest}") from None
    lacking = [name for name in _NEEDED if name not in there]
    if lacking:
        raise DataError(f"manifest of {version}", f"has no column {lacking[0]}", "compare with another version")
    return frame


def _judgements(old: pd.DataFrame, new: pd.DataFrame) -> dict[str, int]:
    words = [
        table["status"].where(table["reason"] == "", table["status"] + ": " + table["reason"]) for table in (old, new)
    ]
    counts = (words[0] + " → " + words[1]).value_counts()
    return {str(change): int(count) for change, count in sorted(counts.items(), key=lambda item: (-item[1], item[0]))}


def _parameters(workspace: Path, first: str, second: str) -> dict[str, dict[str, Any]]:
    before, after = (
        _flat(read_yaml(show(workspace, version, "params.yaml") or "{}", f"{version}:params.yaml"))
        for version in (first, second)
    )
    names = sorted(name for name in before.keys() | after.keys() if name.split(".")[0] not in _LATER)
    return {
        name: {"from": before.get(name), "to": after.get(name)} for name in names if before.get(name) != after.get(name)
    }


def _flat(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for name, value in values.items():
        flat |= _flat(value, f"{prefix}{name}.") if isinstance(value, Mapping) else {f"{prefix}{name}": value}
    return flat


def _drift(before: pd.DataFrame, after: pd.DataFrame) -> dict[str, dict[str, float] | None]:
    import numpy as np

    from privseg.datasets.drift import BINS, bins_of, chance_psi, psi

    people = [table[(table["status"] == "kept") & table["is_human"]] for table in (before, after)]
    result: dict[str, dict[str, float] | None] = dict.fromkeys(BINS)
    for measure, edges in BINS.items():
        if all(measure in rows and len(rows) for rows in people):
            counts = [np.bincount(bins_of(rows, measure), minlength=len(edges) - 1).tolist() for rows in people]
            result[measure] = {"psi": round(psi(*counts), 4), "chance": round(chance_psi(*counts), 4)}
    return result
