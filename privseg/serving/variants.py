"""The variants of one trained model: single precision, half-precision weights, 8 bits; and which of them is published.

=========  ==================  ============  ==========================================================
variant    weights             computing     may be published
=========  ==================  ============  ==========================================================
float32    single precision    single        it answers as PyTorch does (else the export fails)
float16    half precision      single        it answers as PyTorch does
int8       8 bits, a channel   8 bits        it finds people nearly as well, on the test split (``Judge``)
=========  ==================  ============  ==========================================================
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final

import numpy as np
import onnx
import torch
from numpy.typing import NDArray

from privseg.errors import GateFailedError
from privseg.params import Int8Params, Params, VariantName
from privseg.serving.golden import GOLDEN_SIZE, Agreement, compare, draw_frame, run_onnx
from privseg.serving.quantize import quantize
from privseg.training.onnx_file import to_onnx
from privseg.training.onnx_graph import halve_weights

__all__ = [
    "Judge",
    "Variant",
    "accuracy_fault",
    "agreement_with",
    "build_variants",
    "check_parity",
    "choose",
]

PICTURES_PER_SIZE: Final = 3
_FALL_BACK: Final[tuple[VariantName, ...]] = ("float16", "float32")

Judge = Callable[[bytes], Mapping[str, Any]]
"""Measures an ONNX model's accuracy on the test split, as the benchmark names its figures; raises GateFailedError."""


@dataclass(frozen=True)
class Variant:
    """One way to store and compute a trained model.

    Attributes:
        name: Which one.
        onnx: The content of its ``model.onnx``; None: it could not be made.
        parity: How far it agrees with PyTorch on drawn pictures, by size ``"HxW"``.
        fault: Why it may not be published; None: it may.
        metrics: Its own accuracy, where it is not the trained model's.
    """

    name: VariantName
    onnx: bytes | None
    parity: dict[str, Agreement] = field(default_factory=dict)
    fault: str | None = None
    metrics: Mapping[str, Any] | None = None


def build_variants(
    module: torch.nn.Module,
    params: Params,
    pictures: Sequence[NDArray[np.uint8]] = (),
    *,
    before: Mapping[str, Any] | None = None,
    judge: Judge | None = None,
) -> dict[VariantName, Variant]:
    """Make every variant of a module and say which may be published.

    Args:
        module: Takes uint8 ``[N,H,W,3]`` RGB and returns uint8 ``[N,H,W]``; in evaluation mode, on the CPU.
        params: ``export`` and the image size.
        pictures: Training pictures to calibrate 8 bits on, uint8 ``[H,W,3]`` RGB.
        before: The trained model's accuracy on the test split, figures as the benchmark names them.
        judge: Measures a variant the same way. Without these two, 8 bits are not offered.

    Raises:
        GateFailedError: PyTorch cannot export the module, or even float32 answers differently or breaks the contract.
        StorageError: The temporary directory is full.
    """
    single = to_onnx(module, params.export.opset)
    built = [
        Variant("float32", single, check_parity(module, single, params)),
        _halved(module, single, params),
        _quantised(module, single, params, pictures, before, judge),
    ]
    return {variant.name: variant for variant in built}


def choose(wanted: VariantName, variants: Mapping[VariantName, Variant]) -> tuple[VariantName, str]:
    """Say which variant is published: the one asked for, or the smallest that may be, and why."""
    fault = variants[wanted].fault
    if fault is None:
        return wanted, "export.publish asks for it"
    name = next(name for name in _FALL_BACK if name != wanted and variants[name].fault is None)
    return name, f"{wanted} was asked for, but {fault}"


def accuracy_fault(limits: Int8Params, before: Mapping[str, Any], after: Mapping[str, Any]) -> str | None:
    """Say in which way a variant finds people too much worse than the trained model; none: it does not.

    Args:
        limits: ``export.int8``.
        before: The trained model's figures: ``recall`` of human pixels and ``person_miss_rate`` (its ``all.rate``
            None where there is nobody).
        after: The variant's, on the same pictures.
    """
    loss = float(before["recall"]) - float(after["recall"])
    if not loss <= limits.max_recall_loss:  # so written, a figure that is no number is a fault
        return f"its human recall falls from {before['recall']:.4f} to {after['recall']:.4f}"
    missed, misses = before["person_miss_rate"]["all"]["rate"], after["person_miss_rate"]["all"]["rate"]
    if missed is not None and not misses - missed <= limits.max_miss_rate_gain:
        return f"its person miss rate rises from {missed:.4f} to {misses:.4f}"
    return None


def check_parity(module: torch.nn.Module, content: bytes, params: Params) -> dict[str, Agreement]:
    """Compare PyTorch and ONNX Runtime on drawn pictures at two sizes.

    Returns:
        The agreement by size, ``"HxW"``.

    Raises:
        GateFailedError: A bound of ``params.export`` does not hold; the message gives size and figures.
    """
    found = agreement_with(module, content, params)
    for size, agreement in found.items():
        if not agreement.within(params.export.max_mean_difference, params.export.min_mask_agreement):
            fault = f"differs from PyTorch at {size}: {agreement}"
            raise GateFailedError("model.onnx", fault, "export with another opset, or loosen export.* in params.yaml")
    return found


def agreement_with(module: torch.nn.Module, content: bytes, params: Params) -> dict[str, Agreement]:
    """Measure what ``check_parity`` judges; raises GateFailedError where the graph breaks the contract."""
    found = {}
    # Two sizes, of other sides: that proves that height and width were left open.
    for height, width in dict.fromkeys([(params.image.size, params.image.size), GOLDEN_SIZE]):
        pictures = np.stack([draw_frame(height, width, seed) for seed in range(PICTURES_PER_SIZE)])
        with torch.inference_mode():
            expected = module(torch.from_numpy(pictures)).numpy()
        found[f"{height}x{width}"] = compare(expected, run_onnx(content, pictures), params.benchmark.threshold)
    return found


def _halved(module: torch.nn.Module, single: bytes, params: Params) -> Variant:
    model = onnx.load_from_string(single)
    halve_weights(model)
    content = model.SerializeToString()
    found = Variant("float16", content)
    try:
        return replace(found, parity=check_parity(module, content, params))
    except GateFailedError as error:
        return replace(found, fault=f"it {error.fault}")


def _quantised(
    module: torch.nn.Module,
    single: bytes,
    params: Params,
    pictures: Sequence[NDArray[np.uint8]],
    before: Mapping[str, Any] | None,
    judge: Judge | None,
) -> Variant:
    try:
        content = quantize(single, pictures)
    except GateFailedError as error:
        return Variant("int8", None, fault=f"it {error.fault}" if pictures else error.fault)
    found = Variant("int8", content)
    try:
        found = replace(found, parity=agreement_with(module, content, params))
        if before is None or judge is None:
            return replace(found, fault="nobody measured how well it finds people")
        found = replace(found, metrics=judge(content))
    except GateFailedError as error:
        return replace(found, fault=f"it {error.fault}")
    return replace(found, fault=accuracy_fault(params.export.int8, before, found.metrics or {}))
