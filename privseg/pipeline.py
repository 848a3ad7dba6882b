"""What DAG tasks and CLI commands call: one plain function a stage.

Stage functions run inside a workspace (its root is the current folder) as the commands of ``dvc.yaml``; the functions
below them are what the DAG calls. Everything heavy is imported inside the functions, so importing this module costs
nothing.
"""

from __future__ import annotations

import functools
import json
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

from privseg import workspace
from privseg.errors import DataError, PrivsegError, ServerUnavailableError, UsageError
from privseg.params import load_params

__all__ = [
    "STAGES",
    "default_home",
    "emit",
    "model_repository",
    "prepare",
    "publish",
    "record_dataset",
    "reproduce",
    "stage_cleanse",
    "stage_evaluate",
    "stage_export",
    "stage_ingest",
    "stage_select",
    "stage_split",
    "stage_train",
    "stage_validate",
    "triton_endpoints",
]

INGESTED = Path("data/ingested")
CLEANSED = Path("data/cleansed.parquet")
MANIFEST = Path("data/manifest.parquet")
VALIDATION = Path("reports/validation")
VALIDATED = Path("data/validated.json")
BENCHMARK = Path("reports/benchmark")
SELECTION = Path("reports/selection.json")
EXPORTED = Path("models_export/person_segmentation")
PROGRESS_VARIABLE = "PRIVSEG_PROGRESS_LOG"


# --- stages: the commands of dvc.yaml --------------------------------------------------------------------------------


def stage_ingest(source: str) -> None:
    """Read one source in its native layout; write images, masks and their manifest."""
    from privseg.datasets.ingest import ingest

    ingest(load_params(), source, INGESTED / source)


def stage_cleanse() -> None:
    """Merge the manifests of all sources and mark what is unfit, with its reason."""
    from privseg.datasets.cleanse import cleanse
    from privseg.datasets.manifest import write_manifest

    params = load_params()
    write_manifest(CLEANSED, cleanse(params, [INGESTED / name / "manifest.parquet" for name in sorted(params.sources)]))


def stage_split() -> None:
    """Assign kept images to train, validation and test; summarise the dataset."""
    from privseg.datasets.analyze import summarize
    from privseg.datasets.manifest import read_manifest, write_manifest
    from privseg.datasets.split import split

    manifest = split(load_params(), read_manifest(CLEANSED))
    write_manifest(MANIFEST, manifest)
    _write_json(Path("reports/dataset.json"), summarize(manifest))


def stage_validate() -> None:
    """Run the gate; a critical failure raises, so that nothing is trained on bad data."""
    from privseg.datasets.validate import validate

    report = validate(load_params(), MANIFEST, INGESTED, VALIDATION)
    report.raise_if_failed()
    _write_json(VALIDATED, {"dataset_version": report.dataset_version})


def stage_train(candidate: str) -> None:
    """Train one candidate."""
    from privseg.training.train import train

    train(load_params(), candidate, MANIFEST, INGESTED, Path("models") / candidate)


def stage_evaluate(candidate: str) -> None:
    """Measure accuracy, speed and complexity of one trained candidate."""
    from privseg.benchmark.evaluate import evaluate

    out = BENCHMARK / candidate / "result.json"
    evaluate(load_params(), Path("models") / candidate, MANIFEST, INGESTED, out)


def stage_select() -> None:
    """Choose the winner and write the comparison page."""
    from privseg.benchmark.report import report
    from privseg.benchmark.select import select

    params = load_params()
    results = [BENCHMARK / candidate / "result.json" for candidate in params.candidates]
    select(params, results, SELECTION)
    report(results, SELECTION, Path("reports/benchmark.html"))


