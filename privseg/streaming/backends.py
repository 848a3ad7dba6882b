"""Opening a segmenter: by a kind's name, or as a configuration says."""

from __future__ import annotations

from pathlib import Path
from typing import Literal, get_args

from privseg.errors import UsageError
from privseg.streaming.config import GatewayConfig
from privseg.streaming.segmenter import SegmenterBackend
from privseg.streaming.segmenter_local import LocalSegmenter
from privseg.streaming.segmenter_triton import TritonSegmenter
from privseg.streaming.shared_region import directory_finder

__all__ = ["KINDS", "BackendKind", "configured_backend", "open_backend"]

BackendKind = Literal["grpc", "shared memory", "stream", "stream in shared memory", "local"]
#: every kind of backend
KINDS: tuple[BackendKind, ...] = get_args(BackendKind)


def open_backend(
    kind: BackendKind,
    *,
    url: str = "127.0.0.1:8001",
    directory: Path | None = None,
    deadline_seconds: float = 2.0,
    max_in_flight: int = 3,
) -> SegmenterBackend:
    """Open one kind of backend on this machine.

    Args:
        kind: Which.
        url: Address of Triton, for all but ``local``.
        directory: The version directory with the model's files, for ``local``.
        deadline_seconds: What one answer may take.
        max_in_flight: Frames asked for before the first is collected.

    Raises:
        PrivsegError: As :class:`TritonSegmenter` and :class:`LocalSegmenter`.
    """
    if kind == "local":
        if directory is None:
            raise UsageError("a local model", "has no directory", "name its version directory")
        return LocalSegmenter(directory, deadline_seconds=deadline_seconds, max_in_flight=max_in_flight)
    return TritonSegmenter(
        url,
        deadline_seconds=deadline_seconds,
        max_in_flight=max_in_flight,
        stream=kind.startswith("stream"),
        shared_memory=directory_finder("auto", url) if kind.endswith("shared memory") else None,
    )


def configured_backend(config: GatewayConfig) -> SegmenterBackend:
    """Open the segmenter of one camera.

    Raises:
        PrivsegError: As :class:`TritonSegmenter` and :class:`LocalSegmenter`.
    """
    triton = config.triton
    if config.local is not None:
        return LocalSegmenter(config.local, deadline_seconds=triton.deadline_seconds)
    # Where a policy takes 0 for background, a region that nobody wrote to would look like a picture without people.
    shared_memory = "off" if config.policy.trust_zero else triton.shared_memory
    return TritonSegmenter(
        triton.url,
        triton.model,
        deadline_seconds=triton.deadline_seconds,
        max_in_flight=triton.max_in_flight,
        tls=triton.tls,
        insecure=triton.insecure,
        stream=triton.stream,
        shared_memory=directory_finder(shared_memory, triton.url),
        headers={name: value.get_secret_value() for name, value in triton.headers.items()},
    )
