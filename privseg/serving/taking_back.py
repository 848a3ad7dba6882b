"""What follows when a candidate does not pass, or when the publisher itself did not live to see it."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from privseg.errors import GateFailedError, PrivsegError, StorageError, UsageError
from privseg.serving.activation import exam_of, restore_all
from privseg.serving.admin import Endpoint
from privseg.serving.artifact import read_artifact
from privseg.serving.history import note
from privseg.serving.versions import ROLLED_BACK, Store, current, verify

__all__ = ["in_words", "recover_from", "refusals_remembered", "sha256_of", "take_back"]


@contextlib.contextmanager
def refusals_remembered(store: Store, artifact: Path) -> Iterator[None]:
    """Remember, with the reason, a candidate that does not get past what is done in this block."""
    try:
        yield
    except GateFailedError as error:
        said = in_words(error)
        try:
            sha256 = read_artifact(artifact).sha256
        except PrivsegError:
            sha256 = ""
        store.refuse(_kind(type(error)), said, sha256)
        with contextlib.suppress(StorageError):
            note(store.repository, "refused", {"artifact": str(artifact), "sha256": sha256, "reason": said})
        raise


def take_back(store: Store, servers: Sequence[Endpoint], version: int, why: type[BaseException], said: str) -> str:
    """Move a version aside, bring the one before it back everywhere, and say in words how that went."""
    facts = {"version": version, "sha256": sha256_of(store.repository, version), "reason": said}
    store.reject(version, _kind(why), said)
    with contextlib.suppress(StorageError):
        note(store.repository, "taken_back", facts)
    return _bring_back(store, servers)


def _bring_back(store: Store, servers: Sequence[Endpoint]) -> str:
    previous = current(store.repository)
    troubles = restore_all(servers, previous, None if previous is None else exam_of(store.repository, previous))
    store.accept()
    serving = "no version serves" if previous is None else f"version {previous} serves again"
    said = ", ".join(f"{error.subject}: {error.fault}" for error in troubles)
    return f"{serving}, but not confirmed on {said}" if troubles else serving


def recover_from(store: Store, servers: Sequence[Endpoint]) -> None:
    """Finish what a publisher that was killed was doing: take a publication back, bring a roll back to its end."""
    found = store.unfinished()
    if found is None:
        return
    done = "was rolled back" if found.taking_down else "was taken back"
    if found.on_disk:
        reason = f"the publisher died; it {done}"
        store.reject(found.version, ROLLED_BACK if found.taking_down else "interrupted", reason)
        with contextlib.suppress(StorageError):
            note(store.repository, "interrupted", {"version": found.version, "reason": reason})
    outcome = _bring_back(store, servers)
    print(f"version {found.version} of an interrupted publication {done}; {outcome}", file=sys.stderr, flush=True)


def sha256_of(repository: Path, version: int) -> str | None:
    """Return the hash of an intact version; None for one that is damaged or not there."""
    try:
        return str(verify(repository, version)["sha256"])
    except (GateFailedError, UsageError):  # a damaged version is never reused; publishing replaces it
        return None


def _kind(error: type[BaseException]) -> str:
    return error.__name__.removesuffix("Error").lower()


def in_words(error: BaseException) -> str:
    """Return an error as one line: object and fault."""
    return f"{error.subject}: {error.fault}" if isinstance(error, PrivsegError) else type(error).__name__