def stage_export() -> None:
    """Write the winner as ONNX with its record."""
    from privseg.serving.export import export

    params = load_params()
    selection = _read_json(SELECTION)
    winner = str(selection["winner"])
    source = _read_json(Path("source.json"))
    provenance = {
        "git_sha": source["git_sha"],
        "git_dirty": source["dirty"],
        "dvc_revision": workspace.record_run(Path.cwd(), "Candidates trained and compared"),
        "dataset_version": _read_json(VALIDATED)["dataset_version"],
        "candidate": winner,
        "profile": params.profile,
        "metrics": _read_json(BENCHMARK / winner / "result.json")["accuracy"],
        "data_terms": sorted({source.terms for source in params.sources.values() if source.terms}),
    }
    export(params, Path("models") / winner, EXPORTED, provenance=provenance)


STAGES = {
    "ingest": stage_ingest,
    "cleanse": stage_cleanse,
    "split": stage_split,
    "validate": stage_validate,
    "train": stage_train,
    "evaluate": stage_evaluate,
    "select": stage_select,
    "export": stage_export,
}


# --- steps: what the DAG calls ---------------------------------------------------------------------------------------

_P = ParamSpec("_P")
_R = TypeVar("_R")


def _step(function: Callable[_P, _R]) -> Callable[_P, _R]:
    """Leave an error for a waiting parent process, then let it pass."""

    @functools.wraps(function)
    def wrapped(*args: _P.args, **kwargs: _P.kwargs) -> _R:
        try:
            return function(*args, **kwargs)
        except PrivsegError as error:
            file = os.environ.get(workspace.ERROR_FILE_VARIABLE)
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
    from privseg.training.candidates import find_candidate

    ready = workspace.prepare(Path(home), data=Path(data) if data else None, overrides=overrides)
    for candidate in ready.candidates:
        find_candidate(candidate)  # an hour of ingesting later is too late to hear of a typing error
    emit(f"workspace {ready.path}: {len(ready.sources)} sources, {len(ready.candidates)} candidates")
    return {"path": str(ready.path), "sources": ready.sources, "candidates": ready.candidates}


@_step
def reproduce(workspace_path: str, stage: str) -> dict[str, Any]:
    """Bring one DVC stage up to date; returns whether it ran and how long it took."""
    started = time.monotonic()
    emit(f"stage {stage}: started")
    ran = workspace.reproduce(Path(workspace_path), stage, emit=emit)
    seconds = round(time.monotonic() - started, 1)
    emit(f"stage {stage}: {'done' if ran else 'unchanged'} in {seconds} s")
    return {"stage": stage, "ran": ran, "seconds": seconds}


@_step
def record_dataset(workspace_path: str) -> str:
    """Make the validated dataset a version: pushed to the DVC remote, committed and tagged. Returns its name."""
    root = Path(workspace_path)
    version = str(_read_json(root / VALIDATED)["dataset_version"])
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
    published = publish_version(model_repository(home), root / EXPORTED, endpoints=endpoints)
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
    _write_json(Path(home) / "out" / "published.json", record)
    return record


def _read_json(path: Path) -> dict[str, Any]:
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise DataError(path, "does not exist", "run the earlier stages: dvc repro") from None
    except ValueError as error:
        raise DataError(path, f"is not JSON ({error})", "remove it and run dvc repro") from None
    if not isinstance(value, dict):
        raise DataError(path, "holds no JSON object", "remove it and run dvc repro")
    return value


def _write_json(path: Path, value: dict[str, Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f"{path.name}.partial")
    partial.write_text(json.dumps(value, indent=2, sort_keys=True) + "\n", encoding="utf-8")
    partial.replace(path)


def run_stage(name: str, argument: str | None) -> None:
    """Run one stage by name: the body of ``privseg stage NAME [ARGUMENT]``."""
    if name not in STAGES:
        raise UsageError(name, "is not a stage", f"use one of {', '.join(STAGES)}")
    if not Path("dvc.yaml").is_file():
        raise UsageError(Path.cwd(), "is not a workspace", "privseg workspace, then run the stage there")
    function: Any = STAGES[name]
    print(f"{name} {argument or ''}".strip(), file=sys.stderr, flush=True)
    if argument is None:
        function()
    else:
        function(argument)
