"""The folder a pipeline run works in: a snapshot of the code, its own git history, its own DVC cache.

A run never touches the checkout it was started from. It works in ``<home>/workspace``, a git repository of its own that
holds a copy of ``privseg/``, ``dvc.yaml`` and the rendered ``params.yaml``. ``dvc.lock`` is committed there after every
run and dataset versions are tags there, so any earlier state can be checked out again.

::

    <home>/                       .privseg/generated or .privseg/public by default
        workspace/                code, dvc.yaml, params.yaml, raw/ (links), champion/, data/, models/, reports/
        dvc-store/                the DVC remote (a directory), unless PRIVSEG_DVC_REMOTE names another
        model_repository/         what Triton serves
        triton/                   the local server's log, ports and pid
        airflow/                  AIRFLOW_HOME
        out/                      protected video, report, summary, decisions
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

import privseg
from privseg import dataset_remote, dataset_store
from privseg.errors import DataError, GateFailedError, StorageError, UsageError
from privseg.params import Params, check_params, read_params_file
from privseg.repro import run, up_to_date
from privseg.serving.artifact import MODEL_NAME
from privseg.serving.versions import accepted, verify
from privseg.training.candidates import CANDIDATES, find_candidate
from privseg.training.checks import check_training

__all__ = [
    "CHAMPION",
    "CHAMPION_FILE",
    "Workspace",
    "prepare",
    "record_dataset",
    "record_run",
    "source_revision",
    "take_champion",
]

CHAMPION = Path("champion")  # the model the next challenger must beat, as it lay in the repository
CHAMPION_FILE = "champion.json"  # which version it is

_SNAPSHOT = ("dvc.yaml", ".dvcignore", ".dvc/config", ".dvc/.gitignore")
# DVC holds what stages make. It says so to git itself, but takes that back when a later stage of the same run fails.
_GITIGNORE = (
    b"__pycache__/\n*.partial\n/raw/\n/champion/\n/data/\n/models/\n/models_export/\n/reports/*\n!/reports/*.json\n"
)
_GIT = ("git", "-c", "user.name=privseg", "-c", "user.email=privseg@localhost", "-c", "commit.gpgsign=false")


@dataclass(frozen=True)
class Workspace:
    """A prepared workspace and what its parameters ask for."""

    path: Path
    sources: list[str]
    candidates: list[str]


def prepare(home: Path, *, data: Path | None = None, overrides: dict[str, str] | None = None) -> Workspace:
    """Create or refresh the workspace under ``home``; unchanged files keep their modification times.

    Args:
        home: Folder of everything the run makes.
        data: Folder with public datasets; None renders generated scenes instead.
        overrides: Parameters to change, dotted name to YAML text: ``{"train.smoke.seconds": "5"}``.

    Raises:
        UsageError: The checkout has no pipeline, ``data`` is no folder, an override is unknown or out of bounds, or
            the DVC remote that the environment names cannot be used (`privseg.dataset_remote`).
        DataError: The folder of a source is missing.
        StorageError: The workspace cannot be written.
    """
    checkout = Path(privseg.__file__).resolve().parents[1]
    if not (checkout / "dvc.yaml").is_file():
        raise UsageError(checkout, "holds no dvc.yaml, so there is no pipeline to run", "run from a privseg checkout")
    if data is not None and not data.is_dir():
        raise UsageError(data, "is not a folder", "set PRIVSEG_DATA to the folder that holds the datasets")
    values, params = _chosen_params(checkout, data, overrides or {})
    raw = {name: "" if source.kind == "synthetic" else source.path for name, source in params.sources.items()}
    path = home.resolve() / "workspace"
    try:
        path.mkdir(parents=True, exist_ok=True)
        _copy_snapshot(checkout, path)
        _write_if_changed(path / "params.yaml", _rendered(values).encode())
        _link_sources(path, raw, data)
        if not (path / ".git").is_dir():
            run([*_GIT, "init", "--quiet", "--initial-branch=main"], path)
        dataset_remote.configure(path)
        _write_if_changed(path / "source.json", json.dumps(source_revision(checkout), indent=2).encode())
        _write_if_changed(path / ".gitignore", _GITIGNORE)
    except OSError as error:
        raise StorageError.from_os_error(path, error) from error
    _commit(path, "Snapshot of the code and parameters")
    for step in ("identified", "ingested"):
        _forget_removed(path / "data" / step, set(params.sources))
    for folder in ("models", "reports/benchmark"):
        _forget_removed(path / folder, set(params.candidates), resumable=set(CANDIDATES))
    return Workspace(path, sorted(params.sources), list(params.candidates))


def take_champion(workspace: Path, repository: Path, published: dict[str, Any] | None) -> int | None:
    """Copy the model that serves into the workspace, for the next challenger to beat.

    What this workspace published itself is taken only once something of the pipeline has changed: until then its
    results stand, the comparison with the champion of before included, and a second run repeats nothing.

    Args:
        workspace: The workspace's folder.
        repository: The model repository.
        published: What the last run from this workspace published: ``version`` and ``sha256``; None: nothing yet.

    Returns:
        The version to beat; None where nothing serves.

    Raises:
        StorageError: The repository cannot be read, or the workspace not written.
    """
    serving = accepted(repository)
    found = {"version": serving, "sha256": _intact(repository, serving)}
    folder, partial = workspace / CHAMPION, workspace / f"{CHAMPION}.partial"
    held = _held(folder / CHAMPION_FILE)
    if held == found or (held and found == published and up_to_date(workspace)):
        champion: int | None = held["version"]
        return champion
    try:
        shutil.rmtree(partial, ignore_errors=True)
        if serving is None:
            partial.mkdir()
        else:
            shutil.copytree(repository / MODEL_NAME / str(serving), partial)
        (partial / CHAMPION_FILE).write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")
        if folder.is_dir():
            shutil.rmtree(folder)
        partial.rename(folder)
    except OSError as error:
        raise StorageError.from_os_error(folder, error) from error
    return serving


def record_dataset(workspace: Path, version: str) -> str:
    """Push the dataset to the DVC remote, commit ``dvc.lock`` and tag it with a summary; returns the tag.

    An existing tag is left where it is: the same version has the same content.

    Raises:
        ServerUnavailableError: The remote is a server that is down or refuses; nothing is tagged, and nothing lost.
        StorageError: The remote is a folder that cannot be written; the same holds.
        DataError: A result is not in DVC's cache, so that the version would not be whole; the same holds.
    """
    dataset_store.push_dataset(workspace)
    _commit(workspace, f"Dataset {version}")
    tag = f"dataset/{version}"
    if not run([*_GIT, "tag", "--list", tag], workspace).stdout.strip():
        message = dataset_store.tag_message(version, workspace / dataset_store.MANIFEST)
        run([*_GIT, "tag", "--annotate", tag, "--message", message], workspace)
    return tag


def record_run(workspace: Path, message: str) -> str:
    """Commit what the run changed (``dvc.lock``, metrics) and return the workspace's revision."""
    _commit(workspace, message)
    return run([*_GIT, "rev-parse", "HEAD"], workspace).stdout.strip()


