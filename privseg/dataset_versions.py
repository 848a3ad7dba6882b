"""Versions of the dataset: what there is, and what each says of itself.

A version is an annotated git tag ``dataset/ds-…`` in the repository of the workspace, whose message sums it up, and the
data that ``dvc.lock`` names there, which lies in DVC's cache and in the DVC remote. Nothing here changes the workspace,
so a pipeline may run in it meanwhile.
"""

from __future__ import annotations

import contextlib
import difflib
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import yaml

from privseg.dataset_store import MANIFEST, SUMMARY, Output, Store, dataset_outputs, read_yaml
from privseg.errors import DataError, UsageError
from privseg.repro import run

__all__ = ["TAG", "Version", "find_version", "list_versions", "outputs_at", "previous_summary", "show"]

TAG = "dataset/"


@dataclass(frozen=True)
class Version:
    """One recorded version.

    Attributes:
        name: ``ds-`` and 12 hex digits.
        created: When it was recorded, UTC, ISO 8601.
        images: Rows of its manifest; None, as all counts, when the tag does not say.
        kept: Images in the dataset.
        train, validation, test: Kept images by split.
        with_people: Kept images that show a person.
        mean_human_ratio: Mean share of human pixels over the kept images, 0..1.
        code: Revision of privseg that made it, with ``+`` if it had uncommitted changes; '' if unknown.
        in_cache: All its data is in DVC's cache.
        in_remote: All its data is in the remote; None for a server, which is not asked.
    """

    name: str
    created: str
    images: int | None
    kept: int | None
    train: int | None
    validation: int | None
    test: int | None
    with_people: int | None
    mean_human_ratio: float | None
    code: str
    in_cache: bool
    in_remote: bool | None

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready."""
        return asdict(self)


def list_versions(workspace: Path, *, limit: int | None = None) -> list[Version]:
    """List the recorded versions, newest first; none where there is no workspace yet.

    Args:
        workspace: Where to look.
        limit: At most so many.

    Raises:
        DataError: A version's ``dvc.lock`` or a list of files in the cache cannot be read.
    """
    return [_describe(workspace, *entry) for entry in _tags(workspace)[:limit]]


def find_version(workspace: Path, given: str) -> str:
    """Return the version that a name, or the beginning of one, means.

    Raises:
        UsageError: There is no such version, or there are several; the message names them.
    """
    known = [name for name, _, _ in _tags(workspace)]
    wanted = given.removeprefix(TAG)
    wanted = wanted if wanted.startswith("ds-") else f"ds-{wanted}"
    if wanted in known:
        return wanted
    fits = [name for name in known if name.startswith(wanted) and wanted != "ds-"]
    if len(fits) == 1:
        return fits[0]
    if fits:
        raise UsageError(given, f"may be {_some(fits)}", "write more of the version's name")
    if not known:
        raise UsageError(given, f"is no dataset version: {workspace} has none", "privseg run, which records one")
    near = difflib.get_close_matches(wanted, known, n=3, cutoff=0.5)
    named = f"; did you mean {_some(near)}?" if near else f"; there are {_some(known)}"
    raise UsageError(given, f"is no dataset version{named}", "privseg dataset versions")


def previous_summary(workspace: Path, version: str, path: str) -> dict[str, Any] | None:
    """Return what the newest version other than ``version`` says of itself; None if there is none that does.

    Args:
        workspace: Where to look.
        version: The version that is being made; it may be recorded already.
        path: Of the JSON object, held by git, in which a version says it.
    """
    for name, _, _ in _tags(workspace):
        if name != version:
            with contextlib.suppress(ValueError):
                value = json.loads(show(workspace, name, path))
                if isinstance(value, dict):
                    return value
    return None


def show(workspace: Path, version: str, path: str) -> str:
    """Return a text file that git holds, as it was in a version; '' if it had none."""
    done = run(["git", "show", f"{TAG}{version}:{path}"], workspace, check=False)
    return done.stdout if done.returncode == 0 else ""


def outputs_at(workspace: Path, version: str) -> dict[str, Output]:
    """Return what belonged to the dataset in a version, by path.

    Raises:
        DataError: The version's pipeline cannot be read, or it has no manifest.
    """
    names = ("dvc.yaml", "dvc.lock", "params.yaml")
    outputs = dataset_outputs(*(read_yaml(show(workspace, version, name), f"{version}:{name}") for name in names))
    if MANIFEST not in outputs:
        raise DataError(version, f"has no {MANIFEST}", "privseg dataset versions, and choose another")
    return outputs


def _tags(workspace: Path) -> list[tuple[str, str, str]]:
    """Name, date and message of every version, newest first."""
    if not (workspace / ".git").is_dir():
        return []
    fields = "%(refname:lstrip=3)%1f%(creatordate:unix)%1f%(*objectname)%1f%(contents:body)%1e"
    text = run(["git", "for-each-ref", f"--format={fields}", f"refs/tags/{TAG}ds-*"], workspace).stdout
    entries = [entry.strip("\n").split("\x1f") for entry in text.split("\x1e") if entry.strip()]
    # two of the same second are told apart by their place in the history
    history = run(["git", "rev-list", "--topo-order", "--tags"], workspace).stdout.split() if entries else []
    place = {commit: index for index, commit in enumerate(history)}
    entries.sort(key=lambda entry: (-int(entry[1]), place.get(entry[2], 0)))
    return [(name, datetime.fromtimestamp(int(date), UTC).isoformat(), body) for name, date, _, body in entries]


def _describe(workspace: Path, name: str, created: str, message: str) -> Version:
    try:
        said = yaml.safe_load(message)
    except yaml.YAMLError:
        said = None
    summary: dict[str, Any] = {key: said.get(key) if isinstance(said, dict) else None for key in SUMMARY}
    source = read_yaml(show(workspace, name, "source.json") or "{}", f"{name}:source.json")
    code = f"{str(source.get('git_sha') or '')[:7]}{'+' if source.get('dirty') else ''}"
    store, outputs = Store.of(workspace), outputs_at(workspace, name).values()
    remote = store.remote.folder
    return Version(
        name=name,
        created=created,
        **summary,
        code=code,
        in_cache=not store.missing(outputs, store.cache),
        in_remote=not store.missing(outputs, remote) if remote else None,
    )


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")
