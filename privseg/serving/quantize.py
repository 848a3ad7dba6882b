"""Static quantisation of an exported model: weights and activations in 8 bits, measured on training pictures.

What stays in single precision: everything up to the first convolutions, colour scaling and the first layer, which
sees the picture itself; and everything behind the last layer, the way from its answer to a probability. Quantising
those was measured to cost people found, and saves next to nothing. Weights get a scale for each channel.

An 8-bit activation has no "not a number". A model whose weights are broken shows that in single precision only, so
that variant is the one that is held to the contract first.

Answers depend a little on the processor: without VNNI (or its likes) ONNX Runtime adds 8-bit products in 16 bits and
may saturate. Publication compares every server with the publisher's own answer, so a server where that matters is
found out.
"""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import numpy as np
import onnx
from numpy.typing import NDArray
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quant_pre_process, quantize_static

from privseg.errors import GateFailedError, StorageError
from privseg.serving.artifact import INPUT_NAME

__all__ = ["quantize"]

_LAYERS: Final = {"Conv", "ConvTranspose", "Gemm", "MatMul"}


def quantize(content: bytes, pictures: Sequence[NDArray[np.uint8]]) -> bytes:
    """Return a model in 8 bits (QDQ), batch, height and width still open.

    Args:
        content: ONNX model in single precision: uint8 ``[N,H,W,3]`` RGB in, colour scaling inside.
        pictures: What activations are measured on: uint8 ``[H,W,3]``, RGB, sides multiples of 32; training pictures,
            never those that anything is judged by.

    Raises:
        GateFailedError: There are no pictures, or ONNX Runtime cannot quantise this graph.
        StorageError: The temporary directory is full.
    """
    if not pictures:
        raise GateFailedError("int8", "there is no picture to measure activations on", "calibrate on training pictures")
    try:
        with tempfile.TemporaryDirectory(prefix="privseg-int8-") as folder, _quiet():
            source, result = Path(folder) / "float32.onnx", Path(folder) / "int8.onnx"
            # Folds constants and normalises names; its symbolic shape inference would fix what must stay open.
            quant_pre_process(onnx.load_from_string(content), str(source), skip_symbolic_shape=True)
            quantize_static(
                str(source),
                str(result),
                _Pictures(pictures),
                quant_format=QuantFormat.QDQ,
                per_channel=True,
                activation_type=QuantType.QUInt8,
                weight_type=QuantType.QInt8,
                nodes_to_exclude=_kept(onnx.load(source).graph),
            )
            model = onnx.load(result)
        onnx.checker.check_model(model, full_check=True)
    except OSError as error:
        raise StorageError.from_os_error(tempfile.gettempdir(), error) from error
    except Exception as error:  # the quantiser raises whatever its graph surgery runs into
        raise GateFailedError("int8", f"cannot be quantised ({error})", "publish another variant") from error
    quantised: bytes = model.SerializeToString()
    return quantised


class _Pictures(CalibrationDataReader):
    """Feeds pictures one at a time."""

    def __init__(self, pictures: Sequence[NDArray[np.uint8]]) -> None:
        self._left = iter(pictures)

    def get_next(self) -> dict[str, NDArray[np.uint8]] | None:
        """Return the next picture as the graph's input; none: there is no more."""
        picture = next(self._left, None)
        return None if picture is None else {INPUT_NAME: picture[None]}


def _kept(graph: Any) -> list[str]:
    """Name the nodes that stay as they are: those no layer comes before, and those no layer comes after."""
    after: set[str] = set()  # tensors that a layer has been at work on
    first = []
    for node in graph.node:  # sorted by dependence: makers come before users
        if after.intersection(node.input):
            after.update(node.output)
        else:
            first.append(node.name)
            if node.op_type in _LAYERS:
                after.update(node.output)
    before: set[str] = set()  # tensors that a layer will be at work on
    last = []
    for node in reversed(graph.node):
        if node.op_type in _LAYERS or before.intersection(node.output):
            before.update(node.input)
        else:
            last.append(node.name)
    return first + last


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep the quantiser's remarks on every layer out of the stage's log; what it cannot do, it raises."""
    logger = logging.getLogger()
    before = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(before)