def source_revision(checkout: Path) -> dict[str, Any]:
    """Git revision of the code a run uses, and whether it had uncommitted changes."""
    try:
        inside = run(["git", "rev-parse", "--show-toplevel"], checkout, check=False)
        if inside.returncode != 0 or Path(inside.stdout.strip()).resolve() != checkout.resolve():
            return {"git_sha": None, "dirty": None, "version": privseg.__version__}
        head = run(["git", "rev-parse", "--verify", "--quiet", "HEAD"], checkout, check=False).stdout.strip()
        dirty = run(["git", "status", "--porcelain", "--untracked-files=no"], checkout).stdout.strip() != ""
    except FileNotFoundError:
        raise UsageError("git", "is not installed", "apt-get install git") from None
    return {"git_sha": head or None, "dirty": dirty, "version": privseg.__version__}


def _intact(repository: Path, version: int | None) -> str | None:
    """The hash that names a version's model; None where its files do not belong together, or there is none."""
    if version is None:
        return None
    try:
        return str(verify(repository, version)["sha256"])
    except GateFailedError:
        return None


def _held(file: Path) -> dict[str, Any] | None:
    """Which model the workspace holds as champion; None if that is not known."""
    try:
        held = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return held if isinstance(held, dict) and held.keys() == {"version", "sha256"} else None


