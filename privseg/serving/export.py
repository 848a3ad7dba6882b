"""Turn a trained candidate into the served artifact: ONNX that answers as PyTorch did, and its record."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

import privseg
from privseg.errors import GateFailedError
from privseg.params import Params
from privseg.serving.artifact import INPUT_NAME, OUTPUT_NAME, SIZE_MULTIPLE, write_artifact
from privseg.serving.golden import Agreement, compare, draw_frame, run_onnx
from privseg.training.onnx_file import to_onnx
from privseg.training.segmentor import load_segmentor

__all__ = ["check_parity", "export", "export_module"]

PICTURES_PER_SIZE = 3
_OFF_SQUARE = (256, 320)  # a second size, other sides: proves that height and width were left open


def export(params: Params, candidate_dir: Path, out_dir: Path, *, provenance: Mapping[str, object]) -> dict[str, Any]:
    """Write a trained candidate as ``out_dir/model.onnx`` and ``model.json``.

    Args:
        params: Opset, parity bounds and how weights are stored; its image size is one of the two sizes compared.
            Where weights in half precision break the bounds, they are stored in single precision instead.
        candidate_dir: What training wrote.
        out_dir: Where the artifact goes; nothing is written unless every check passed.
        provenance: Where the model came from; goes into the record as it is.

    Returns:
        The record: ``provenance`` and sha256, created, input, output, opset, parity, parameters, the type the weights
        are stored in, privseg version.

    Raises:
        DataError: The candidate's files are missing or broken.
        GateFailedError: The ONNX model is invalid or answers differently from PyTorch.
        StorageError: The disk is full or cannot be written.
    """
    return export_module(load_segmentor(candidate_dir), out_dir, params, provenance=provenance)


def export_module(
    module: torch.nn.Module, out_dir: Path, params: Params, *, provenance: Mapping[str, object]
) -> dict[str, Any]:
    """Export any module that takes uint8 ``[N,H,W,3]`` RGB and returns uint8 ``[N,H,W]``; see ``export``."""
    module = module.eval()
    half_weights = params.export.half_weights
    content = to_onnx(module, params.export.opset, half_weights=half_weights)
    try:
        parity = check_parity(module, content, params)
    except GateFailedError:
        if not half_weights:
            raise
        half_weights = False
        content = to_onnx(module, params.export.opset)
        parity = check_parity(module, content, params)
    record = {
        **provenance,
        "input": INPUT_NAME,
        "output": OUTPUT_NAME,
        "size_multiple": SIZE_MULTIPLE,
        "opset": params.export.opset,
        "parameters": sum(weight.numel() for weight in module.parameters()),
        "weights": "float16" if half_weights else "float32",
        "parity": {
            size: {"mean_difference": found.mean_difference, "mask_agreement": found.mask_agreement}
            for size, found in parity.items()
        },
        "privseg_version": privseg.__version__,
    }
    return write_artifact(out_dir, content, record).record


def check_parity(module: torch.nn.Module, content: bytes, params: Params) -> dict[str, Agreement]:
    """Compare PyTorch and ONNX Runtime on drawn pictures at two sizes.

    Returns:
        The agreement by size, ``"HxW"``.

    Raises:
        GateFailedError: A bound of ``params.export`` does not hold; the message gives size and figures.
    """
    bounds, found = params.export, {}
    for height, width in dict.fromkeys([(params.image.size, params.image.size), _OFF_SQUARE]):
        pictures = np.stack([draw_frame(height, width, seed) for seed in range(PICTURES_PER_SIZE)])
        with torch.inference_mode():
            expected = module(torch.from_numpy(pictures)).numpy()
        agreement = compare(expected, run_onnx(content, pictures), params.benchmark.threshold)
        if not agreement.within(bounds.max_mean_difference, bounds.min_mask_agreement):
            fault = f"differs from PyTorch at {height}x{width}: {agreement}"
            raise GateFailedError("model.onnx", fault, "export with another opset, or loosen export.* in params.yaml")
        found[f"{height}x{width}"] = agreement
    return found
