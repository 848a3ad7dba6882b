"""Bring models to the Triton servers and take them back: what DAG tasks and the command line call.

Every way goes through `privseg.serving.repository`, and ends with the tags that say which revision of the workspace
made the model that serves (`privseg.serving.registry`). Everything heavy is imported inside the functions.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from privseg import stage_files, workspace
from privseg.errors import GateFailedError, ServerUnavailableError
from privseg.serving import registry
from privseg.serving.artifact import MODEL_NAME, read_artifact_record
from privseg.serving.versions import accepted, read_record

if TYPE_CHECKING:
    from privseg.serving.access import Access
    from privseg.serving.exam import Limits
    from privseg.serving.local_triton import RunningTriton
    from privseg.serving.repository import Published

__all__ = [
    "assign_stage",
    "judging_threshold",
    "last_published",
    "model_repository",
    "promote",
    "publish",
    "roll_back",
    "seed",
    "start_triton",
    "triton_access",
    "triton_endpoints",
]

SKIP_VARIABLE = "PRIVSEG_SKIP_SMOKE_LOAD"

_Say = Callable[[str], None]


def model_repository(home: str | Path, *, local: bool = False) -> Path:
    """The repository the servers read: ``PRIVSEG_MODEL_REPOSITORY``, else, or if ``local``, that of ``home``."""
    named = "" if local else os.environ.get("PRIVSEG_MODEL_REPOSITORY")
    return Path(named or Path(home) / "model_repository")


def triton_endpoints(home: str | Path, *, local: bool = False) -> list[str]:
    """List the gRPC services of every replica: ``PRIVSEG_TRITON_ENDPOINTS``, else, or if ``local``, that of ``home``.

    The variable holds ``host:port`` and ``dns:///name:port`` (all that a name resolves to), separated by commas.

    Raises:
        ServerUnavailableError: None is named and no local server runs.
    """
    from privseg.serving import local_triton

    endpoints = [] if local else _listed()
    if endpoints:
        return endpoints
    running = local_triton.status(Path(home) / "triton")
    if running is None:
        raise ServerUnavailableError("Triton", "is not running", f"privseg triton up --home {home}")
    return [running.grpc_url]


def triton_access() -> Access:
    """How the servers of ``PRIVSEG_TRITON_ENDPOINTS`` are spoken to; a local one of privseg's own needs nothing.

    Raises:
        UsageError: See `privseg.serving.access.Access.from_environment`.
    """
    from privseg.serving.access import Access

    return Access.from_environment() if _listed() else Access()


def _listed() -> list[str]:
    endpoints = os.environ.get("PRIVSEG_TRITON_ENDPOINTS", "").split(",")
    return [endpoint.strip() for endpoint in endpoints if endpoint.strip()]


def judging_threshold(home: str | Path) -> float:
    """The probability from which a pixel counts as a person: that of the workspace's parameters, else 0.5."""
    from privseg.params import load_params

    file = Path(home) / "workspace" / "params.yaml"
    return load_params(file).benchmark.threshold if file.is_file() else 0.5


def _limits(home: str | Path) -> Limits:
    """From where on a model counts as one that does not look: the workspace's parameters, else the usual ones."""
    from privseg.params import PublishParams, load_params
    from privseg.serving.exam import Limits

    file = Path(home) / "workspace" / "params.yaml"
    rules = load_params(file).publish if file.is_file() else PublishParams()
    return Limits(judging_threshold(home), rules.min_found, rules.max_called, rules.min_spread)


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


def seed(home: str, *, local: bool = False, say: _Say = print) -> None:
    """Give an empty repository the shipped model, and let the servers that run serve it."""
    from privseg.serving import shipped
    from privseg.serving.repository import publish as publish_version

    versions = model_repository(home, local=local)
    seeded = shipped.seed(versions)
    if seeded is None:
        return
    say(f"model person_segmentation version {seeded}: comes with privseg, serves until a better one is trained")
    # What does not run loads it when it starts; what is broken stops the run when there is a model to publish.
    with contextlib.suppress(ServerUnavailableError):
        publish_version(
            versions,
            versions / MODEL_NAME / str(seeded),
            endpoints=triton_endpoints(home, local=local),
            access=None if local else triton_access(),
        )


