"""The folder a pipeline run works in: a snapshot of the code, its own git history, its own DVC cache.

A run never touches the checkout it was started from. It works in ``<home>/workspace``, a git repository of its own that
holds a copy of ``privseg/``, ``dvc.yaml`` and the rendered ``params.yaml``. ``dvc.lock`` is committed there after every
run and dataset versions are tags there, so any earlier state can be checked out again.

::

    <home>/                       .privseg/generated or .privseg/public by default
        workspace/                code snapshot, dvc.yaml, params.yaml, raw/ (links), data/, models/, reports/
        dvc-store/                the DVC remote (a directory)
        model_repository/         what Triton serves
        triton/                   the local server's log, ports and pid
        airflow/                  AIRFLOW_HOME
        out/                      protected video, report, summary
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

import privseg
from privseg.errors import DataError, PrivsegError, StorageError, UsageError
from privseg.params import check_params, load_params, read_params_file

__all__ = ["Workspace", "prepare", "record_dataset", "record_run", "reproduce", "source_revision", "up_to_date"]

ERROR_FILE_VARIABLE = "PRIVSEG_ERROR_FILE"  # where a child process leaves the error that ended it
_SNAPSHOT = ("dvc.yaml", ".dvcignore", ".dvc/config", ".dvc/.gitignore")
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
        UsageError: The checkout has no pipeline, ``data`` is no folder, or an override is unknown or out of bounds.
        DataError: The folder of a source is missing.
        StorageError: The workspace cannot be written.
    """
    checkout = Path(privseg.__file__).resolve().parents[1]
    if not (checkout / "dvc.yaml").is_file():
        raise UsageError(checkout, "holds no dvc.yaml, so there is no pipeline to run", "run from a privseg checkout")
    if data is not None and not data.is_dir():
        raise UsageError(data, "is not a folder", "set PRIVSEG_DATA to the folder that holds the datasets")
    path = home.resolve() / "workspace"
    try:
        path.mkdir(parents=True, exist_ok=True)
        _copy_snapshot(checkout, path)
        raw = _render_params(checkout, path, data, overrides or {})
        _link_sources(path, raw, data)
        if not (path / ".git").is_dir():
            _run([*_GIT, "init", "--quiet", "--initial-branch=main"], path)
        _write_if_changed(path / "source.json", json.dumps(source_revision(checkout), indent=2).encode())
        _write_if_changed(path / ".gitignore", b"__pycache__/\n/raw/\n/models_export/\n*.partial\n/reports/*.html\n")
    except OSError as error:
        raise StorageError.from_os_error(path, error) from error
    _commit(path, "Snapshot of the code and parameters")
    params = load_params(path / "params.yaml")
    _forget_removed(path / "data" / "ingested", set(params.sources))
    _forget_removed(path / "reports" / "benchmark", set(params.candidates))
    return Workspace(path, sorted(params.sources), list(params.candidates))


