"""Which of the pipeline's results are the dataset, and where their bytes lie: DVC's cache and its remote.

DVC keeps a file under its MD5 digest, ``files/md5/ab/cdef…``, in the cache and in a remote alike. A folder is a JSON
list of its files, kept the same way under a digest that ends in ``.dir``
(https://dvc.org/doc/user-guide/project-structure/internal-files). ``dvc.lock`` holds the digests of all results.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from privseg import dataset_remote
from privseg.dataset_remote import Remote
from privseg.errors import DataError

__all__ = [
    "MANIFEST",
    "SUMMARY",
    "Output",
    "Store",
    "dataset_outputs",
    "object_file",
    "push_dataset",
    "read_yaml",
    "tag_message",
]

MANIFEST = "data/manifest.parquet"
SUMMARY = ("images", "kept", "train", "validation", "test", "with_people", "mean_human_ratio")
GATE = "validate"
_ROOMS = ("data/", "reports/")


@dataclass(frozen=True)
class Output:
    """One result of a stage.

    Attributes:
        stage: The stage's name, ``name@key`` for one of a ``foreach``.
        path: Relative to the workspace.
        md5: Its digest, which ends in ``.dir`` for a folder.
        cached: Whether DVC keeps it; git keeps the others.
    """

    stage: str
    path: str
    md5: str
    cached: bool


@dataclass(frozen=True)
class Store:
    """The places in which a workspace's results lie.

    Attributes:
        cache: DVC's cache, which other workspaces may share.
        remote: Where versions are pushed to.
    """

    cache: Path
    remote: Remote

    @staticmethod
    def of(workspace: Path) -> Store:
        """The cache and the remote that a workspace is set up for."""
        cache = dataset_remote.read_config(workspace).get("cache", {}).get("dir", "cache")
        return Store(Path(os.path.normpath(workspace / ".dvc" / cache)), dataset_remote.read_remote(workspace))

    @property
    def folders(self) -> list[Path]:
        """The places that are folders, the nearest first."""
        return [self.cache, *([self.remote.folder] if self.remote.folder else [])]

    def find(self, md5: str) -> Path | None:
        """Return the file of a digest, None where no folder has it."""
        return next((file for folder in self.folders if (file := object_file(folder, md5)).is_file()), None)

    def files(self, output: Output) -> dict[str, str] | None:
        """List the files of a result, path in the workspace to digest; None where no folder has the list."""
        if not output.md5.endswith(".dir"):
            return {output.path: output.md5}
        listing = self.find(output.md5)
        if listing is None:
            return None
        return {f"{output.path}/{relative}": md5 for relative, md5 in _listing(listing, output.md5)}

    def missing(self, outputs: Iterable[Output], folder: Path) -> list[str]:
        """List what of these results is not in one of the places; paths in the workspace."""
        absent: list[str] = []
        for output in (output for output in outputs if output.cached):
            files = self.files(output)
            if files is None or not object_file(folder, output.md5).is_file():
                absent.append(output.path)
            else:
                absent += [path for path, md5 in files.items() if not object_file(folder, md5).is_file()]
        return absent


def dataset_outputs(
    pipeline: Mapping[str, Any], lock: Mapping[str, Any], params: Mapping[str, Any]
) -> dict[str, Output]:
    """Find what belongs to the dataset: results below ``data/`` and ``reports/`` of stages not behind the gate.

    Args:
        pipeline: Content of ``dvc.yaml``.
        lock: Content of ``dvc.lock``. It may remember stages that are gone: of a source no longer in ``params``, say.
        params: Content of ``params.yaml``, for stages with ``foreach``.

    Returns:
        By path.
    """
    stages = {name: entry for name, entry in lock.get("stages", {}).items() if _exists(name, pipeline, params)}
    behind = {out["path"] for out in stages.get(GATE, {}).get("outs", [])}
    later: set[str] = set()
    while found := {
        name
        for name, entry in stages.items()
        if name not in later and any(_overlap(dep["path"], path) for dep in entry.get("deps", []) for path in behind)
    }:
        later |= found
        behind = {out["path"] for name in found for out in stages[name].get("outs", [])}
    return {
        out["path"]: Output(name, out["path"], out["md5"], out["path"] not in _uncached(name, pipeline))
        for name, entry in stages.items()
        if name not in later and all(out["path"].startswith(_ROOMS) for out in entry.get("outs", []))
        for out in entry.get("outs", [])
    }


def push_dataset(workspace: Path) -> None:
    """Push what belongs to the dataset to the DVC remote.

    Raises:
        ServerUnavailableError: The remote is a server that is down or refuses.
        StorageError: The remote is a directory that cannot be written.
        DataError: A result is neither in the cache nor in the remote, so that the version would not be whole.
    """
    names = ("dvc.yaml", "dvc.lock", "params.yaml")
    outputs = dataset_outputs(*(read_yaml((workspace / name).read_text(encoding="utf-8"), name) for name in names))
    store = Store.of(workspace)
    store.remote.reach()
    stages = sorted({output.stage for output in outputs.values()})
    dataset_remote.dvc(["push", *stages], workspace, store.remote)
    # DVC pushes what it has and calls that a success. A server is not asked again: it got what the cache holds.
    absent = store.missing(outputs.values(), store.remote.folder or store.cache)
    if absent:
        fault = f"is not in DVC's cache{_more(absent)}, so the dataset's version would not be whole"
        raise DataError(absent[0], fault, f"cd {workspace}, dvc commit --force, then run the same command again")


def object_file(folder: Path, md5: str) -> Path:
    """Where a cache or a remote that is a folder keeps the file, or list of files, of a digest."""
    return folder / "files" / "md5" / md5[:2] / md5[2:]


def tag_message(version: str, manifest: Path) -> str:
    """Sum a version up for its tag: a line to read, then YAML with the names of `SUMMARY`.

    Raises:
        DataError: The manifest is missing or broken.
    """
    from privseg.datasets.manifest import read_manifest

    df = read_manifest(manifest)
    kept = df[df["status"] == "kept"]
    summary: dict[str, int | float] = {"images": len(df), "kept": len(kept)}
    summary |= {split: int((kept["split"] == split).sum()) for split in ("train", "validation", "test")}
    summary["with_people"] = int(kept["is_human"].sum())
    summary["mean_human_ratio"] = round(float(kept["human_ratio"].mean()), 6) if len(kept) else 0.0
    return f"Dataset {version}: {len(kept):,} images\n\n{yaml.safe_dump(summary, sort_keys=False)}"


def read_yaml(text: str, name: str) -> dict[str, Any]:
    """Parse one of DVC's files.

    Raises:
        DataError: It is no YAML mapping.
    """
    try:
        value = yaml.load(text, Loader=_loader())  # noqa: S506 - a safe loader
    except yaml.YAMLError as error:
        raise DataError(name, f"is not valid YAML ({error})", "restore it from the workspace's git history") from None
    if not isinstance(value, dict):
        raise DataError(name, "holds no mapping", "restore it from the workspace's git history")
    return value


def _loader() -> Any:
    return getattr(yaml, "CSafeLoader", yaml.SafeLoader)


def _exists(name: str, pipeline: Mapping[str, Any], params: Mapping[str, Any]) -> bool:
    base, _, key = name.partition("@")
    stage = pipeline.get("stages", {}).get(base)
    if stage is None:
        return False
    each = stage.get("foreach")
    if each is None:
        return True
    reference = re.fullmatch(r"\$\{([\w.]+)\}", each) if isinstance(each, str) else None
    if reference:
        each = params
        for part in reference[1].split("."):
            each = each.get(part, {}) if isinstance(each, Mapping) else {}
    return key in {str(item) for item in each}


def _uncached(name: str, pipeline: Mapping[str, Any]) -> set[str]:
    base, _, key = name.partition("@")
    stage = pipeline["stages"][base]
    stage = stage.get("do", stage)
    entries = [entry for kind in ("outs", "metrics", "plots") for entry in stage.get(kind, [])]
    flags = {path: value for entry in entries if isinstance(entry, dict) for path, value in entry.items()}
    return {
        path.replace("${key}", key).replace("${item}", key)
        for path, value in flags.items()
        if isinstance(value, dict) and value.get("cache") is False
    }


def _more(names: Sequence[str]) -> str:
    return f" (and {len(names) - 1} more)" if len(names) > 1 else ""


def _overlap(one: str, other: str) -> bool:
    return one == other or one.startswith(f"{other}/") or other.startswith(f"{one}/")


@cache
def _listing(file: Path, md5: str) -> tuple[tuple[str, str], ...]:
    """Files of a folder; a digest always means the same ones, and versions share folders."""
    try:
        return tuple((str(entry["relpath"]), str(entry["md5"])) for entry in json.loads(file.read_bytes()))
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(file, f"is no list of files ({error})", f"rm {file}, then run the same command again") from None
