"""The runtimes a published model is compared in, each as a function from pictures to person probabilities."""

from __future__ import annotations

import io
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray

from privseg.errors import ServerUnavailableError
from privseg.serving.admin import Endpoint
from privseg.serving.artifact import INPUT_NAME, Artifact
from privseg.serving.config import ensure_config
from privseg.serving.golden import run_onnx
from privseg.serving.installation import find_installation
from privseg.serving.local_triton import LocalTriton
from privseg.serving.versions import Store

__all__ = [
    "Answer",
    "Levels",
    "onnxruntime_answer",
    "openvino_engine",
    "own_triton",
    "pytorch_answer",
    "triton_answer",
]

THREADS: Final = 2
AT_ONCE: Final = 4  # pictures; what a session needs for more is memory
_WITHOUT: Final = "run `make setup`; where there can be no Triton, set export.parity_triton: false in params.yaml"

Levels = NDArray[np.uint8]
Answer = Callable[[Levels], Levels]
"""Takes pictures, uint8 ``[N,H,W,3]`` RGB, and gives uint8 ``[N,H,W]``, person probability times 255."""


def pytorch_answer(module: torch.nn.Module, images: Levels) -> Levels:
    """Ask PyTorch, one picture at a time."""
    with torch.inference_mode():
        return np.concatenate([np.asarray(module(torch.from_numpy(image[None])), np.uint8) for image in images])


def onnxruntime_answer(onnx: bytes, images: Levels) -> Levels:
    """Ask ONNX Runtime in this process; raises GateFailedError where it breaks the contract."""
    parts = [images[start : start + AT_ONCE] for start in range(0, len(images), AT_ONCE)]
    return np.concatenate([run_onnx(onnx, part) for part in parts])


def openvino_engine(onnx: bytes, settings: Mapping[str, Any]) -> tuple[str, Answer]:
    """Load a model into OpenVINO.

    Args:
        onnx: The content of ``model.onnx``.
        settings: Properties of its CPU plugin; without ``INFERENCE_PRECISION_HINT`` it chooses the precision.

    Returns:
        The type it computes with, and what asks it. OpenVINO's own errors are raised as they are.
    """
    import openvino

    core = openvino.Core()
    model = core.read_model(io.BytesIO(onnx))
    # Pinned to a processor that another program keeps busy, its threads would wait.
    common = {"PERFORMANCE_HINT": "LATENCY", "INFERENCE_NUM_THREADS": THREADS, "ENABLE_CPU_PINNING": False}
    compiled = core.compile_model(model, "CPU", common | dict(settings))
    kind = compiled.get_property("INFERENCE_PRECISION_HINT").get_type_name()

    def answer(images: Levels) -> Levels:
        request = compiled.create_infer_request()
        # Copied: the request's next answer is written to the same place.
        return np.concatenate([np.array(request.infer({INPUT_NAME: image[None]})[0]) for image in images])

    return {"f32": "float32", "bf16": "bfloat16", "f16": "float16"}.get(kind, kind), answer


def triton_answer(endpoint: Endpoint, images: Levels) -> Levels:
    """Ask a Triton server, one picture at a time."""
    return np.concatenate([endpoint.infer(image[None])[0] for image in images])


@contextmanager
def own_triton(artifact: Artifact) -> Iterator[Endpoint]:
    """Serve a model with a Triton of its own, on free ports over a temporary repository; ended whatever happens.

    Raises:
        GateFailedError: Triton refuses the model.
        ServerUnavailableError: There is no Triton here, or it does not start even without a model.
        StorageError: The temporary folder cannot be written.
    """
    try:
        find_installation()
    except ServerUnavailableError as error:
        raise ServerUnavailableError(error.subject, error.fault, _WITHOUT) from None
    with tempfile.TemporaryDirectory(prefix="privseg-parity-", ignore_cleanup_errors=True) as folder:
        repository = Path(folder) / "model_repository"
        ensure_config(repository, threads=THREADS)
        server = LocalTriton(repository, Path(folder) / "triton")
        try:
            running = server.start()  # empty at first: a server that does not start is no fault of the model
            store = Store(repository)
            with store.locked():
                store.add(artifact)
                store.accept()
            with Endpoint(running.grpc_url) as endpoint:
                endpoint.load()
                yield endpoint
        finally:
            server.kill()  # nobody waits for an answer any more
