"""Versions that were taken back, and candidates that were refused: what is remembered of them, and why they went."""

from __future__ import annotations

import contextlib
import json
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

__all__ = ["REFUSED", "REJECTED", "Rejected", "leave_reason", "list_rejected"]

REJECTED: Final = ".rejected"  # folder in the repository, out of Triton's sight
REFUSED: Final = "refused-"  # beginning of the name of a candidate that got no number
_REASON: Final = "reason.json"


@dataclass(frozen=True)
class Rejected:
    """A version that was taken back, or a candidate that never became one.

    Attributes:
        folder: Where it lies; a version's model is still in it, a refused candidate's never was.
        version: Its number; None for a candidate that got none.
        kind: ``gatefailed``, ``serverunavailable``, ``interrupted``, ``rolled_back`` and their like.
        reason: Why, one line; '' where the publisher died before it could say.
        time: When, UTC, ISO 8601; '' likewise.
        sha256: Hash of the model; '' if it is not known.
    """

    folder: Path
    version: int | None
    kind: str
    reason: str
    time: str
    sha256: str


def list_rejected(repository: Path) -> list[Rejected]:
    """Return what was taken back or refused and is still remembered: versions by number, then refused candidates."""
    folder = repository / REJECTED
    if not folder.is_dir():
        return []
    return sorted(map(_rejected, folder.iterdir()), key=lambda entry: (entry.version or 10**9, entry.folder.name))


def leave_reason(folder: Path, kind: str, reason: str, sha256: str) -> None:
    """Write ``reason.json`` into a rejected version's folder; a disk too full for it stops no rejection."""
    said = {"kind": kind, "reason": reason, "sha256": sha256, "time": datetime.now(UTC).isoformat(timespec="seconds")}
    with contextlib.suppress(OSError):
        (folder / _REASON).write_text(json.dumps(said, indent=2, sort_keys=True) + "\n", encoding="utf-8")


def _rejected(folder: Path) -> Rejected:
    number, _, kind = folder.name.partition("-")
    said: Any = None
    with contextlib.suppress(OSError, ValueError):
        said = json.loads((folder / _REASON).read_text(encoding="utf-8"))
    said = said if isinstance(said, dict) else {}
    return Rejected(
        folder,
        int(number) if number.isdigit() else None,
        str(said.get("kind", kind)),
        str(said.get("reason", "")),
        str(said.get("time", "")),
        str(said.get("sha256", "")),
    )