def reproduce(workspace: Path, stage: str, *, emit: Callable[[str], None] = print) -> bool:
    """Bring one DVC stage up to date; its output goes to ``emit`` line by line.

    Returns:
        True if the stage ran, False if nothing it depends on had changed.

    Raises:
        PrivsegError: The error the stage itself ended with, of the same class and text.
    """
    error_file = workspace / ".dvc" / "tmp" / f"error-{stage.replace('@', '-')}.json"
    error_file.parent.mkdir(parents=True, exist_ok=True)
    error_file.unlink(missing_ok=True)
    command = [sys.executable, "-m", "dvc", "--wait-for-lock", "repro", "--single-item", stage]
    ran = True
    last = ""
    with subprocess.Popen(
        command,
        cwd=workspace,
        env=_environment() | {ERROR_FILE_VARIABLE: str(error_file)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        stdin=subprocess.DEVNULL,
        text=True,
        errors="replace",
    ) as process:
        for line in _worth_showing(process.stdout):
            if "didn't change, skipping" in line:
                ran = False
            last = line
            emit(line)
    if process.returncode == 0:
        return ran
    if error_file.is_file():
        raise PrivsegError.load(error_file)
    raise DataError(f"stage {stage}", f"dvc repro failed: {last}", f"cd {workspace} and dvc repro -s {stage}")


def up_to_date(workspace: Path) -> bool:
    """Whether every stage's results match its inputs, parameters and code."""
    status = _run([sys.executable, "-m", "dvc", "status", "--json"], workspace, check=False)
    try:
        return status.returncode == 0 and (workspace / "dvc.lock").is_file() and json.loads(status.stdout) == {}
    except ValueError:
        return False


def record_dataset(workspace: Path, version: str) -> str:
    """Push the dataset to the DVC remote, commit ``dvc.lock`` and tag it; returns the tag.

    An existing tag is left where it is: the same version has the same content.
    """
    stages = [f"ingest@{name}" for name in load_params(workspace / "params.yaml").sources]
    _run([sys.executable, "-m", "dvc", "push", "--quiet", *stages, "cleanse", "split", "validate"], workspace)
    _commit(workspace, f"Dataset {version}")
    tag = f"dataset/{version}"
    if not _run([*_GIT, "tag", "--list", tag], workspace).stdout.strip():
        _run([*_GIT, "tag", "--annotate", tag, "--message", f"Dataset {version}"], workspace)
    return tag


def record_run(workspace: Path, message: str) -> str:
    """Commit what the run changed (``dvc.lock``, metrics) and return the workspace's revision."""
    _commit(workspace, message)
    return _run([*_GIT, "rev-parse", "HEAD"], workspace).stdout.strip()


def source_revision(checkout: Path) -> dict[str, Any]:
    """Git revision of the code a run uses, and whether it had uncommitted changes."""
    try:
        inside = _run(["git", "rev-parse", "--show-toplevel"], checkout, check=False)
        if inside.returncode != 0 or Path(inside.stdout.strip()).resolve() != checkout.resolve():
            return {"git_sha": None, "dirty": None, "version": privseg.__version__}
        head = _run(["git", "rev-parse", "--verify", "--quiet", "HEAD"], checkout, check=False).stdout.strip()
        dirty = _run(["git", "status", "--porcelain", "--untracked-files=no"], checkout).stdout.strip() != ""
    except FileNotFoundError:
        raise UsageError("git", "is not installed", "apt-get install git") from None
    return {"git_sha": head or None, "dirty": dirty, "version": privseg.__version__}


def _copy_snapshot(checkout: Path, path: Path) -> None:
    wanted = [checkout / name for name in _SNAPSHOT]
    wanted += [f for f in (checkout / "privseg").rglob("*") if f.is_file() and "__pycache__" not in f.parts]
    for file in wanted:
        _write_if_changed(path / file.relative_to(checkout), file.read_bytes())
    kept = {path / file.relative_to(checkout) for file in wanted}
    for file in (path / "privseg").rglob("*"):
        if file.is_file() and "__pycache__" not in file.parts and file not in kept:
            file.unlink()


def _render_params(checkout: Path, path: Path, data: Path | None, overrides: dict[str, str]) -> dict[str, str]:
    """Write the workspace's params.yaml; returns source name to its folder relative to the data folder."""
    values = read_params_file(checkout / "params.yaml")
    if data is not None:
        values["sources"] = values.pop("public_sources", {})
    values.pop("public_sources", None)
    for name, text in overrides.items():
        _override(values, name, text)
    sources = check_params(values, checkout / "params.yaml").sources
    values["raw_root"] = "raw"
    for name in sources:
        values["sources"][name]["path"] = name
    text = "# Rendered from the checkout's params.yaml; edit that one.\n" + yaml.safe_dump(values, sort_keys=False)
    _write_if_changed(path / "params.yaml", text.encode())
    return {name: "" if source.kind == "synthetic" else source.path for name, source in sources.items()}


def _override(values: dict[str, Any], name: str, text: str) -> None:
    *parents, leaf = name.split(".")
    section = values
    for parent in parents:
        section = section.setdefault(parent, {})
        if not isinstance(section, dict):
            raise UsageError(name, "is not a parameter", "see params.yaml for the names")
    section[leaf] = yaml.safe_load(text)


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


def _forget_removed(folder: Path, wanted: set[str]) -> None:
    """Drop results of sources and candidates that left params.yaml: later stages read the whole folder."""
    for entry in folder.iterdir() if folder.is_dir() else ():
        if entry.is_dir() and entry.name not in wanted:
            shutil.rmtree(entry)


def _write_if_changed(path: Path, content: bytes) -> None:
    if not path.is_symlink() and path.is_file() and path.read_bytes() == content:
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f"{path.name}.partial")
    partial.write_bytes(content)
    partial.replace(path)


def _commit(path: Path, message: str) -> None:
    _run([*_GIT, "add", "--all"], path)
    if _run([*_GIT, "status", "--porcelain"], path).stdout.strip():
        _run([*_GIT, "commit", "--quiet", "--no-verify", "--message", message], path)


def _environment() -> dict[str, str]:
    # The stage commands say `python`: they must get the interpreter, and so the environment, that runs this.
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}"
    return os.environ | {"PATH": path, "DVC_NO_ANALYTICS": "1", "PYTHONUNBUFFERED": "1"}


def _run(command: list[str], cwd: Path, *, check: bool = True) -> subprocess.CompletedProcess[str]:
    result = subprocess.run(
        command, cwd=cwd, env=_environment(), capture_output=True, text=True, stdin=subprocess.DEVNULL, check=False
    )
    if check and result.returncode != 0:
        name = " ".join([word for word in command if not word.startswith("-")][-3:])
        fault = (result.stderr or result.stdout).strip().splitlines()
        raise StorageError(cwd, f"{name} failed: {fault[-1] if fault else 'no message'}", "check the disk there")
    return result


_NOISE = ("To track the changes", "git add ", "To enable auto staging", "dvc config core.", "Use `dvc push`")


def _worth_showing(lines: Iterator[str] | None) -> Iterator[str]:
    for line in lines or ():
        text = line.rstrip()
        if text.strip() and not text.strip().startswith(_NOISE):
            yield text
