"""The ``config.pbtxt`` of a model repository: written once, from what was measured on this machine if anything was.

``privseg bench serve`` leaves ``serving.json`` in the home, beside the model repository. A choice in it is used where
it was measured: on a machine with the same processor and as many cores.
"""

from __future__ import annotations

import json
import os
import platform
import uuid
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

from privseg.errors import DataError, StorageError, UsageError
from privseg.serving.artifact import MODEL_NAME
from privseg.serving.profiles import RuntimeChoice, default_choice, render_config

__all__ = [
    "CONFIG_FILE",
    "SERVING_FILE",
    "ensure_config",
    "hardware",
    "measured_choice",
    "render_config",
    "write_config",
]

CONFIG_FILE: Final = "config.pbtxt"
SERVING_FILE: Final = "serving.json"
_PROCESSORS: Final = Path("/proc/cpuinfo")


def ensure_config(repository: Path, *, threads: int | None = None) -> Path:
    """Write the model's ``config.pbtxt``, profile ``local``, if the repository has none.

    One that is there stays as it is, whatever release wrote it: an edit would reload every loaded version.

    Args:
        repository: The model repository; ``serving.json`` is looked for beside it.
        threads: Threads where nothing was measured; None: as many as there are processors.

    Raises:
        DataError: ``serving.json`` is damaged.
        OSError: The repository cannot be written.
    """
    path = repository / MODEL_NAME / CONFIG_FILE
    if not path.exists():
        choice = measured_choice(repository.parent)
        if choice is None:
            choice = default_choice() if threads is None else replace(default_choice(), threads=threads)
        _replace(repository, path, render_config("local", choice))
    return path


def write_config(repository: Path, text: str) -> bool:
    """Put another ``config.pbtxt`` into a repository; return whether it differs from the one that was there.

    A running server goes on as before until its next load, and then loads every version anew.

    Raises:
        StorageError: The disk is full or the repository cannot be written.
    """
    path = repository / MODEL_NAME / CONFIG_FILE
    try:
        if path.exists() and path.read_text(encoding="utf-8") == text:
            return False
        _replace(repository, path, text)
    except OSError as error:
        raise StorageError.from_os_error(path, error) from error
    return True


def measured_choice(home: Path) -> RuntimeChoice | None:
    """Return what ``privseg bench serve`` chose in this home on such a machine; None if it did not.

    Raises:
        DataError: ``serving.json`` is damaged.
    """
    path = home / SERVING_FILE
    try:
        measured = json.loads(path.read_text(encoding="utf-8"))
        choice = RuntimeChoice(**measured["choice"])
        there = dict(measured["hardware"])
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError, UsageError) as error:
        raise DataError(path, f"is no measurement ({error})", "remove it, or privseg bench serve") from None
    return choice if there | hardware() == there else None  # None: the home came from another machine


def hardware() -> dict[str, Any]:
    """Return what a measured choice depends on: ``processor``, its name, and ``cores``, what this process may use."""
    name = platform.machine()
    for line in _PROCESSORS.read_text(encoding="utf-8", errors="replace").splitlines() if _PROCESSORS.exists() else []:
        key, _, value = line.partition(":")
        if key.strip() == "model name":
            name = value.strip()
            break
    return {"processor": name, "cores": len(os.sched_getaffinity(0))}


def _replace(repository: Path, path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = repository / f".{CONFIG_FILE}.{uuid.uuid4().hex}"  # never a stray file in the model's directory
    try:
        temporary.write_text(text, encoding="utf-8")
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
