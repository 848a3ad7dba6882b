"""Load a candidate in a Triton of its own first: one that brings its server down brings down none that serves."""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from privseg.errors import GateFailedError, ServerUnavailableError, StorageError
from privseg.serving.admin import Endpoint
from privseg.serving.artifact import MODEL_NAME, Artifact
from privseg.serving.config import CONFIG_FILE, ensure_config
from privseg.serving.ending import down
from privseg.serving.exam import Exam
from privseg.serving.installation import find_installation
from privseg.serving.local_triton import LocalTriton
from privseg.serving.versions import Store

__all__ = ["smoke_load"]

_PREFIX: Final = "privseg-smoke-"
_OWNER: Final = "owner"  # locked while its process lives
_STATE: Final = "triton"
_SKIP: Final = "run `make setup`; where there can be no Triton: privseg model publish --skip-smoke-load 'the reason'"


def smoke_load(candidate: Artifact, exam: Exam, *, config: Path | None = None) -> None:
    """Let a throw-away Triton load a candidate and take its exam; it is ended whatever happens.

    It runs on free ports of this machine, over a temporary repository that holds nothing else. What a publisher that
    was killed left of its own is cleared away first.

    Args:
        candidate: The model, as read and hashed.
        exam: What it answers.
        config: The ``config.pbtxt`` it will be served with; None: the usual one.

    Raises:
        GateFailedError: Triton refuses the candidate, dies of it, or answers something else than ONNX Runtime does.
        ServerUnavailableError: Triton is not installed here or does not start even without a model.
        StorageError: The temporary folder cannot be written.
    """
    try:
        find_installation()
    except ServerUnavailableError as error:
        raise ServerUnavailableError(error.subject, error.fault, _SKIP) from None
    with _workplace() as folder:
        repository = folder / "model_repository"
        if config is None:
            ensure_config(repository)
        else:
            (repository / MODEL_NAME).mkdir(parents=True)
            shutil.copyfile(config, repository / MODEL_NAME / CONFIG_FILE)
        # Empty at first: a server that does not start at all is no fault of the candidate.
        with LocalTriton(repository, folder / _STATE) as server:
            running = server.status()
            if running is None:
                raise ServerUnavailableError("the throw-away Triton", "ended at once", "run `privseg triton up`")
            store = Store(repository)
            with store.locked():
                version = store.add(candidate)
                store.accept()
            try:
                with Endpoint(running.grpc_url) as endpoint:
                    endpoint.load()
                    exam.check(endpoint, version)
            except (GateFailedError, ServerUnavailableError) as error:
                died = "" if server.status() else "Triton died of it: "
                fault = f"fails in a throw-away Triton: {died}{error.fault}"
                raise GateFailedError("model.onnx", fault, "train and export again") from None


@contextlib.contextmanager
def _workplace() -> Iterator[Path]:
    _clear_abandoned()
    try:
        folder, owner = _take_folder()
    except OSError as error:
        raise StorageError.from_os_error(tempfile.gettempdir(), error) from error
    try:
        yield folder
    except OSError as error:
        raise StorageError.from_os_error(folder, error) from error
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        os.close(owner)


def _take_folder() -> tuple[Path, int]:
    while True:
        folder = Path(tempfile.mkdtemp(prefix=_PREFIX))
        owner = os.open(folder / _OWNER, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
        fcntl.flock(owner, fcntl.LOCK_EX)
        if folder.is_dir():
            return folder, owner
        os.close(owner)  # another publisher took it for abandoned before it was locked


def _clear_abandoned() -> None:
    """End what publishers that were killed left running, and remove their folders."""
    for folder in Path(tempfile.gettempdir()).glob(f"{_PREFIX}*"):
        with contextlib.suppress(OSError):  # at work, or being made or removed
            if folder.is_symlink() or folder.stat().st_uid != os.getuid():
                continue  # whoever made it may not say which process we end
            owner = os.open(folder / _OWNER, os.O_RDWR | os.O_CLOEXEC)
            try:
                fcntl.flock(owner, fcntl.LOCK_EX | fcntl.LOCK_NB)
                down(folder / _STATE)
                shutil.rmtree(folder, ignore_errors=True)
            finally:
                os.close(owner)
