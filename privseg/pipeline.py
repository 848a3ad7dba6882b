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

from privseg import repro, stages, workspace
from privseg.errors import PrivsegError, ServerUnavailableError

__all__ = [
    "default_home",
    "emit",
    "ingest_shard",
    "model_repository",
    "prepare",
    "publish",
    "record_dataset",
    "reproduce",
    "shards",
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
def prepare(home: str, data: str | None, overrides: dict[str, str] | None = None) -> dict[str, Any]:
    """Make the workspace ready; returns its path, sources and candidates as plain values (for XCom)."""
    from privseg.datasets.sources.registry import check_kind
    from privseg.params import load_params
    from privseg.training.candidates import find_candidate

    ready = workspace.prepare(Path(home), data=Path(data) if data else None, overrides=overrides)
    for name, source in load_params(ready.path / "params.yaml").sources.items():
        check_kind(name, source)
    for candidate in ready.candidates:
        find_candidate(candidate)  # an hour of ingesting later is too late to hear of a typing error
    emit(f"workspace {ready.path}: {len(ready.sources)} sources, {len(ready.candidates)} candidates")
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
    version = str(stages.read_json(root / stages.VALIDATED)["dataset_version"])
    tag = workspace.record_dataset(root, version)
    emit(f"dataset {version}: pushed and tagged {tag}")
    return version


def model_repository(home: str | Path) -> Path:
    """The repository the servers read: ``PRIVSEG_MODEL_REPOSITORY``, else that of ``home``."""
    return Path(os.environ.get("PRIVSEG_MODEL_REPOSITORY") or Path(home) / "model_repository")


def triton_endpoints(home: str | Path) -> list[str]:
    """List the gRPC addresses of every replica: ``PRIVSEG_TRITON_ENDPOINTS``, else the local server of ``home``.

    Raises:
        ServerUnavailableError: None is named and no local server runs.
    """
    from privseg.serving import local_triton

    listed = os.environ.get("PRIVSEG_TRITON_ENDPOINTS", "")
    endpoints = [endpoint.strip() for endpoint in listed.split(",") if endpoint.strip()]
    if endpoints:
        return endpoints
    running = local_triton.status(Path(home) / "triton")
    if running is None:
        raise ServerUnavailableError("Triton", "is not running", f"privseg triton up --home {home}")
    return [running.grpc_url]


@_step
def publish(workspace_path: str, home: str) -> dict[str, Any]:
    """Publish the exported model to the Triton servers; returns version, candidate and dataset version.

    Endpoints come from ``PRIVSEG_TRITON_ENDPOINTS`` (comma-separated host:port of gRPC), else from the local server of
    ``home``.

    Raises:
        ServerUnavailableError: No server runs.
        GateFailedError: The new version did not load or answered the golden frame wrongly; the old one serves on.
        StorageError: The model repository is full or cannot be written.
    """
    from privseg.serving.repository import publish as publish_version

    root = Path(workspace_path)
    endpoints = triton_endpoints(home)
    published = publish_version(model_repository(home), root / stages.EXPORTED, endpoints=endpoints)
    revision = workspace.record_run(root, f"Published version {published.version}")
    state = "already served" if published.reused else "published"
    emit(f"model person_segmentation version {published.version}: {state} on {', '.join(endpoints)}")
    record = {
        "version": published.version,
        "candidate": published.model_json["candidate"],
        "dataset_version": published.model_json["dataset_version"],
        "sha256": published.model_json["sha256"],
        "workspace_revision": revision,
    }
    stages.write_json(Path(home) / "out" / "published.json", record)
    return record