def publish(
    workspace_path: str, home: str, *, force: bool = False, skip_smoke_load: str | None = None, say: _Say = print
) -> dict[str, Any]:
    """Bring the outcome of the selection to the Triton servers: the exported model, or the champion that stays.

    Endpoints come from ``PRIVSEG_TRITON_ENDPOINTS``, else from the local server of ``home``. Either way every server
    is asked for an answer of the version that is to serve.

    Args:
        workspace_path: The workspace, its stages up to date.
        home: Folder of everything the run makes.
        force: Publish the exported model although the champion stays.
        skip_smoke_load: Why the model is not tried in a throw-away Triton first; None: what
            ``PRIVSEG_SKIP_SMOKE_LOAD`` says, and where that is empty it is tried.
        say: Is told in a line what was done.

    Returns:
        What serves now: version, candidate, dataset version, sha256; the outcome and its reason.

    Raises:
        ServerUnavailableError: No server runs, or no throw-away Triton can be started.
        GateFailedError: Another model was published since the comparison; or the new version did not load or did not
            pass the golden frames. The old one serves on.
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
    published = publish_version(
        repository,
        model,
        endpoints=triton_endpoints(home),
        access=triton_access(),
        limits=_limits(home),
        skip_smoke_load=_why_skipped(skip_smoke_load),
    )
    if decided["outcome"] == "forced" and not published.reused:
        stage_files.record_decision(root, selection | decided)
    revision = workspace.record_run(root, f"Version {published.version} serves")
    sha256 = str(published.model_json["sha256"])
    if model == exported:
        registry.register(root, published.version, sha256, revision)
    registered = registry.assign(root, sha256)
    done = "published" if not published.reused else "stays" if decided["outcome"] == "keep" else "already served"
    changes = f"; {published.changes}" if str(published.changes) else ""
    where = ", ".join(published.replicas)
    say(f"model person_segmentation version {published.version}: {done} on {where} ({decided['reason']}){changes}")
    record = {
        "version": published.version,
        "candidate": published.model_json.get("candidate"),
        "dataset_version": published.model_json.get("dataset_version"),
        "sha256": sha256,
        "workspace_revision": revision,
        "registered": registered,
        **decided,
    }
    stage_files.write_json(Path(home) / "out" / "published.json", record)
    return record


def promote(home: str | Path, what: int | Path, *, skip_smoke_load: str | None = None) -> Published:
    """Make an older version, or an artifact that lies anywhere, the one that serves.

    Args:
        home: Folder of everything a run makes.
        what: A version's number, or a directory with ``model.onnx`` and ``model.json``.
        skip_smoke_load: See `publish`.

    Raises:
        UsageError: There is no such version.
        PrivsegError: See `privseg.serving.repository.publish`.
    """
    from privseg.serving.repository import promote as promote_version
    from privseg.serving.repository import publish as publish_version

    repository = model_repository(home)
    how: dict[str, Any] = {
        "endpoints": triton_endpoints(home),
        "access": triton_access(),
        "limits": _limits(home),
        "skip_smoke_load": _why_skipped(skip_smoke_load),
    }
    if isinstance(what, int):
        published = promote_version(repository, what, **how)
    else:
        published = publish_version(repository, what, **how)
    assign_stage(home)
    return published


def roll_back(home: str | Path, *, reason: str = "", expected: int | None = None) -> int:
    """Take the newest version back, on every server, if it is the ``expected`` one; return the one that serves again.

    Raises:
        PrivsegError: See `privseg.serving.repository.roll_back`.
    """
    from privseg.serving.repository import roll_back as take_back

    endpoints, access = triton_endpoints(home), triton_access()
    repository = model_repository(home)
    version = take_back(repository, endpoints=endpoints, access=access, reason=reason, expected=expected)
    assign_stage(home)
    return version


def assign_stage(home: str | Path) -> str | None:
    """Let the workspace's tags say which model serves; return its version tag, None where no revision here made it.

    Raises:
        GateFailedError: The record of the version that serves cannot be read.
        StorageError: A tag cannot be written.
    """
    root, repository = Path(home) / "workspace", model_repository(home)
    serving = accepted(repository)
    if serving is None or not (root / ".git").is_dir():
        return None
    return registry.assign(root, str(read_record(repository, serving)["sha256"]))


def last_published(home: str) -> dict[str, Any] | None:
    """Version and sha256 that the last run of ``home`` left serving; None before the first."""
    file = Path(home) / "out" / "published.json"
    if not file.is_file():
        return None
    published = stage_files.read_json(file)
    return {"version": published.get("version"), "sha256": published.get("sha256")}


def _why_skipped(said: str | None) -> str | None:
    return said or os.environ.get(SKIP_VARIABLE) or None


def _require_chosen(selection: dict[str, Any], exported: Path) -> None:
    """Raise GateFailedError if the exported model is not the one that the selection chose."""
    candidate, checkpoint = (read_artifact_record(exported).get(key) for key in ("candidate", "checkpoint_sha256"))
    if (candidate, checkpoint) != (selection["winner"], selection["winner_checkpoint_sha256"]):
        fault = f"is {candidate}'s, and not the {selection['winner']} that the selection chose"
        raise GateFailedError(exported, fault, "export it, in the workspace: dvc repro parity")


def _require_compared(repository: Path, serving: int | None, champion: dict[str, Any] | None, exported: Path) -> None:
    """Raise GateFailedError if what serves now is neither the champion of the comparison nor the winner itself."""
    if serving is None or serving == (champion or {}).get("version"):
        return
    if read_record(repository, serving)["sha256"] != read_artifact_record(exported)["sha256"]:
        fault = f"serves version {serving}, with which the winner was not compared"
        raise GateFailedError(
            repository, fault, "compare again: privseg run, or publish anyway: privseg model publish --force"
        )
