"""Publish a model version to the running servers, and take it back when a check fails.

Order matters: everything that can be checked without the servers that serve is checked first, a load in a throw-away
Triton included; then the version is put on disk in one step and loaded *over* the running one. Nothing is ever
unloaded first, because that drops requests.

Triton serves the newest number, so an older model serves again in one of two ways: ``roll_back`` takes the newest
version out of sight; ``promote`` adds the older model once more, under the next number.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from privseg.errors import GateFailedError, PrivsegError, StorageError, UsageError
from privseg.serving.access import Access
from privseg.serving.activation import activate, exam_of, reactivate, restore_all
from privseg.serving.artifact import MODEL_NAME, Artifact, read_artifact
from privseg.serving.config import ensure_config
from privseg.serving.exam import Exam, Limits
from privseg.serving.history import note
from privseg.serving.rejected import list_rejected
from privseg.serving.replicas import Changes, Replicas
from privseg.serving.smoke_load import smoke_load
from privseg.serving.taking_back import in_words, recover_from, refusals_remembered, sha256_of, take_back
from privseg.serving.versions import ROLLED_BACK, Store, accepted, current, list_versions, read_record, verify

__all__ = [
    "KEEP",
    "Published",
    "current",
    "list_versions",
    "promote",
    "prune",
    "publish",
    "read_record",
    "roll_back",
    "verify",
]

KEEP: Final = 4  # versions on disk: the one that serves, and three to go back to


@dataclass(frozen=True)
class Published:
    """The outcome of a publication.

    Attributes:
        version: The version that serves now.
        reused: The newest version already was this model; none was added.
        model_json: The version's record.
        replicas: Addresses of the servers that answered with it.
        changes: Replicas that came or went meanwhile.
    """

    version: int
    reused: bool
    model_json: dict[str, Any]
    replicas: tuple[str, ...] = ()
    changes: Changes = field(default_factory=Changes)


def publish(
    repository: Path,
    artifact: Path,
    *,
    endpoints: Sequence[str],
    keep: int = KEEP,
    access: Access | None = None,
    threads: int | None = None,
    limits: Limits | None = None,
    skip_smoke_load: str | None = None,
    promoted_from: int | None = None,
) -> Published:
    """Make an exported model the newest version and the one every server answers with.

    A failed check on any server takes the version back on all of them, and leaves it in ``.rejected`` with the
    reason; so does a candidate that is refused before it gets that far. A publisher that was killed half-way leaves a
    mark; the next one finishes or undoes its work first.

    Args:
        repository: The model repository.
        artifact: Directory with ``model.onnx`` and ``model.json``.
        endpoints: Every replica's gRPC service, ``host:port``, or ``dns:///name:port`` for all that a name resolves
            to; empty publishes to the disk only.
        keep: Versions that stay on disk, at least 2.
        access: How the servers are spoken to.
        threads: Threads of the runtime, written to ``config.pbtxt`` only if the repository has none.
        limits: From where on a model counts as one that does not look, and at which threshold; None: the usual ones.
        skip_smoke_load: Why the candidate is not loaded in a throw-away Triton first; goes into the history. None: it
            is.
        promoted_from: The version this model was before, for the history.

    Raises:
        UsageError: ``keep`` is below 2.
        GateFailedError: The artifact is damaged, breaks the contract or answers without looking, a server does not
            load it, or answers something else than ONNX Runtime does in this process.
        ServerUnavailableError: A server is down or became so, or no throw-away Triton can be started; nothing stays
            published.
        StorageError: The disk is full or cannot be written; nothing stays published.
    """
    _check_keep(keep)
    store = Store(repository)
    with _at_work(store, endpoints, access) as replicas:
        try:
            config = ensure_config(repository, threads=threads)
        except OSError as error:
            raise StorageError.from_os_error(repository, error) from error
        with refusals_remembered(store, artifact):
            candidate = read_artifact(artifact)
            exam = Exam.of(candidate.onnx, limits or Limits())
        store.sweep(keep)
        newest = current(repository)
        if newest is not None and sha256_of(repository, newest) == candidate.sha256:
            changes = replicas.each(lambda server: reactivate(server, newest, exam))
            return Published(newest, True, verify(repository, newest), tuple(replicas.urls), changes)
        with refusals_remembered(store, artifact):
            exam.require_attentive()
            if skip_smoke_load is None:
                smoke_load(candidate, exam, config=config)
        facts = _identity(candidate) | {
            "smoke_load": "passed" if skip_smoke_load is None else f"skipped: {skip_smoke_load}",
            **({} if promoted_from is None else {"promoted_from": promoted_from}),
        }
        version = store.add(candidate)
        try:
            changes = replicas.each(lambda server: activate(server, version, exam))
            facts |= {"version": version, "replicas": replicas.urls, "came": changes.came, "gone": changes.gone}
            note(repository, "published" if promoted_from is None else "promoted", facts)
        except BaseException as error:  # Ctrl-C too: an unchecked version must not stay
            outcome = take_back(store, replicas.servers, version, type(error), in_words(error))
            if isinstance(error, PrivsegError):
                fault = f"version {version} was taken back: {error.fault}; {outcome}"
                raise type(error)(error.subject, fault, error.next_step) from None
            raise
        store.accept()
        store.sweep(keep)
        return Published(version, False, candidate.record, tuple(replicas.urls), changes)


def promote(repository: Path, version: int, **how: Any) -> Published:
    """Make an older version serve again, under the next number; its model, and so its sha256, is the same.

    Args:
        repository: The model repository.
        version: One that is on disk, or that was rolled back and is still remembered; the one that serves is only
            checked again.
        how: As for `publish`.

    Raises:
        UsageError: There is no such version.
        PrivsegError: As `publish`.
    """
    rolled_back = {entry.version: entry.folder for entry in list_rejected(repository) if entry.kind == ROLLED_BACK}
    if version in list_versions(repository):
        folder = repository / MODEL_NAME / str(version)
    elif version in rolled_back:
        folder = rolled_back[version]
    else:
        have = sorted({*list_versions(repository), *(number for number in rolled_back if number)})
        fault = f"has no version {version} that was accepted (it has {', '.join(map(str, have)) or 'none'})"
        raise UsageError(repository, fault, "privseg model list")
    return publish(repository, folder, promoted_from=version, **how)


def roll_back(
    repository: Path,
    *,
    endpoints: Sequence[str],
    access: Access | None = None,
    reason: str = "",
    expected: int | None = None,
) -> int:
    """Take the newest version back and return the one that serves again.

    When the roll back before was interrupted, or did not reach every server, this finishes it and goes no further.

    Args:
        repository: The model repository.
        endpoints: See `publish`.
        access: See `publish`.
        reason: Why, for the history; '': by hand.
        expected: The version that is to go; another one, published meanwhile, stays.

    Raises:
        UsageError: There is no older version.
        GateFailedError: The newest version is not the expected one; nothing was changed.
        ServerUnavailableError: A server is down; nothing was changed. Or it became so.
        GateFailedError: The older version is damaged; nothing was changed. Or a server does not serve it; the message
            names it. The others do, and the next call tries that one again.
        StorageError: The repository cannot be written.
    """
    store = Store(repository)
    with _at_work(store, endpoints, access, recover=False) as replicas:
        unfinished = store.unfinished()
        if unfinished is not None and not unfinished.taking_down:
            recover_from(store, replicas.servers)
            unfinished = None
        versions = list_versions(repository)
        if unfinished is not None and not unfinished.on_disk:
            previous = versions[-1]
        elif len(versions) < 2:
            raise UsageError(repository, "has no older version to go back to", "publish a model")
        elif expected not in (None, versions[-1]):
            fault = f"has version {versions[-1]} by now, not {expected}, which was to be taken back"
            raise GateFailedError(repository, fault, "audit again: privseg audit")
        else:
            previous, newest = versions[-2:]
            reason = reason or "by hand"
            facts = {"version": newest, "sha256": sha256_of(repository, newest), "to": previous, "reason": reason}
            verify(repository, previous)
            with contextlib.suppress(StorageError):  # a full disk keeps nobody from going back
                store.begin_taking_down(newest)
            store.reject(newest, ROLLED_BACK, reason)
            with contextlib.suppress(StorageError):
                note(repository, ROLLED_BACK, facts)
        troubles = restore_all(replicas.servers, previous, exam_of(repository, previous))
        if troubles:
            first = troubles[0]
            others = "".join(f"; {error.subject}: {error.fault}" for error in troubles[1:])
            fault = f"version {previous} is not confirmed there: {first.fault}{others}"
            raise type(first)(first.subject, fault, "see to it, then again: privseg model rollback")
        store.accept()
    return previous


def prune(repository: Path, keep: int) -> list[int]:
    """Remove all but the newest ``keep`` versions from the disk; return those that went.

    The version that serves and the one before it always stay.

    Raises:
        UsageError: ``keep`` is below 2.
        StorageError: The repository cannot be written.
    """
    _check_keep(keep)
    store = Store(repository)
    with store.locked():
        gone = store.sweep(keep + (accepted(repository) != current(repository)))  # one that is unchecked counts as none
        if gone:
            note(repository, "pruned", {"versions": gone})
    return gone


@contextlib.contextmanager
def _at_work(
    store: Store, endpoints: Sequence[str], access: Access | None, *, recover: bool = True
) -> Iterator[Replicas]:
    """Be the only publisher, connected to every replica, all of which answer; finish what a killed one left."""
    with store.locked(), Replicas(endpoints, access) as replicas:
        replicas.require_live()
        if recover:
            recover_from(store, replicas.servers)
        yield replicas


def _identity(candidate: Artifact) -> dict[str, object]:
    return {name: candidate.record.get(name) for name in ("sha256", "candidate", "dataset_version")}


def _check_keep(keep: int) -> None:
    if keep < 2:
        raise UsageError(f"keep={keep}", "leaves no version to go back to", "keep 2 or more")
