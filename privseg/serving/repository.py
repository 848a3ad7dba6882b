"""Publish a model version to the running servers, and take it back when a check fails.

Order matters: everything that can be checked without the servers is checked first; then the version is put on disk
in one step and loaded *over* the running one. Nothing is ever unloaded first, because that drops requests.
"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from privseg.errors import GateFailedError, PrivsegError, StorageError, UsageError
from privseg.serving.admin import Endpoint
from privseg.serving.artifact import read_artifact
from privseg.serving.config import ensure_config, render_config
from privseg.serving.golden import compare, golden_frame, require_computed, run_onnx
from privseg.serving.versions import Store, current, list_versions, read_record, verify

__all__ = ["Published", "current", "list_versions", "publish", "read_record", "render_config", "roll_back", "verify"]

MAX_MEAN_DIFFERENCE: Final = 1.0  # of 255
MIN_MASK_AGREEMENT: Final = 0.999


@dataclass(frozen=True)
class Published:
    """The outcome of a publication.

    Attributes:
        version: The version that serves now.
        reused: The newest version already was this model; none was added.
        model_json: The version's record.
    """

    version: int
    reused: bool
    model_json: dict[str, Any]


def publish(
    repository: Path,
    artifact: Path,
    *,
    endpoints: Sequence[str],
    keep: int = 2,
    admin_key: str | None = None,
    threads: int = 2,
) -> Published:
    """Make an exported model the newest version and the one every server answers with.

    A failed check on any server takes the version back on all of them. A publisher that was killed half-way leaves
    a mark; the next one takes that version back first.

    Args:
        repository: The model repository.
        artifact: Directory with ``model.onnx`` and ``model.json``.
        endpoints: ``host:port`` of the gRPC service of every replica; empty publishes to the disk only.
        keep: Versions that stay on disk, at least 2.
        admin_key: The servers' restricted-protocol key, where they want one.
        threads: ONNX Runtime threads, written to ``config.pbtxt`` only if the repository has none.

    Raises:
        UsageError: ``keep`` is below 2.
        GateFailedError: The artifact is damaged or leaves pixels uncomputed, or a server does not load it, or
            answers something else than ONNX Runtime does in this process.
        ServerUnavailableError: A server is down or became so; nothing stays published.
        StorageError: The disk is full or cannot be written; nothing stays published.
    """
    if keep < 2:
        raise UsageError(f"keep={keep}", "leaves no version to go back to", "keep 2 or more")
    candidate = read_artifact(artifact)
    frame = golden_frame()
    expected = run_onnx(candidate.onnx, frame)
    store = Store(repository)
    with store.locked(), _connected(endpoints, admin_key) as servers:
        for server in servers:
            server.require_live()
        try:
            ensure_config(repository, threads=threads)
        except OSError as error:
            raise StorageError.from_os_error(repository, error) from error
        _recover(store, servers)
        store.sweep(keep)
        newest = current(repository)
        if newest is not None and _sha256(repository, newest) == candidate.sha256:
            for server in servers:
                _reactivate(server, newest, frame, expected)
            return Published(newest, True, verify(repository, newest))
        version = store.add(candidate)
        try:
            for server in servers:
                _activate(server, version, frame, expected)
        except BaseException as error:  # Ctrl-C too: an unchecked version must not stay
            outcome = _take_back(store, servers, version, _reason(error))
            if isinstance(error, PrivsegError):
                fault = f"version {version} was taken back: {error.fault}; {outcome}"
                raise type(error)(error.subject, fault, error.next_step) from None
            raise
        store.accept()
        store.sweep(keep)
    return Published(version, False, candidate.record)


def roll_back(repository: Path, *, endpoints: Sequence[str], admin_key: str | None = None) -> int:
    """Take the newest version back by hand and return the one that serves again.

    Raises:
        UsageError: There is no older version.
        ServerUnavailableError: A server is down; nothing was changed.
        GateFailedError: A server does not serve the older version; the message names it.
        StorageError: The repository cannot be written.
    """
    store = Store(repository)
    with store.locked(), _connected(endpoints, admin_key) as servers:
        for server in servers:
            server.require_live()
        versions = list_versions(repository)
        if len(versions) < 2:
            raise UsageError(repository, "has no older version to go back to", "publish a model")
        previous, newest = versions[-2:]
        verify(repository, previous)
        store.reject(newest, "rolled_back")
        for server in servers:
            _restore(server, previous)
    return previous


@contextlib.contextmanager
def _connected(endpoints: Sequence[str], admin_key: str | None) -> Any:
    with contextlib.ExitStack() as stack:
        yield [stack.enter_context(Endpoint(url, admin_key)) for url in endpoints]


def _activate(server: Endpoint, version: int, frame: NDArray[np.uint8], expected: NDArray[np.uint8]) -> None:
    """Load, then ask as a client does: the right version must answer, and answer what the model says."""
    server.load()
    if not server.serves(version):
        raise GateFailedError(server.url, f"version {version} is not ready after its load", "read the server's log")
    found, answered_by = server.infer(frame)
    if answered_by != version:
        raise GateFailedError(server.url, f"version {answered_by} answers, not {version}", "read its config.pbtxt")
    if found.shape != expected.shape:
        raise GateFailedError(server.url, f"answers {found.shape} to the golden frame", "read the server's log")
    require_computed(server.url, found)
    agreement = compare(expected, found)
    if not agreement.within(MAX_MEAN_DIFFERENCE, MIN_MASK_AGREEMENT):
        raise GateFailedError(server.url, f"the golden frame's answer is off: {agreement}", "compare the runtimes")


def _reactivate(server: Endpoint, version: int, frame: NDArray[np.uint8], expected: NDArray[np.uint8]) -> None:
    """Make sure a version that was accepted before answers; a server on which it broke gets it anew.

    When the process behind a model dies, Triton (seen with 2.51) goes on reporting the version ready, refuses every
    request, and takes a load for done. Only there, where nothing is answered any more, is unloading right.
    """
    try:
        _activate(server, version, frame, expected)
    except GateFailedError:
        server.unload()
        _activate(server, version, frame, expected)


def _restore(server: Endpoint, previous: int) -> None:
    """Load again, so that the newest version left on disk serves, and make sure that it answers."""
    server.load()
    _, answered_by = server.infer(golden_frame())
    if answered_by != previous:
        raise GateFailedError(server.url, f"version {answered_by} answers, not {previous}", "read the server's log")


def _take_back(store: Store, servers: Sequence[Endpoint], version: int, reason: str) -> str:
    """Move a version aside, bring the one before it back everywhere, and say in words how that went."""
    store.reject(version, reason)
    previous = current(store.repository)
    troubles = []
    for server in servers:
        try:
            if previous is None:
                server.unload()
            else:
                _restore(server, previous)
        except PrivsegError as error:
            troubles.append(f"{server.url}: {error.fault}")
    serving = "no version serves" if previous is None else f"version {previous} serves again"
    return f"{serving}, but not confirmed on {', '.join(troubles)}" if troubles else serving


def _recover(store: Store, servers: Sequence[Endpoint]) -> None:
    version = store.interrupted()
    if version is not None:
        outcome = _take_back(store, servers, version, "interrupted")
        print(f"version {version} of an interrupted publication was taken back; {outcome}", file=sys.stderr, flush=True)


def _sha256(repository: Path, version: int) -> str | None:
    try:
        return str(verify(repository, version)["sha256"])
    except GateFailedError:  # a damaged version is never reused; publishing replaces it
        return None


def _reason(error: BaseException) -> str:
    return type(error).__name__.removesuffix("Error").lower()
