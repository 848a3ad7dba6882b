"""Make one running server serve a version, and find out whether it does."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from privseg.errors import GateFailedError, PrivsegError
from privseg.serving.admin import Endpoint
from privseg.serving.artifact import MODEL_NAME, read_artifact
from privseg.serving.exam import Exam

__all__ = ["activate", "exam_of", "reactivate", "restore_all"]


def activate(server: Endpoint, version: int, exam: Exam) -> None:
    """Load, then ask: the right version must answer, and answer what the model says."""
    server.load()
    if not server.serves(version):
        raise GateFailedError(server.url, f"version {version} is not ready after its load", "read the server's log")
    exam.check(server, version)


def reactivate(server: Endpoint, version: int, exam: Exam) -> None:
    """Make sure a version that was accepted before answers; a server on which it broke gets it anew.

    When the process behind a model dies, Triton (seen with 2.51) goes on reporting the version ready, refuses every
    request, and takes a load for done. Only there, where nothing is answered any more, is unloading right.
    """
    try:
        activate(server, version, exam)
    except GateFailedError:
        server.unload()
        activate(server, version, exam)


def restore_all(servers: Sequence[Endpoint], version: int | None, exam: Exam | None) -> list[PrivsegError]:
    """Load again, so that the newest version left on disk serves; return what went wrong, server by server."""
    troubles = []
    for server in servers:
        try:
            if version is None:
                server.unload()
            elif exam is None:  # its own file is damaged: that it answers is all that can be asked
                server.load()
            else:
                activate(server, version, exam)
        except PrivsegError as error:
            troubles.append(error)
    return troubles


def exam_of(repository: Path, version: int) -> Exam | None:
    """Return the exam of a version on disk; None where its files are damaged."""
    try:
        return Exam.of(read_artifact(repository / MODEL_NAME / str(version)).onnx)
    except GateFailedError:
        return None
