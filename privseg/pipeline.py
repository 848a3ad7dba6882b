"""What DAG tasks and the command line call to bring the pipeline along, one plain function a step.

Everything heavy is imported inside the functions, so importing this module costs nothing.
"""

from __future__ import annotations

import functools
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

from privseg import publishing, repro, stage_files, stages, workspace
from privseg.errors import PrivsegError
from privseg.publishing import model_repository, start_triton, triton_endpoints

__all__ = [
    "audit",
    "default_home",
    "emit",
    "ingest_shard",
    "model_repository",
    "prepare",
    "publish",
    "record_dataset",
    "reproduce",
    "shards",
    "start_triton",
    "triton_endpoints",
]

PROGRESS_VARIABLE = "PRIVSEG_PROGRESS_LOG"

_P = ParamSpec("_P")
_R = TypeVar("_R")


def _step(function: Callable[_P, _R]) -> Callable[_P, _R]:
    """Leave an error for a waiting parent process, then let it pass."""

    @functools.wraps(function)
    def wrapped(*args: _P.args, **kwargs: _P.kwargs) -> _R:
        try:
            return function(*args, **kwargs)
        except PrivsegError as error:
            file = os.environ.get(repro.ERROR_FILE_VARIABLE)
            if file:
                error.save(Path(file))
            raise

    return wrapped


def default_home(data: Path | None) -> Path:
    """Where a run keeps everything it makes: ``PRIVSEG_HOME``, else ``.privseg/public`` or ``.privseg/generated``."""
    chosen = os.environ.get("PRIVSEG_HOME")
    return Path(chosen) if chosen else Path(".privseg") / ("generated" if data is None else "public")


def emit(line: str) -> None:
    """Show one line of progress: on stdout (a task's log) and in the file a waiting command follows."""
    print(line, flush=True)
    log = os.environ.get(PROGRESS_VARIABLE)
    if log:
        with Path(log).open("a", encoding="utf-8") as file:
            file.write(line + "\n")


@_step
def prepare(
    home: str, data: str | None, overrides: dict[str, str] | None = None, *, local: bool = False
) -> dict[str, Any]:
    """Make the workspace ready, and the model that serves the champion of this run.

    An empty model repository gets the model that comes with privseg, so that there is one to beat, and cameras are
    protected meanwhile.

    Args:
        home: Folder of everything the run makes.
        data: Folder with public datasets; None renders generated scenes instead.
        overrides: Parameters to change, dotted name to YAML text.
        local: Use the repository and server of ``home``, whatever a deployment's environment names.

    Returns:
        The workspace's path, its sources and candidates as plain values (for XCom).
    """
    ready = workspace.prepare(Path(home), data=Path(data) if data else None, overrides=overrides)
    publishing.seed(home, local=local, say=emit)
    champion = workspace.take_champion(ready.path, model_repository(home, local=local), publishing.last_published(home))
    emit(
        f"workspace {ready.path}: {len(ready.sources)} sources, {len(ready.candidates)} candidates; "
        + (f"version {champion} is the champion" if champion else "no champion yet")
    )
    return {"path": str(ready.path), "sources": ready.sources, "candidates": ready.candidates}


@_step
def reproduce(workspace_path: str, stage: str) -> dict[str, Any]:
    """Bring one DVC stage up to date; returns whether it ran and how long it took."""
    started = time.monotonic()
    emit(f"stage {stage}: started")
    ran = repro.reproduce(Path(workspace_path), stage, emit=emit)
    seconds = round(time.monotonic() - started, 1)
    emit(f"stage {stage}: {'done' if ran else 'unchanged'} in {seconds} s")
    return {"stage": stage, "ran": ran, "seconds": seconds}


