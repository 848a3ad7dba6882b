"""Where stages read and write inside a workspace, and the JSON files that pass between them."""

from __future__ import annotations

import contextlib
import json
import uuid
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from privseg.errors import DataError, StorageError

__all__ = ["read_json", "read_selection", "record_decision", "write_json"]

MANIFEST = Path("data/manifest.parquet")
INGESTED = Path("data/ingested")
VALIDATED = Path("data/validated.json")
MODELS = Path("models")
REPORTS = Path("reports")
BENCHMARK = REPORTS / "benchmark"
CHAMPION = REPORTS / "champion"
SELECTION = REPORTS / "selection.json"
EXPORTED = Path("models_export/person_segmentation")
DECISIONS = Path("out/decisions.jsonl")  # in the folder that holds the workspace


def read_json(path: Path) -> dict[str, Any]:
    """Read a JSON object.

    Raises:
        DataError: The file is missing or holds none.
    """
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise DataError(path, "does not exist", "run the earlier stages: dvc repro") from None
    except ValueError as error:
        raise DataError(path, f"is not JSON ({error})", "remove it and run dvc repro") from None
    if not isinstance(value, dict):
        raise DataError(path, "holds no JSON object", "remove it and run dvc repro")
    return value


def write_json(path: Path, value: dict[str, Any]) -> None:
    """Write a JSON object by replacement, keys sorted; of several at once, on one machine or many, the last one stays.

    Raises:
        StorageError: The disk is full or the place cannot be written; what was there before still is.
    """
    partial = path.with_name(f".{path.name}.{uuid.uuid4().hex}.partial")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        partial.write_text(json.dumps(value, indent=2, sort_keys=True) + "\n", encoding="utf-8")
        partial.replace(path)
    except OSError as error:
        with contextlib.suppress(OSError):
            partial.unlink(missing_ok=True)
        raise StorageError.from_os_error(path, error) from None


def record_decision(root: Path, decision: dict[str, Any]) -> None:
    """Add what was decided about a model, with time and dataset, to the record beside the workspace: a line of JSON.

    Raises:
        StorageError: The disk is full or the record cannot be written.
    """
    from privseg.datasets.manifest import write_atomic  # pandas, slow to import

    record = root.parent / DECISIONS
    facts = {
        "time": datetime.now(UTC).isoformat(timespec="seconds"),
        "dataset_version": read_json(root / VALIDATED)["dataset_version"],
    }
    try:
        before = record.read_bytes() if record.exists() else b""
    except OSError as error:
        raise StorageError.from_os_error(record, error) from None
    write_atomic(record, before + json.dumps(facts | decision).encode() + b"\n")


def read_selection(root: Path) -> dict[str, Any]:
    """Read what a workspace's ``select`` decided.

    Raises:
        DataError: It has decided nothing yet, or an earlier release did.
    """
    selection = read_json(root / SELECTION)
    if missing := {"outcome", "reason", "champion", "winner", "winner_checkpoint_sha256"} - set(selection):
        raise DataError(root / SELECTION, f"does not say {min(missing)}", "run the selection again: privseg run")
    return selection
