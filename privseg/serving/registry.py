"""Which revision of a workspace made the model that serves: git tags in the format of GTO, DVC's model registry.

``person_segmentation@v0.0.3`` says: this commit's ``dvc.lock`` holds the model that was published as version 3.
``person_segmentation#prod#7`` says: since the seventh change, the model of this commit serves. So
``dvc.api.artifacts_show("person_segmentation", stage="prod")`` names the revision, and
``dvc artifacts get … --stage prod`` fetches the model, without asking any server.

The tags are written with git, not through GTO's own commands: both GTO and DVC order tags by their date in whole
seconds, and two changes within one second are told apart only if the later one gets a later date (seen with GTO 1.10.1
and DVC 3.67.1). The model that served before is always unassigned first, because GTO otherwise prefers the greater
version, and DVC takes the newest tag, even one that unassigns.
"""

from __future__ import annotations

import os
import re
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from privseg.errors import StorageError
from privseg.serving.artifact import MODEL_NAME

__all__ = ["STAGE", "assign", "register"]

STAGE: Final = "prod"
_VERSION: Final = re.compile(rf"{MODEL_NAME}@v0\.0\.(\d+)")
_ASSIGNED: Final = re.compile(rf"{MODEL_NAME}#{STAGE}(!?)#(\d+)")
_SHA256: Final = "sha256: "
_GIT: Final = ("git", "-c", "user.name=privseg", "-c", "user.email=privseg@localhost", "-c", "tag.gpgsign=false")


@dataclass(frozen=True)
class _Tag:
    name: str
    date: int
    commit: str
    message: str


def register(workspace: Path, version: int, sha256: str, revision: str) -> str:
    """Tag the revision that made a model; a model that is known already keeps its tag.

    Args:
        workspace: A git repository.
        version: Number under which Triton serves the model; where another model had it, the next free one is taken.
        sha256: Hash of ``model.onnx``, by which the tag is found again.
        revision: Commit whose ``dvc.lock`` holds the model.

    Returns:
        The tag's name.

    Raises:
        StorageError: The tag cannot be written.
    """
    tags = _tags(workspace)
    known = _of_model(tags, sha256)
    if known is not None:
        return known.name
    taken = [int(match[1]) for tag in tags if (match := _VERSION.fullmatch(tag.name))]
    number = version if version not in taken else max(taken) + 1
    name = f"{MODEL_NAME}@v0.0.{number}"
    _write(workspace, tags, name, revision, f"{_SHA256}{sha256}\n\nPublished to Triton as version {version}")
    return name


def assign(workspace: Path, sha256: str) -> str | None:
    """Say that this model is the one that serves.

    A model that no revision here made, like the one that comes with privseg, leaves nobody in the stage. DVC knows no
    empty stage, so its tags are removed then; what happened when still stands in the model repository's history.

    Args:
        workspace: A git repository.
        sha256: Hash of the ``model.onnx`` that serves.

    Returns:
        The model's version tag; None for a model that no revision here made.

    Raises:
        StorageError: A tag cannot be written.
    """
    tags = _tags(workspace)
    model = _of_model(tags, sha256)
    assigned = [(tag, match) for tag in tags if (match := _ASSIGNED.fullmatch(tag.name))]
    if model is None:
        if assigned:
            _git(workspace, "tag", "--delete", *(tag.name for tag, _ in assigned))
        return None
    last, cancelled = (assigned[-1][0], assigned[-1][1][1]) if assigned else (None, "")
    if last is not None and not cancelled and last.commit == model.commit:
        return model.name
    number = max((int(match[2]) for _, match in assigned), default=0)
    if last is not None and not cancelled:
        number += 1
        _write(workspace, tags, f"{MODEL_NAME}#{STAGE}!#{number}", last.commit, "Serves no more")
        tags = _tags(workspace)
    _write(workspace, tags, f"{MODEL_NAME}#{STAGE}#{number + 1}", model.commit, f"Serves\n\n{_SHA256}{sha256}")
    return model.name


def _of_model(tags: list[_Tag], sha256: str) -> _Tag | None:
    wanted = f"{_SHA256}{sha256}"
    return next((tag for tag in tags if _VERSION.fullmatch(tag.name) and wanted in tag.message.splitlines()), None)


def _tags(workspace: Path) -> list[_Tag]:
    """Return the tags of the model, oldest first."""
    fields = "%(refname:lstrip=2)%1f%(creatordate:unix)%1f%(*objectname)%1f%(contents)%1e"
    text = _git(workspace, "for-each-ref", f"--format={fields}", "refs/tags/")
    entries = [entry.strip("\n").split("\x1f") for entry in text.split("\x1e") if entry.strip()]
    tags = [_Tag(name, int(date), commit, message) for name, date, commit, message in entries]
    return sorted((tag for tag in tags if tag.name.startswith(MODEL_NAME)), key=lambda tag: tag.date)


def _write(workspace: Path, tags: list[_Tag], name: str, commit: str, message: str) -> None:
    later = max([int(time.time()), *(tag.date + 1 for tag in tags)])
    _git(workspace, "tag", "--annotate", "--message", message, name, commit, date=f"{later} +0000")


def _git(workspace: Path, *arguments: str, date: str | None = None) -> str:
    environment = os.environ | ({"GIT_COMMITTER_DATE": date} if date else {})
    done = subprocess.run(
        [*_GIT, *arguments],
        cwd=workspace,
        env=environment,
        capture_output=True,
        text=True,
        stdin=subprocess.DEVNULL,
        check=False,
    )
    if done.returncode:
        said = (done.stderr or done.stdout).strip().splitlines()
        fault = f"git {arguments[0]} failed: {said[-1] if said else 'no message'}"
        raise StorageError(workspace, fault, "check the disk there, then publish again")
    return done.stdout