def _copy_snapshot(checkout: Path, path: Path) -> None:
    wanted = [checkout / name for name in _SNAPSHOT]
    wanted += [f for f in (checkout / "privseg").rglob("*") if f.is_file() and "__pycache__" not in f.parts]
    for file in wanted:
        _write_if_changed(path / file.relative_to(checkout), file.read_bytes())
    kept = {path / file.relative_to(checkout) for file in wanted}
    for file in (path / "privseg").rglob("*"):
        if file.is_file() and "__pycache__" not in file.parts and file not in kept:
            file.unlink()


def _chosen_params(checkout: Path, data: Path | None, overrides: dict[str, str]) -> tuple[dict[str, Any], Params]:
    """Put the parameters of a run together and check all of them before anything is written.

    An hour of ingesting later is too late to hear of a typing error, and a name that is wrong must not look like one
    that was taken off the list: what belongs to such a name is removed.
    """
    from privseg.datasets.sources.registry import check_kind

    values = read_params_file(checkout / "params.yaml")
    if data is not None:
        values["sources"] = values.pop("public_sources", {})
    values.pop("public_sources", None)
    for name, text in overrides.items():
        _override(values, name, text)
    params = check_params(values, checkout / "params.yaml")
    for name, source in params.sources.items():
        check_kind(name, source)
    for candidate in params.candidates:
        find_candidate(candidate)
    check_training(params)
    return values, params


def _rendered(values: dict[str, Any]) -> str:
    """The workspace's params.yaml: every source lies under its name in ``raw``."""
    sources = {name: {**source, "path": name} for name, source in values["sources"].items()}
    text = yaml.safe_dump({**values, "raw_root": "raw", "sources": sources}, sort_keys=False)
    return f"# Rendered from the checkout's params.yaml; edit that one.\n{text}"


def _override(values: dict[str, Any], name: str, text: str) -> None:
    *parents, leaf = name.split(".")
    section = values
    for parent in parents:
        section = section.setdefault(parent, {})
        if not isinstance(section, dict):
            raise UsageError(name, "is not a parameter", "see params.yaml for the names")
    try:
        section[leaf] = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise UsageError(name, f"{text!r} is not valid YAML ({error})", "correct the value") from None


def _link_sources(path: Path, raw: dict[str, str], data: Path | None) -> None:
    folder = path / "raw"
    folder.mkdir(exist_ok=True)
    for name, relative in raw.items():
        link = folder / name
        if data is None or not relative:
            if link.is_symlink():
                link.unlink()
            _write_if_changed(link, b"rendered by privseg.datasets.sources.synthetic\n")
            continue
        target = (data / relative).resolve()
        if not target.is_dir():
            raise DataError(target, f"folder of source {name} is missing", "correct its path in params.yaml")
        if not link.is_symlink() or link.readlink() != target:
            link.unlink(missing_ok=True)
            link.symlink_to(target, target_is_directory=True)


def _forget_removed(folder: Path, wanted: set[str], resumable: Collection[str] = ()) -> None:
    """Drop results of sources and candidates that left params.yaml: later stages read the whole folder.

    What an interrupted run goes on from, ``.NAME.shards`` and its like, stays where NAME is wanted or ``resumable``:
    no later stage reads it, and it cost hours.
    """
    for entry in folder.iterdir() if folder.is_dir() else ():
        unfinished = entry.name.startswith(".")
        owner = entry.name.split(".")[1] if unfinished else entry.name
        if entry.is_dir() and owner not in wanted and not (unfinished and owner in resumable):
            shutil.rmtree(entry)


def _write_if_changed(path: Path, content: bytes) -> None:
    if not path.is_symlink() and path.is_file() and path.read_bytes() == content:
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f"{path.name}.partial")
    partial.write_bytes(content)
    partial.replace(path)


def _commit(path: Path, message: str) -> None:
    run([*_GIT, "add", "--all"], path)
    if run([*_GIT, "status", "--porcelain"], path).stdout.strip():
        run([*_GIT, "commit", "--quiet", "--no-verify", "--message", message], path)
