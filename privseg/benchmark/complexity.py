"""How big and how laborious a model is."""

from __future__ import annotations

import copy
import json
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch.utils.flop_counter import FlopCounterMode

from privseg.errors import GateFailedError, StorageError

__all__ = [
    "FLOPS_CONVENTION",
    "FLOPS_SHAPES",
    "MEMORY_CONVENTION",
    "complexity_figures",
    "count_flops",
    "count_parameters",
    "peak_memory",
]

FLOPS_CONVENTION = "2 x multiply-accumulates of convolutions and matrix products, batch of one"
MEMORY_CONVENTION = (
    "most resident memory of a process of its own while ONNX Runtime segments one picture, less what it had before it "
    "loaded the model: weights, results in between and what the runtime keeps; not what loading alone needs"
)
FLOPS_SHAPES = ((512, 512), (512, 1024))  # the study's


def complexity_figures(segmentor: Any, onnx: bytes, size: int) -> dict[str, Any]:
    """Measure a candidate's size and work as the benchmark's files name them.

    Args:
        segmentor: A ``PersonSegmentor``.
        onnx: The same as ONNX.
        size: Height and width in pixels at which the candidates are compared, a multiple of 32.

    Returns:
        ``parameters``; ``flops`` of one picture of ``size``; ``flops_by_shape``, ``"HxW"`` to operations, with the
        study's shapes; ``flops_convention``; ``model_bytes`` of the ONNX file; ``peak_memory_bytes``, None where the
        system does not tell; ``peak_memory_convention``.

    Raises:
        GateFailedError: ONNX Runtime refuses the model.
        StorageError: The temporary directory is full.
    """
    flops = count_flops(segmentor, [(size, size), *FLOPS_SHAPES])
    return {
        "parameters": count_parameters(segmentor),
        "size": size,
        "flops": flops[size, size],
        "flops_by_shape": {f"{height}x{width}": count for (height, width), count in flops.items()},
        "flops_convention": FLOPS_CONVENTION,
        "model_bytes": len(onnx),
        "peak_memory_bytes": peak_memory(onnx, (size, size), torch.get_num_threads()),
        "peak_memory_convention": MEMORY_CONVENTION,
    }


def count_parameters(segmentor: Any) -> int:
    """Count the weights used at inference; auxiliary training heads are not among them."""
    return sum(parameter.numel() for parameter in segmentor.parameters())


def count_flops(segmentor: Any, shapes: Sequence[tuple[int, int]]) -> dict[tuple[int, int], int]:
    """Count the floating-point operations of one picture, by ``FLOPS_CONVENTION``.

    Args:
        segmentor: A ``PersonSegmentor``.
        shapes: Heights and widths in pixels, multiples of 32.
    """
    shadow = copy.deepcopy(segmentor).to("meta")  # shapes without numbers: nothing is computed, only counted
    counted = {}
    for height, width in shapes:
        image = torch.zeros(1, height, width, 3, dtype=torch.uint8, device="meta")
        counter = FlopCounterMode(display=False)
        with torch.no_grad(), counter:  # the counter does not see operations in inference mode
            shadow(image)
        counted[height, width] = int(counter.get_total_flops())
    return counted


def peak_memory(onnx: bytes, shape: tuple[int, int], threads: int) -> int | None:
    """Measure what one inference needs, by ``MEMORY_CONVENTION``.

    Args:
        onnx: The model.
        shape: Height and width in pixels of the picture.
        threads: Threads of the processor.

    Returns:
        Bytes; None where the system does not tell (no ``/proc``).

    Raises:
        GateFailedError: ONNX Runtime refuses the model.
        StorageError: The temporary directory is full.
    """
    with tempfile.TemporaryDirectory(prefix="privseg-memory-") as folder:
        model = Path(folder) / "model.onnx"
        try:
            model.write_bytes(onnx)
        except OSError as error:
            raise StorageError.from_os_error(folder, error) from error
        command = [sys.executable, "-m", "privseg.benchmark._memory", str(model), *map(str, (*shape, threads))]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        last = (done.stderr.strip().splitlines() or [f"exit code {done.returncode}"])[-1]
        again = "in the workspace: dvc repro --force --single-item evaluate@CANDIDATE"
        raise GateFailedError("ONNX model", f"cannot be run to measure memory ({last})", again)
    found: int | None = json.loads(done.stdout)
    return found
