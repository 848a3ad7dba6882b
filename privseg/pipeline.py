"""What DAG tasks and the command line call to bring the pipeline along, one plain function a step.

Everything heavy is imported inside the functions, so importing this module costs nothing.
"""

from __future__ import annotations

import contextlib
import functools
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar

from privseg import repro, stage_files, stages, workspace
from privseg.errors import GateFailedError, PrivsegError, ServerUnavailableError
from privseg.serving.artifact import MODEL_NAME, read_artifact_record
from privseg.serving.versions import accepted, read_record

if TYPE_CHECKING:
    from privseg.serving.local_triton import RunningTriton

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
    _seed(home, local)
    champion = workspace.take_champion(ready.path, model_repository(home, local=local), _last_published(home))
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


def model_repository(home: str | Path, *, local: bool = False) -> Path:
    """The repository the servers read: ``PRIVSEG_MODEL_REPOSITORY``, else, or if ``local``, that of ``home``."""
    named = "" if local else os.environ.get("PRIVSEG_MODEL_REPOSITORY")
    return Path(named or Path(home) / "model_repository")


def triton_endpoints(home: str | Path, *, local: bool = False) -> list[str]:
    """List the gRPC addresses of every replica: ``PRIVSEG_TRITON_ENDPOINTS``, else, or if ``local``, that of ``home``.

    Raises:
        ServerUnavailableError: None is named and no local server runs.
    """
    from privseg.serving import local_triton

    listed = "" if local else os.environ.get("PRIVSEG_TRITON_ENDPOINTS", "")
    endpoints = [endpoint.strip() for endpoint in listed.split(",") if endpoint.strip()]
    if endpoints:
        return endpoints
    running = local_triton.status(Path(home) / "triton")
    if running is None:
        raise ServerUnavailableError("Triton", "is not running", f"privseg triton up --home {home}")
    return [running.grpc_url]


def start_triton(home: str | Path) -> RunningTriton:
    """Start the local Triton of ``home``, or find it running; where nothing was published, it serves the shipped model.

    Raises:
        GateFailedError: The shipped model is damaged, or the server does not serve it.
        ServerUnavailableError: See `privseg.serving.local_triton.up`.
        StorageError: The disk is full or ``home`` cannot be written.
    """
    from privseg.serving import local_triton, shipped

    versions, state = model_repository(home, local=True), Path(home) / "triton"
    shipped.seed(versions)
    running = local_triton.up(versions, state)
    serving = accepted(versions)
    if running.versions or serving is None:
        return running
    from privseg.serving.repository import publish as publish_version  # needs ONNX Runtime

    publish_version(versions, versions / MODEL_NAME / str(serving), endpoints=[running.grpc_url])
    return local_triton.status(state) or running


@_step
def publish(workspace_path: str, home: str, *, force: bool = False) -> dict[str, Any]:
    """Bring the outcome of the selection to the Triton servers: the exported model, or the champion that stays.

    Endpoints come from ``PRIVSEG_TRITON_ENDPOINTS`` (comma-separated host:port of gRPC), else from the local server of
    ``home``. Either way every server is asked for an answer of the version that is to serve.

    Args:
        workspace_path: The workspace, its stages up to date.
        home: Folder of everything the run makes.
        force: Publish the exported model although the champion stays.

    Returns:
        What serves now: version, candidate, dataset version, sha256; the outcome and its reason.

    Raises:
        ServerUnavailableError: No server runs.
        GateFailedError: Another model was published since the comparison; or the new version did not load or answered
            the golden frame wrongly. The old one serves on.
        StorageError: The model repository is full or cannot be written.
    """
    from privseg.serving.repository import publish as publish_version

    root, repository = Path(workspace_path), model_repository(home)
    selection = stage_files.read_selection(root)
    serving = accepted(repository)
    decided = {"outcome": selection["outcome"], "reason": selection["reason"]}
    if decided["outcome"] == "keep" and serving is None:
        decided = {"outcome": "promote", "reason": "no model serves any more"}
    if decided["outcome"] == "keep" and force:
        decided = {"outcome": "forced", "reason": f"published by hand; the comparison said: {selection['reason']}"}
    exported = root / stage_files.EXPORTED
    if decided["outcome"] == "keep":
        model = repository / MODEL_NAME / str(serving)
    else:
        model = exported
        _require_chosen(selection, exported)
        if not force:
            _require_compared(repository, serving, selection["champion"], exported)
    endpoints = triton_endpoints(home)
    published = publish_version(repository, model, endpoints=endpoints)
    if decided["outcome"] == "forced" and not published.reused:
        stage_files.record_decision(root, selection | decided)
    revision = workspace.record_run(root, f"Version {published.version} serves")
    done = "published" if not published.reused else "stays" if decided["outcome"] == "keep" else "already served"
    where = ", ".join(endpoints)
    emit(f"model person_segmentation version {published.version}: {done} on {where} ({decided['reason']})")
    record = {
        "version": published.version,
        "candidate": published.model_json.get("candidate"),
        "dataset_version": published.model_json.get("dataset_version"),
        "sha256": published.model_json["sha256"],
        "workspace_revision": revision,
        **decided,
    }
    stage_files.write_json(Path(home) / "out" / "published.json", record)
    return record


def _seed(home: str, local: bool) -> None:
    """Give an empty repository the shipped model, and let the servers that run serve it."""
    from privseg.serving import shipped
    from privseg.serving.repository import publish as publish_version

    versions = model_repository(home, local=local)
    seeded = shipped.seed(versions)
    if seeded is None:
        return
    emit(f"model person_segmentation version {seeded}: comes with privseg, serves until a better one is trained")
    # What does not run loads it when it starts; what is broken stops the run when there is a model to publish.
    with contextlib.suppress(ServerUnavailableError):
        endpoints = triton_endpoints(home, local=local)
        publish_version(versions, versions / MODEL_NAME / str(seeded), endpoints=endpoints)


def _last_published(home: str) -> dict[str, Any] | None:
    file = Path(home) / "out" / "published.json"
    if not file.is_file():
        return None
    published = stage_files.read_json(file)
    return {"version": published.get("version"), "sha256": published.get("sha256")}


def _require_chosen(selection: dict[str, Any], exported: Path) -> None:
    """Raise GateFailedError if the exported model is not the one that the selection chose."""
    candidate, checkpoint = (read_artifact_record(exported).get(key) for key in ("candidate", "checkpoint_sha256"))
    if (candidate, checkpoint) != (selection["winner"], selection["winner_checkpoint_sha256"]):
        fault = f"is {candidate}'s, and not the {selection['winner']} that the selection chose"
        raise GateFailedError(exported, fault, "export it, in the workspace: dvc repro export")


def _require_compared(repository: Path, serving: int | None, champion: dict[str, Any] | None, exported: Path) -> None:
    """Raise GateFailedError if what serves now is neither the champion of the comparison nor the winner itself."""
    if serving is None or serving == (champion or {}).get("version"):
        return
    if read_record(repository, serving)["sha256"] != read_artifact_record(exported)["sha256"]:
        fault = f"serves version {serving}, with which the winner was not compared"
        raise GateFailedError(
            repository, fault, "compare again: privseg run, or publish anyway: privseg model publish --force"
        )
