"""Turn a trained candidate into served artifacts: its variants as ONNX, each with its record, and which is published.

::

    models_export/variants/
        float32/{model.onnx,model.json}
        float16/{model.onnx,model.json}
        int8/{model.onnx,model.json}      where it could be made
        chosen.json                       the variant to publish, why, and what became of each

What is published lies in ``models_export/person_segmentation``: `privseg.serving.parity` puts it there once the
runtimes agree on it.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray

import privseg
from privseg.datasets.manifest import write_atomic
from privseg.errors import DataError, StorageError
from privseg.params import Params
from privseg.serving.artifact import INPUT_NAME, OUTPUT_NAME, SIZE_MULTIPLE, write_artifact
from privseg.serving.golden import GOLDEN_SIZE
from privseg.serving.variants import Judge, Variant, build_variants, choose
from privseg.training.segmentor import load_segmentor

__all__ = ["CHOSEN_FILE", "export", "export_module", "read_chosen"]

CHOSEN_FILE: Final = "chosen.json"


def export(
    params: Params,
    candidate_dir: Path,
    variants_dir: Path,
    *,
    provenance: Mapping[str, object],
    pictures: Sequence[NDArray[np.uint8]] = (),
    judge: Judge | None = None,
) -> dict[str, Any]:
    """Write the variants of a trained candidate.

    Args:
        params: Opset, bounds, the variant to publish; its image size is one of the two sizes compared.
        candidate_dir: What training wrote.
        variants_dir: Where they go; nothing is written unless float32 passed every check.
        provenance: Where the model came from; goes into every record as it is. Its ``metrics``, the trained model's
            accuracy on the test split, is what 8 bits are held against.
        pictures: Training pictures to calibrate 8 bits on: uint8 ``[H,W,3]`` RGB, sides multiples of 32.
        judge: Measures the accuracy of 8 bits; without it they are made, but not offered.

    Returns:
        What ``chosen.json`` holds: ``variant`` and ``reason``; and, by name, of each of the ``variants``: ``offered``,
        ``reason`` where it is not, ``sha256`` and ``bytes`` where it was made.

    Raises:
        DataError: The candidate's files are missing or broken.
        GateFailedError: The ONNX model is invalid or answers differently from PyTorch.
        StorageError: The disk is full or cannot be written.
    """
    module = load_segmentor(candidate_dir)
    return export_module(module, variants_dir, params, provenance=provenance, pictures=pictures, judge=judge)


def export_module(
    module: torch.nn.Module,
    variants_dir: Path,
    params: Params,
    *,
    provenance: Mapping[str, Any],
    pictures: Sequence[NDArray[np.uint8]] = (),
    judge: Judge | None = None,
) -> dict[str, Any]:
    """Export any module that takes uint8 ``[N,H,W,3]`` RGB and returns uint8 ``[N,H,W]``; see ``export``."""
    module = module.eval()
    variants = build_variants(module, params, pictures, before=provenance.get("metrics"), judge=judge)
    name, reason = choose(params.export.publish, variants)
    summary = {
        "variant": name,
        "reason": reason,
        "variants": {variant.name: _outcome(variant) for variant in variants.values()},
    }
    common = {
        **provenance,
        "input": INPUT_NAME,
        "output": OUTPUT_NAME,
        "size_multiple": SIZE_MULTIPLE,  # any sides that are multiples of it; these were compared:
        "input_sizes": [list(size) for size in dict.fromkeys([(params.image.size, params.image.size), GOLDEN_SIZE])],
        "opset": params.export.opset,
        "parameters": sum(weight.numel() for weight in module.parameters()),
        "privseg_version": privseg.__version__,
    }
    try:
        (variants_dir / CHOSEN_FILE).unlink(missing_ok=True)  # without it, nothing in the folder counts
        for variant in variants.values():
            folder = variants_dir / variant.name
            if variant.onnx is not None:
                write_artifact(folder, variant.onnx, common | _facts(variant, reason if variant.name == name else None))
            elif folder.exists():
                shutil.rmtree(folder)
    except OSError as error:
        raise StorageError.from_os_error(variants_dir, error) from error
    write_atomic(variants_dir / CHOSEN_FILE, (json.dumps(summary, indent=2) + "\n").encode())
    return summary


def read_chosen(variants_dir: Path) -> dict[str, Any]:
    """Read what ``export`` decided.

    Raises:
        DataError: It has not, or not wholly.
    """
    path, again = variants_dir / CHOSEN_FILE, "dvc repro export"
    try:
        summary = json.loads(path.read_text(encoding="utf-8"))
        str(summary["variant"]), str(summary["reason"]), dict(summary["variants"])
    except FileNotFoundError:
        raise DataError(path, "does not exist", again) from None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(path, f"does not say which variant is published ({error})", again) from None
    return dict(summary)


def _outcome(variant: Variant) -> dict[str, Any]:
    outcome: dict[str, Any] = {"offered": variant.fault is None}
    if variant.fault is not None:
        outcome["reason"] = variant.fault
    if variant.onnx is not None:
        outcome |= {"sha256": hashlib.sha256(variant.onnx).hexdigest(), "bytes": len(variant.onnx)}
    return outcome


def _facts(variant: Variant, chosen_because: str | None) -> dict[str, Any]:
    """What the record of one variant says of it."""
    facts: dict[str, Any] = {
        "variant": variant.name,
        "weights": variant.name,
        "offered": variant.fault is None,
        "variant_reason": chosen_because or variant.fault or "another variant is published",
        "parity": {
            size: {"mean_difference": found.mean_difference, "mask_agreement": found.mask_agreement}
            for size, found in variant.parity.items()
        },
    }
    return facts | ({"metrics": dict(variant.metrics)} if variant.metrics is not None else {})