@_step
def shards(workspace_path: str, sources: list[str]) -> list[dict[str, Any]]:
    """List the shards that are worth a worker each: of sources that must be ingested and make more than one shard.

    Returns:
        ``{"source": name, "index": i, "count": n}``, for `ingest_shard`.
    """
    root = Path(workspace_path)
    todo = [
        {"source": source, "index": index, "count": count}
        for source in repro.changed(root, [f"ingest@{source}" for source in sources], "ingest@")
        if (count := stages.shares(root, source)) > 1
        for index in range(count)
    ]
    emit(f"{len(todo)} shards to spread over workers")
    return todo


@_step
def ingest_shard(workspace_path: str, source: str, index: int, count: int) -> dict[str, Any]:
    """Ingest one shard; the stage ``ingest@source`` finds it done and only puts the shards together."""
    started = time.monotonic()
    repro.run_part(Path(workspace_path), "ingest_shard", f"{source}:{index}/{count}", emit=emit)
    seconds = round(time.monotonic() - started, 1)
    emit(f"shard {index + 1}/{count} of {source}: done in {seconds} s")
    return {"source": source, "index": index, "count": count, "seconds": seconds}


@_step
def record_dataset(workspace_path: str) -> str:
    """Make the validated dataset a version: pushed to the DVC remote, committed and tagged. Returns its name."""
    root = Path(workspace_path)
    version = str(stage_files.read_json(root / stage_files.VALIDATED)["dataset_version"])
    tag = workspace.record_dataset(root, version)
    emit(f"dataset {version}: pushed and tagged {tag}")
    return version


@_step
def publish(
    workspace_path: str, home: str, *, force: bool = False, skip_smoke_load: str | None = None
) -> dict[str, Any]:
    """Bring the outcome of the selection to the Triton servers; see `privseg.publishing.publish`."""
    return publishing.publish(workspace_path, home, force=force, skip_smoke_load=skip_smoke_load, say=emit)


@_step
def audit(home: str, *, roll_back: bool = True) -> dict[str, Any]:
    """Send golden clips through every server; a version that does not hold is taken back, and audited no more.

    Rules come from the workspace's ``params.yaml``; a home without a workspace gets the usual ones. Report, metrics
    and history go to ``<home>/out``.

    Args:
        home: Folder of everything a run makes.
        roll_back: Take a version back whose rules do not hold, where an older one is left.

    Returns:
        The audit as plain data, with ``outcome`` in words and ``rolled_back_to``, the version that serves instead.

    Raises:
        ServerUnavailableError: A server is down or answers too few frames; nothing is changed.
        GateFailedError: The repository has no version, or a server does not serve the older one.
        DataError: A golden clip cannot be used.
        StorageError: The report or the repository cannot be written.
    """
    from privseg.audit.measure import audit as measure
    from privseg.audit.report import compare_with_history, write_audit
    from privseg.params import AuditParams, load_params
    from privseg.serving.versions import list_versions

    own = Path(home) / "workspace" / "params.yaml"
    rules = load_params(own).audit if own.is_file() else AuditParams()
    repository, endpoints, out = model_repository(home), triton_endpoints(home), Path(home) / "out"
    access = publishing.triton_access()
    found = measure(repository, endpoints, Path(home) / "audit", rules, access=access, say=emit)
    found.breaches += compare_with_history(found, out, rules)
    previous = None
    if not found.breaches:
        outcome = f"version {found.version} is within the limits that `audit` in params.yaml sets"
        outcome += f"; in {found.leak_frames} of {found.frames} frames it leaves somebody uncovered" * bool(
            found.leak_frames
        )
    elif not roll_back:
        outcome = f"version {found.version} does not hold; it serves on, as was asked"
    elif len(list_versions(repository)) < 2:
        outcome = f"version {found.version} does not hold, and there is no older one to go back to"
    else:
        reason = f"audit: {'; '.join(found.breaches)}"
        previous = publishing.roll_back(home, reason=reason, expected=found.version)
        outcome = f"version {found.version} does not hold and was taken back; version {previous} serves again"
    write_audit(out, found, outcome)
    emit(f"audit: {outcome}; see {out / 'audit.html'}")
    return found.model_dump(mode="json") | {"outcome": outcome, "rolled_back_to": previous}
