"""The model repository on disk: immutable numbered versions, staging, rejected versions.

::

    <repository>/
      person_segmentation/config.pbtxt
      person_segmentation/N/{model.onnx,model.json}   N and N-1 at least
      .staging/       what is being written or removed; on the same filesystem, outside the model's directory
      .rejected/      N-<reason>: versions that were taken back
      .pending        the version whose checks have not ended; a publisher that died left it
      .lock           held by the one publisher
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from privseg.errors import StorageError, UsageError
from privseg.serving.artifact import MODEL_NAME, ONNX_FILE, RECORD_FILE, Artifact, read_artifact, read_artifact_record

__all__ = ["Store", "accepted", "current", "list_versions", "read_record", "verify"]

LOCK_SECONDS: Final = 600.0
KEEP_REJECTED: Final = 3


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
    pending = ""
    with contextlib.suppress(FileNotFoundError):
        pending = (repository / ".pending").read_text(encoding="utf-8")
    return max((version for version in list_versions(repository) if str(version) != pending), default=None)


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
        self._rejected = repository / ".rejected"
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
        taken = [int(entry.name.partition("-")[0]) for entry in self._rejected.iterdir()]
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
                staged.rename(final)
                _sync_folder(self._model)
        except BaseException:
            with contextlib.suppress(FileNotFoundError):
                final.rename(staged)
            shutil.rmtree(staged, ignore_errors=True)
            self._pending.unlink(missing_ok=True)
            raise
        return version

    def accept(self) -> None:
        """Mark the pending version as checked."""
        self._pending.unlink(missing_ok=True)

    def reject(self, version: int, reason: str) -> None:
        """Move a version aside, out of Triton's sight."""
        with self._writing():
            (self._model / str(version)).rename(self._rejected / f"{version}-{reason}")
            _sync_folder(self._model)
        self._pending.unlink(missing_ok=True)

    def interrupted(self) -> int | None:
        """Return the version a dead publisher left unchecked, if there is one."""
        with contextlib.suppress(FileNotFoundError):
            text = self._pending.read_text(encoding="utf-8")
            if _is_number(text) and (self._model / text).is_dir():
                return int(text)
            self._pending.unlink(missing_ok=True)
        return None

    def set_aside_interrupted(self) -> int | None:
        """Take the version that a dead publisher left unchecked out of Triton's sight; return its number."""
        version = self.interrupted()
        if version is not None:
            self.reject(version, "interrupted")
        return version

    def sweep(self, keep: int) -> None:
        """Remove staging leftovers, all but the newest ``keep`` versions, and old rejected ones.

        What cannot be removed stays for the next time: no version that serves depends on it.
        """
        for version in list_versions(self.repository)[:-keep]:
            with contextlib.suppress(OSError):  # renamed first: Triton must never see half a version
                (self._model / str(version)).rename(self._staging / uuid.uuid4().hex)
        rejected = sorted(self._rejected.iterdir(), key=lambda entry: int(entry.name.partition("-")[0]))
        for leftover in [*self._staging.iterdir(), *rejected[:-KEEP_REJECTED]]:
            shutil.rmtree(leftover, ignore_errors=True)

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
