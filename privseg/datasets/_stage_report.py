"""``report.json`` of the stages that count pictures."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pandas as pd

from privseg.datasets.manifest import write_atomic

__all__ = ["counts_by_pool", "write_report"]

_POOLS = ("train", "test")


def counts_by_pool(
    pool: pd.Series[str], is_human: pd.Series[bool], unreadable: pd.Series[bool]
) -> dict[str, dict[str, int]]:
    """Pictures by pool, and of ``all`` pools: in total, with people, without, unreadable."""
    rows = {name: pool == name for name in _POOLS} | {"all": pool.notna()}
    return {
        name: {
            "total": int(chosen.sum()),
            "with_people": int((chosen & is_human).sum()),
            "without_people": int((chosen & ~is_human & ~unreadable).sum()),
            "unreadable": int((chosen & unreadable).sum()),
        }
        for name, chosen in rows.items()
    }


def write_report(path: Path, report: dict[str, Any]) -> None:
    """Write a report as JSON, atomically.

    Raises:
        StorageError: The disk is full or the place cannot be written.
    """
    write_atomic(path, (json.dumps(report, indent=2, ensure_ascii=False) + "\n").encode())
