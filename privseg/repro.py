"""How stages are run in a workspace: DVC, and the commands of its stages, as processes whose output is followed."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

from privseg.errors import DataError, PrivsegError, StorageError

__all__ = ["ERROR_FILE_VARIABLE", "changed", "reproduce", "run", "run_part", "up_to_date"]

ERROR_FILE_VARIABLE = "PRIVSEG_ERROR_FILE"  # where a child process leaves the error that ended it


def reproduce(workspace: Path, stage: str, *, emit: Callable[[str], None] = print) -> bool:
    """Bring one DVC stage up to date; its output goes to ``emit`` line by line.

    Returns:
        True if the stage ran, False if nothing it depends on had changed.

    Raises:
        PrivsegError: The error the stage itself ended with, of the same class and text.
    """
    ran = True

    def show(line: str) -> None:
        nonlocal ran
        ran = ran and "didn't change, skipping" not in line
        emit(line)

    _follow([sys.executable, "-m", "dvc", "--wait-for-lock", "repro", "--single-item", stage], workspace, stage, show)
    return ran


def run_part(workspace: Path, stage: str, part: str, *, emit: Callable[[str], None] = print) -> None:
    """Do a part of a stage outside of DVC, in a process of its own; the stage finds it done.

    Raises:
        PrivsegError: The error the part ended with, of the same class and text.
    """
    _follow([sys.executable, "-m", "privseg", "stage", stage, part], workspace, f"{stage} {part}", emit)


def up_to_date(workspace: Path) -> bool:
    """Whether every stage's results match its inputs, parameters and code."""
    status = run([sys.executable, "-m", "dvc", "status", "--json"], workspace, check=False)
    try:
        return status.returncode == 0 and (workspace / "dvc.lock").is_file() and json.loads(status.stdout) == {}
    except ValueError:
        return False


def _follow(command: list[str], workspace: Path, name: str, emit: Callable[[str], None]) -> None:
    """Run a command in the workspace; its output goes to ``emit`` line by line, its error is raised here."""
    safe = "".join(c if c.isalnum() or c in "-_" else "-" for c in name)
    error_file = workspace / ".dvc" / "tmp" / f"error-{safe}.json"
    error_file.parent.mkdir(parents=True, exist_ok=True)
    error_file.unlink(missing_ok=True)
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
            last = line
            emit(line)
    if process.returncode == 0:
        return
    if error_file.is_file():
        with contextlib.suppress(ValueError):
            raise PrivsegError.load(error_file)
        fault = "failed and could not leave its error: most likely the disk is full"
        raise StorageError(f"stage {name}", fault, f"free space at {workspace}, then run the same command again")
    again = " ".join(["python", *command[1:]])
    raise DataError(f"stage {name}", f"failed: {last}", f"cd {workspace} and {again}")


def changed(workspace: Path, targets: list[str], prefix: str) -> list[str]:
    """Return which of these stages must run again, without their common prefix."""
    status = run([sys.executable, "-m", "dvc", "status", "--json", *targets], workspace, check=False)
    try:
        stale = set(json.loads(status.stdout)) if status.returncode == 0 else set(targets)
    except ValueError:
        stale = set(targets)
    return [target.removeprefix(prefix) for target in targets if target in stale]


def _environment() -> dict[str, str]:
    # The stage commands say `python`: they must get the interpreter, and so the environment, that runs this.
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}"
    return os.environ | {"PATH": path, "DVC_NO_ANALYTICS": "1", "PYTHONUNBUFFERED": "1"}


def run(command: list[str], cwd: Path, *, check: bool = True) -> subprocess.CompletedProcess[str]:
    """Run a command in a folder and return what it printed.

    Raises:
        StorageError: It failed, and ``check`` is set.
    """
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
