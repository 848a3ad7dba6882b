"""What is in a model repository, for people and programs: versions, which one serves, what was rejected and why."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from privseg.errors import GateFailedError
from privseg.serving.history import read_history
from privseg.serving.rejected import list_rejected
from privseg.serving.versions import accepted, list_versions, read_record

__all__ = ["Entry", "overview"]


@dataclass(frozen=True)
class Entry:
    """One version, or one candidate that never became one.

    Attributes:
        version: Its number; None for a refused candidate.
        state: ``serves``, ``kept``, ``unchecked`` (a publisher is at work on it, or died), ``damaged``; else the kind
            of rejection: ``rolled_back``, ``gatefailed``, ``interrupted``, ….
        candidate, dataset_version, created, sha256: From its record; None where it has none.
        promoted_from: The version this model was before, where an older one was promoted.
        reason: Why it was rejected, or what is damaged; ''.
        time: When that was, UTC; ''.
    """

    version: int | None
    state: str
    candidate: str | None
    dataset_version: str | None
    created: str | None
    sha256: str | None
    promoted_from: int | None = None
    reason: str = ""
    time: str = ""

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready."""
        return asdict(self)


def overview(repository: Path) -> list[Entry]:
    """List the versions on disk, oldest first, then what was rejected; nothing is hashed."""
    serving = accepted(repository)
    came_from = {
        event.get("version"): event.get("promoted_from")
        for event in read_history(repository)
        if event.get("event") == "promoted"
    }
    entries = []
    for version in list_versions(repository):
        state = "serves" if version == serving else "kept" if version < (serving or 0) else "unchecked"
        record: dict[str, Any] = {}
        reason = ""
        try:
            record = read_record(repository, version)
        except GateFailedError as error:
            state, reason = "damaged", error.fault
        entries.append(_entry(version, state, record, promoted_from=came_from.get(version), reason=reason))
    for rejected in list_rejected(repository):
        record = {"sha256": rejected.sha256 or None}
        entries.append(_entry(rejected.version, rejected.kind, record, reason=rejected.reason, time=rejected.time))
    return entries


def _entry(version: int | None, state: str, record: dict[str, Any], **more: Any) -> Entry:
    said: dict[str, Any] = {name: record.get(name) for name in ("candidate", "dataset_version", "created", "sha256")}
    return Entry(version=version, state=state, **said, **more)
