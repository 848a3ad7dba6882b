"""Do the runtimes agree? The same test pictures through PyTorch, ONNX Runtime, OpenVINO and a real, throw-away Triton.

The published variant is asked everywhere, at the ingested size and at one of other sides. Those that serve (ONNX
Runtime, Triton) must agree with PyTorch within ``params.export``, and Triton with ONNX Runtime; otherwise nothing is
put forward for publication. OpenVINO is asked in single precision and in the precision it chooses by itself, which on
processors with bfloat16 is that one: its figures say whether it may serve. The 8-bit variant is held against single
precision, both in ONNX Runtime, by bounds of its own.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import cv2
import numpy as np
import torch

from privseg.errors import GateFailedError
from privseg.params import Params
from privseg.serving.artifact import Artifact, write_artifact
from privseg.serving.golden import GOLDEN_SIZE, compare
from privseg.serving.parity_runtimes import (
    Answer,
    Levels,
    onnxruntime_answer,
    openvino_engine,
    own_triton,
    pytorch_answer,
    triton_answer,
)

__all__ = ["Comparison", "Pair", "compare_runtimes", "put_forward"]

PYTORCH, ONNX, TRITON = "pytorch", "onnxruntime", "triton"
OPENVINO: Final = {"openvino_float32": {"INFERENCE_PRECISION_HINT": "f32"}, "openvino_default": {}}
SINGLE, EIGHT_BITS = "onnxruntime_float32", "onnxruntime_int8"
SERVING: Final = (ONNX, TRITON)


@dataclass(frozen=True)
class Pair:
    """How far two runtimes agree on the same pictures of one size.

    Attributes:
        left: One of them.
        right: The other.
        size: ``"HxW"``.
        mean_difference: Mean absolute difference of probability × 255.
        mask_agreement: Share of pixels with the same decision.
        equal_masks: Share of pictures on which every decision is the same.
        worst: Position of the picture with the most decisions apart (of equals, the largest difference).
        worst_mean_difference: There.
        worst_mask_agreement: There.
        within: Whether the bounds that hold for these two are kept.
    """

    left: str
    right: str
    size: str
    mean_difference: float
    mask_agreement: float
    equal_masks: float
    worst: int
    worst_mean_difference: float
    worst_mask_agreement: float
    within: bool


@dataclass(frozen=True)
class Comparison:
    """What came out.

    Attributes:
        pairs: Every two runtimes, at every size.
        runtimes: By name: ``precision``, ``serves`` (it is what versions run in), ``may_serve``; ``mean_difference``
            and ``mask_agreement``, the worst of those that decide it; ``fault``, where it did not answer as it must.
        pictures: uint8 ``[N,H,W,3]`` RGB, at the ingested size.
        answers: By runtime, uint8 ``[N,H,W]``, to those pictures.
        threshold: Probability from which a pixel counts as a person.
    """

    pairs: list[Pair]
    runtimes: dict[str, dict[str, Any]]
    pictures: Levels
    answers: dict[str, Levels]
    threshold: float

    def require_serving(self) -> None:
        """Raise GateFailedError, naming runtime and figures, if one that serves may not."""
        for name in SERVING:
            state = self.runtimes.get(name)
            if state is None or state["may_serve"]:
                continue
            figures = "; ".join(
                f"{pair.left} and {pair.right} at {pair.size}: mean difference {pair.mean_difference:.3f} of 255, "
                f"mask agreement {pair.mask_agreement:.5f}"
                for pair in _deciding(name, self.pairs)
                if not pair.within
            )
            fault = f"{name} may not serve it: {state.get('fault') or figures}"
            raise GateFailedError(
                "model.onnx", fault, "see reports/parity.html; the bounds are export.* in params.yaml"
            )


def compare_runtimes(
    params: Params,
    module: torch.nn.Module,
    published: Artifact,
    pictures: Levels,
    *,
    single: Artifact | None = None,
    eight_bits: Artifact | None = None,
) -> Comparison:
    """Let every runtime answer the same pictures and hold their answers against each other.

    Args:
        params: ``export`` and the threshold.
        module: The trained model, in evaluation mode on the CPU.
        published: The variant that is to serve.
        pictures: Test pictures, uint8 ``[N,H,W,3]`` RGB, sides multiples of 32.
        single: The float32 variant, and
        eight_bits: the int8 variant, where they are to be compared with each other.

    Raises:
        GateFailedError: ONNX Runtime or Triton refuses the model, or leaves pixels uncomputed.
        ServerUnavailableError: There is no Triton here, or it does not start even without a model.
        StorageError: The temporary folder cannot be written.
    """
    int8 = published.record.get("variant") == "int8"
    runtimes: dict[str, dict[str, Any]] = {name: {"precision": "float32"} for name in (PYTORCH, ONNX)}
    sized = dict.fromkeys([pictures.shape[1:3], GOLDEN_SIZE])
    shown = {f"{size[0]}x{size[1]}": _resized(pictures, size) for size in sized}
    found: dict[str, dict[str, Levels]] = {size: {} for size in shown}

    def ask(name: str, answer: Answer) -> None:
        for size, images in shown.items():
            found[size][name] = answer(images)

    ask(PYTORCH, lambda images: pytorch_answer(module, images))
    ask(ONNX, lambda images: onnxruntime_answer(published.onnx, images))
    if int8:
        runtimes[ONNX]["precision"] = "int8"
    for name, settings in OPENVINO.items():
        runtimes[name] = {}
        try:
            precision, answer = openvino_engine(published.onnx, settings)
            ask(name, answer)
            runtimes[name]["precision"] = precision
        except Exception as error:  # its errors share no narrower base; it serves only where it was seen to agree
            runtimes[name]["fault"] = " ".join(str(error).split())[:300]
            for answers in found.values():
                answers.pop(name, None)
    if params.export.parity_triton:
        with own_triton(published) as endpoint:
            ask(TRITON, lambda images: triton_answer(endpoint, images))
        runtimes[TRITON] = {"precision": runtimes[ONNX]["precision"]}
    main = list(runtimes)
    both = list(itertools.combinations(main, 2))
    if single is not None and eight_bits is not None:
        ask(SINGLE, lambda images: onnxruntime_answer(single.onnx, images))
        ask(EIGHT_BITS, lambda images: onnxruntime_answer(eight_bits.onnx, images))
        both.append((SINGLE, EIGHT_BITS))
    pairs = [
        _pair(params, size, left, right, answers, int8=int8 or right == EIGHT_BITS)
        for size, answers in found.items()
        for left, right in both
        if left in answers and right in answers
    ]
    _judge(runtimes, pairs, found)
    first = next(iter(shown))
    return Comparison(pairs, runtimes, shown[first], found[first], params.benchmark.threshold)


def put_forward(artifact: Artifact, comparison: Comparison, out_dir: Path) -> dict[str, Any]:
    """Write the variant that was compared, its record with what the runtimes did, where publication takes it.

    Returns:
        The record; its ``runtimes`` are the comparison's.

    Raises:
        GateFailedError: A runtime that serves may not; what lies in ``out_dir`` stays.
        StorageError: The disk is full or cannot be written.
    """
    comparison.require_serving()
    return write_artifact(out_dir, artifact.onnx, artifact.record | {"runtimes": comparison.runtimes}).record


def _resized(pictures: Levels, size: tuple[int, int]) -> Levels:
    if pictures.shape[1:3] == size:
        return pictures
    height, width = size
    return np.stack([cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA) for image in pictures])


def _pair(params: Params, size: str, left: str, right: str, answers: Mapping[str, Levels], *, int8: bool) -> Pair:
    """Compare two answers. Two ways to compute 8 bits may differ as 8 bits may; Triton runs ONNX Runtime itself."""
    one, two, threshold = answers[left], answers[right], params.benchmark.threshold
    each = [compare(first, second, threshold) for first, second in zip(one, two, strict=True)]
    worst = min(range(len(each)), key=lambda n: (each[n].mask_agreement, -each[n].mean_difference))
    whole = compare(one, two, threshold)
    bounds = params.export.int8 if int8 and {left, right} != {ONNX, TRITON} else params.export
    return Pair(
        left,
        right,
        size,
        whole.mean_difference,
        whole.mask_agreement,
        equal_masks=sum(agreement.mask_agreement == 1 for agreement in each) / len(each),
        worst=worst,
        worst_mean_difference=each[worst].mean_difference,
        worst_mask_agreement=each[worst].mask_agreement,
        within=whole.within(bounds.max_mean_difference, bounds.min_mask_agreement),
    )


def _deciding(name: str, pairs: list[Pair]) -> list[Pair]:
    """The pairs that say whether a runtime may serve: it and PyTorch, it and ONNX Runtime."""
    return [pair for pair in pairs if name in {pair.left, pair.right} <= {PYTORCH, ONNX, name}]


def _judge(runtimes: dict[str, dict[str, Any]], pairs: list[Pair], found: Mapping[str, Mapping[str, Levels]]) -> None:
    """Say of each runtime whether it may serve: every pixel computed, and as PyTorch and ONNX Runtime do."""
    for name, state in runtimes.items():
        empty = max((float((answers[name] == 0).mean()) for answers in found.values() if name in answers), default=0.0)
        if empty:
            state["fault"] = f"leaves {empty:.1%} of the pixels uncomputed"
        deciding = _deciding(name, pairs)
        state["serves"] = name in SERVING
        state["may_serve"] = name != PYTORCH and "fault" not in state and all(pair.within for pair in deciding)
        if name != PYTORCH and deciding:
            state["mean_difference"] = max(pair.mean_difference for pair in deciding)
            state["mask_agreement"] = min(pair.mask_agreement for pair in deciding)
