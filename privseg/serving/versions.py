"""The model repository on disk: immutable numbered versions, staging, rejected versions.

::

    <repository>/
      person_segmentation/config.pbtxt
      person_segmentation/N/{model.onnx,model.json}   N and N-1 at least
      .staging/       what is being written or removed; on the same filesystem, outside the model's directory
      .rejected/      N-<kind>: versions that were taken back; refused-…: candidates that never got a number
      .history.jsonl  what was published, taken back and refused, a line each (`privseg.serving.history`)
      .pending        the version that a publisher puts up or takes down; one that died left it
      .lock           held by the one publisher
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import shutil
import time
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from privseg.errors import StorageError, UsageError
from privseg.serving.artifact import MODEL_NAME, ONNX_FILE, RECORD_FILE, Artifact, read_artifact, read_artifact_record
from privseg.serving.rejected import REFUSED, REJECTED, leave_reason, list_rejected

__all__ = [
    "ROLLED_BACK",
    "Store",
    "Unfinished",
    "accepted",
    "current",
    "list_versions",
    "read_record",
    "verify",
]

LOCK_SECONDS: Final = 600.0
KEEP_REJECTED: Final = 3
KEEP_REFUSED: Final = 20  # their folders hold a reason, no model
ROLLED_BACK: Final = "rolled_back"  # the kind of rejection of a version that was good once


@dataclass(frozen=True)
class Unfinished:
    """What a publisher that died was doing.

    Attributes:
        version: The version.
        taking_down: It was being rolled back; else it was being published.
        on_disk: It still lies where Triton looks.
    """

    version: int
    taking_down: bool
    on_disk: bool


def list_versions(repository: Path) -> list[int]:
    """Return the version numbers on disk, oldest first."""
    folder = repository / MODEL_NAME
    if not folder.is_dir():
        return []
    return sorted(int(entry.name) for entry in folder.iterdir() if entry.is_dir() and _is_number(entry.name))


def current(repository: Path) -> int | None:
    """Return the newest version, which is what Triton serves; None for an empty repository."""
    return max(list_versions(repository), default=None)


def accepted(repository: Path) -> int | None:
    """Return the newest version whose publication has ended: not the one that a publisher still checks, or left."""
    pending = _read_mark(repository / ".pending")
    return max(
        (version for version in list_versions(repository) if pending is None or version != pending[0]), default=None
    )


def read_record(repository: Path, version: int) -> dict[str, Any]:
    """Return a version's ``model.json``, without hashing its model.

    Raises:
        UsageError: There is no such version.
        GateFailedError: The record cannot be read.
    """
    return read_artifact_record(_directory(repository, version))


def verify(repository: Path, version: int) -> dict[str, Any]:
    """Check a version's files against its record and return the record.

    Raises:
        UsageError: There is no such version.
        GateFailedError: A file is missing or changed.
    """
    return read_artifact(_directory(repository, version)).record


class Store:
    """Writes to a model repository; the caller holds ``locked()``. Every method raises StorageError."""

    def __init__(self, repository: Path) -> None:
        self.repository = repository
        self._model = repository / MODEL_NAME
        self._staging = repository / ".staging"
        self._rejected = repository / REJECTED
        self._pending = repository / ".pending"

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Be the only publisher; waits for another one to finish."""
        with self._writing():
            for folder in (self._model, self._staging, self._rejected):
                folder.mkdir(parents=True, exist_ok=True)
            descriptor = os.open(self.repository / ".lock", os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o644)
        try:
            deadline = time.monotonic() + LOCK_SECONDS
            while not _try_lock(descriptor):
                if time.monotonic() > deadline:
                    raise StorageError(self.repository, "is locked by another publisher", "wait for it, then retry")
                time.sleep(0.1)
            yield
        finally:
            os.close(descriptor)

    def add(self, artifact: Artifact) -> int:
        """Write the artifact as the next version, durably and at once visible; it is pending until ``accept``.

        A number is never used twice, rejected versions included.
        """
        taken = [entry.version for entry in list_rejected(self.repository) if entry.version]
        version = max([*list_versions(self.repository), *taken], default=0) + 1
        staged, final = self._staging / uuid.uuid4().hex, self._model / str(version)
        try:
            with self._writing():
                staged.mkdir()
                _write_durably(staged / ONNX_FILE, artifact.onnx)
                _write_durably(staged / RECORD_FILE, artifact.record_bytes)
                _sync_folder(staged)
                read_artifact(staged)
                _write_durably(self._pending, str(version).encode())
                _sync_folder(self.repository)
                staged.rename(final)
                _sync_folder(self._model)
        except BaseException:
            with contextlib.suppress(FileNotFoundError):
                final.rename(staged)
            shutil.rmtree(staged, ignore_errors=True)
            self._pending.unlink(missing_ok=True)
            raise
        return version

    def begin_taking_down(self, version: int) -> None:
        """Leave the mark that a version is being rolled back: whoever finds it finishes that."""
        with self._writing():
            _write_durably(self._pending, f"{version} {ROLLED_BACK}".encode())
            _sync_folder(self.repository)

    def accept(self) -> None:
        """Take the mark away: the version is up and checked, or down, and every server knows."""
        self._pending.unlink(missing_ok=True)

    def reject(self, version: int, kind: str, reason: str = "") -> None:
        """Move a version aside, out of Triton's sight, with the reason beside its model."""
        folder = self._rejected / f"{version}-{kind}"
        with self._writing():
            (self._model / str(version)).rename(folder)
            _sync_folder(self._model)
        leave_reason(folder, kind, reason, _sha256_of(folder))

    def refuse(self, kind: str, reason: str, sha256: str) -> None:
        """Remember a candidate that was refused before it got a number; a full disk keeps no one from refusing."""
        folder = self._rejected / f"{REFUSED}{time.time_ns()}"
        with contextlib.suppress(OSError):
            folder.mkdir()
        leave_reason(folder, kind, reason, sha256)

    def unfinished(self) -> Unfinished | None:
        """Return what a dead publisher left half-done, if there is such a thing."""
        mark = _read_mark(self._pending)
        if mark is None:
            self._pending.unlink(missing_ok=True)  # died while it wrote the mark: nothing had been done yet
            return None
        version, taking_down = mark
        return Unfinished(version, taking_down, on_disk=(self._model / str(version)).is_dir())

    def set_aside_interrupted(self) -> int | None:
        """Take the version that a dead publisher left in between out of Triton's sight; return its number.

        For a server that is about to start: it then reads the right version from the disk by itself.
        """
        found = self.unfinished()
        if found is None:
            return None
        if found.on_disk:
            self.reject(found.version, ROLLED_BACK if found.taking_down else "interrupted", "its publisher died")
        self.accept()
        return found.version if found.on_disk else None

    def sweep(self, keep: int) -> list[int]:
        """Remove staging leftovers, all but the newest ``keep`` versions, and old rejected ones.

        What cannot be removed stays for the next time: no version that serves depends on it.

        Returns:
            The versions that went.
        """
        gone = []
        for version in list_versions(self.repository)[:-keep]:
            with contextlib.suppress(OSError):  # renamed first: Triton must never see half a version
                (self._model / str(version)).rename(self._staging / uuid.uuid4().hex)
                gone.append(version)
        rejected = list_rejected(self.repository)
        numbered = [entry.folder for entry in rejected if entry.version]
        refused = [entry.folder for entry in rejected if not entry.version]
        for leftover in [*self._staging.iterdir(), *numbered[:-KEEP_REJECTED], *refused[:-KEEP_REFUSED]]:
            shutil.rmtree(leftover, ignore_errors=True)
        return gone

    @contextlib.contextmanager
    def _writing(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise StorageError.from_os_error(self.repository, error) from error


def _directory(repository: Path, version: int) -> Path:
    if version not in list_versions(repository):
        have = ", ".join(map(str, list_versions(repository))) or "none"
        raise UsageError(repository, f"has no version {version} (it has {have})", "name one it has")
    return repository / MODEL_NAME / str(version)


def _sha256_of(folder: Path) -> str:
    """What a version's record names itself, whether or not that is true: for the memory of what was rejected."""
    try:
        return str(json.loads((folder / RECORD_FILE).read_text(encoding="utf-8"))["sha256"])
    except (OSError, ValueError, KeyError, TypeError):
        return ""


def _read_mark(file: Path) -> tuple[int, bool] | None:
    """Return the version in the mark of a publisher at work, and whether it is being taken down; None without one."""
    words = []
    with contextlib.suppress(FileNotFoundError):
        words = file.read_text(encoding="utf-8").split()
    return (int(words[0]), ROLLED_BACK in words) if words and _is_number(words[0]) else None


def _is_number(name: str) -> bool:
    return name.isascii() and name.isdigit() and not name.startswith("0")


def _try_lock(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _write_durably(path: Path, content: bytes) -> None:
    with path.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
