"""What is in a model repository, for people and programs: versions, which one serves, what was rejected and why."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Final

from privseg.errors import GateFailedError
from privseg.serving.access import Access
from privseg.serving.history import read_history
from privseg.serving.rejected import list_rejected
from privseg.serving.replicas import Replicas
from privseg.serving.versions import accepted, list_versions, read_record

__all__ = ["Entry", "overview", "with_requests"]

_ON_DISK: Final = ("serves", "kept", "unchecked", "damaged")  # and not a rejected one that had the same number


@dataclass(frozen=True)
class Entry:
    """One version, or one candidate that never became one.

    Attributes:
        version: Its number; None for a refused candidate.
        state: ``serves``, ``kept``, ``unchecked`` (a publisher is at work on it, or died), ``damaged``; ``loaded`` (a
            server has it, the repository has not); else the kind of rejection: ``rolled_back``, ``gatefailed``,
            ``interrupted``, ….
        candidate, dataset_version, created, sha256: From its record; None where it has none.
        promoted_from: The version this model was before, where an older one was promoted.
        reason: Why it was rejected, or what is damaged; ''.
        time: When that was, UTC; ''.
        servers: Servers that have it loaded; None where none was asked, as for the two below.
        answered, failed: Requests since those loaded it.
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
    servers: int | None = None
    answered: int | None = None
    failed: int | None = None

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


def with_requests(entries: list[Entry], endpoints: Sequence[str], access: Access | None = None) -> list[Entry]:
    """Ask every server what it has loaded and what it answered; add up for each version.

    Raises:
        UsageError: An endpoint is none, or the servers' key would go to another machine in clear.
        ServerUnavailableError: A server cannot be reached.
    """
    with Replicas(endpoints, access) as replicas:
        seen = [server.statistics() for server in replicas.servers]
    counted = []
    for entry in entries:
        here = [counts[entry.version] for counts in seen if entry.state in _ON_DISK and entry.version in counts]
        sums = {name: sum(getattr(requests, name) for requests in here) for name in ("answered", "failed")}
        counted.append(replace(entry, servers=len(here), **sums))
    listed = {entry.version for entry in entries if entry.state in _ON_DISK}
    for version in sorted({version for counts in seen for version in counts} - listed):
        here = [counts[version] for counts in seen if version in counts]
        answered, failed = sum(r.answered for r in here), sum(r.failed for r in here)
        loaded = Entry(version, "loaded", None, None, None, None, reason="a server has it, the repository has not")
        counted.append(replace(loaded, servers=len(here), answered=answered, failed=failed))
    return counted


def _entry(version: int | None, state: str, record: dict[str, Any], **more: Any) -> Entry:
    said: dict[str, Any] = {name: record.get(name) for name in ("candidate", "dataset_version", "created", "sha256")}
    return Entry(version=version, state=state, **said, **more)
