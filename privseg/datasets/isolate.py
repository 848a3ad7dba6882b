"""Isolate and add: of what was identified, the pictures with people, and then some without."""

from __future__ import annotations

import shutil
from pathlib import Path

import pandas as pd

from privseg.datasets._parquet import TableFile
from privseg.datasets._stage_report import write_report
from privseg.datasets.sharding.assembly import replace_folder, restore
from privseg.datasets.split import hash_share
from privseg.errors import StorageError

__all__ = [
    "CHOSEN_COLUMNS",
    "add_no_human",
    "chosen_frame",
    "isolate",
    "read_chosen",
    "write_chosen",
]

_CHOSEN = TableFile(
    "table of chosen pictures",
    {"name": "str", "pool": "str", "role": "str"},
    key=("name",),
    stage="isolate or add_no_human",
)
CHOSEN_COLUMNS: tuple[str, ...] = _CHOSEN.columns
_ROLES = ("human", "no_human", "unreadable")
chosen_frame = _CHOSEN.frame
read_chosen = _CHOSEN.read


def isolate(identified: pd.DataFrame) -> pd.DataFrame:
    """The pictures that show people, and those whose label cannot be used: they must not vanish unseen.

    Args:
        identified: What `identify.identify` returns.

    Returns:
        ``name``, ``pool`` and ``role`` (``human`` or ``unreadable``), sorted by name.
    """
    unreadable = identified["fault"] != ""
    rows = identified[identified["is_human"] | unreadable].copy()
    rows["role"] = rows["fault"].map(lambda fault: "unreadable" if fault else "human")
    return chosen_frame(rows)


def add_no_human(identified: pd.DataFrame, isolated: pd.DataFrame, share: float | None) -> pd.DataFrame:
    """Add pictures without people, which teach a model what is none.

    Args:
        identified: What `identify.identify` returns.
        isolated: What `isolate` makes of it.
        share: Pictures to add, per picture with people, in each pool: those whose names have the lowest hash, so that
            a new picture displaces few. All there are if None, or if there are fewer.

    Returns:
        ``isolated`` with more rows, of role ``no_human``; sorted by name.
    """
    without = identified[~identified["is_human"] & (identified["fault"] == "")]
    tables = [isolated]
    for pool, candidates in without.groupby("pool"):
        chosen = candidates
        if share is not None:
            people = int(((isolated["role"] == "human") & (isolated["pool"] == pool)).sum())
            order = candidates["name"].map(hash_share).sort_values(kind="stable").index
            chosen = candidates.loc[order[: round(share * people)]]
        tables.append(chosen_frame(chosen.assign(role="no_human")))
    return chosen_frame(pd.concat(tables, ignore_index=True))


def write_chosen(out_dir: Path, tables: dict[str, pd.DataFrame]) -> None:
    """Write what `isolate` or `add_no_human` chose: ``<source>.parquet`` each, and ``report.json``.

    The report counts by source and pool: chosen pictures in total, and by role.

    Args:
        out_dir: Destination; what is there is replaced.
        tables: By source.

    Raises:
        StorageError: The disk is full or the place cannot be written; an earlier result is left as it was.
    """
    folder = out_dir.with_name(f".{out_dir.name}.partial")
    try:
        restore(out_dir)
        if folder.exists():
            shutil.rmtree(folder)
        folder.mkdir(parents=True)
        for source, table in tables.items():
            _CHOSEN.write(folder / f"{source}.parquet", table)
        write_report(folder / "report.json", {"sources": {source: _counts(table) for source, table in tables.items()}})
        replace_folder(folder, out_dir)
    except OSError as error:
        raise StorageError.from_os_error(out_dir, error) from None


def _counts(chosen: pd.DataFrame) -> dict[str, dict[str, int]]:
    """Of each pool, and of all: chosen pictures in total, and by role."""
    counts = {}
    for name in ("train", "test", "all"):
        roles = chosen.loc[chosen["pool"].isin(["train", "test"] if name == "all" else [name]), "role"]
        counts[name] = {"total": len(roles), **{role: int((roles == role).sum()) for role in _ROLES}}
    return counts
