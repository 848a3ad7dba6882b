"""What happened to the versions of a model repository: a file that only grows, one line of JSON an event."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from privseg.errors import StorageError

__all__ = ["note", "read_history"]

_FILE: Final = ".history.jsonl"


def note(repository: Path, event: str, facts: Mapping[str, object]) -> None:
    """Add an event, durably; the caller holds the repository's lock.

    Args:
        repository: The model repository.
        event: ``published``, ``promoted``, ``rolled_back``, ``taken_back``, ``refused``, ``interrupted`` or ``pruned``.
        facts: JSON-ready: ``version``, ``sha256``, ``reason``, ``replicas`` and their like.

    Raises:
        StorageError: The disk is full or cannot be written; the line is not there then.
    """
    path = repository / _FILE
    line = json.dumps({"time": datetime.now(UTC).isoformat(timespec="seconds"), "event": event, **facts}).encode()
    try:
        with path.open("ab") as file:
            before = file.tell()
            try:
                # a line that a dead publisher, or a full disk, cut off must not swallow this one
                file.write((b"" if _ends_whole(path, before) else b"\n") + line + b"\n")
                file.flush()
                os.fsync(file.fileno())
            except OSError:
                with contextlib.suppress(OSError):
                    os.truncate(path, before)
                raise
    except OSError as error:
        raise StorageError.from_os_error(path, error) from error


def read_history(repository: Path) -> list[dict[str, Any]]:
    """Return the events, oldest first; a line that was cut off is passed over."""
    path = repository / _FILE
    events = []
    for line in path.read_bytes().splitlines() if path.is_file() else ():
        with contextlib.suppress(ValueError):
            event = json.loads(line)
            if isinstance(event, dict):
                events.append(event)
    return events


def _ends_whole(path: Path, size: int) -> bool:
    if not size:
        return True
    with path.open("rb") as file:
        file.seek(size - 1)
        return file.read(1) == b"\n"
