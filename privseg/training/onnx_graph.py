"""Changes to an exported ONNX graph that make it quicker or smaller and leave its answers as they were."""

from __future__ import annotations

from collections import Counter
from typing import Final

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from onnx.reference import ReferenceEvaluator

__all__ = ["fold_padding", "halve_weights"]

# Biases and the like are a hundredth of a model's size; they keep their precision.
MIN_HALVED: Final = 1024  # values


def fold_padding(model: onnx.ModelProto) -> int:
    """Give the zeros that a ``Pad`` puts around a picture to the convolutions behind it, in place.

    A padding of unequal sides (EfficientNet's) is exported as a node of its own. Runtimes then leave their quick
    memory layout for it, which costs a small network a fifth of its time; a convolution pads for nothing.

    Returns:
        How many nodes were folded.
    """
    graph = model.graph
    constants = _Constants(graph)
    outputs = {output.name for output in graph.output}
    folded = 0
    for pad in [node for node in graph.node if node.op_type == "Pad"]:
        users = [node for node in graph.node if pad.output[0] in node.input]
        sides = _zeros_around(pad, constants)
        if sides is None or pad.output[0] in outputs or not all(_pads_itself(user, pad.output[0]) for user in users):
            continue
        for conv in users:
            before = next((list(item.ints) for item in conv.attribute if item.name == "pads"), [0] * len(sides))
            kept = [item for item in conv.attribute if item.name != "pads"]
            del conv.attribute[:]
            conv.attribute.extend(kept)
            conv.attribute.append(helper.make_attribute("pads", [a + b for a, b in zip(before, sides, strict=True)]))
            conv.input[0] = pad.input[0]
        folded += 1
    _prune(graph)
    return folded


def _pads_itself(node: onnx.NodeProto, value: str) -> bool:
    """Whether a node is a convolution of a value that takes numbers for its padding."""
    automatic = any(item.name == "auto_pad" and item.s != b"NOTSET" for item in node.attribute)
    return node.op_type == "Conv" and node.input[0] == value and value not in node.input[1:] and not automatic


class _Constants:
    """The tensors of a graph that depend on none of its inputs."""

    def __init__(self, graph: onnx.GraphProto) -> None:
        self._stored = {tensor.name: tensor for tensor in graph.initializer}
        self._makers: dict[str, onnx.NodeProto] = {}
        for node in graph.node:  # sorted by dependence: makers come before users
            if all(name in self._stored or name in self._makers for name in node.input if name):
                self._makers.update(dict.fromkeys(node.output, node))

    def __getitem__(self, name: str) -> NDArray[np.generic] | None:
        """The value of a tensor; none: it is no constant."""
        if name in self._stored:
            return np.asarray(numpy_helper.to_array(self._stored[name]))
        if name not in self._makers:
            return None
        maker = self._makers[name]
        inputs = {source: self[source] for source in maker.input if source}
        values = ReferenceEvaluator(maker).run(None, inputs)
        return np.asarray(dict(zip(maker.output, values, strict=True))[name])


def _zeros_around(pad: onnx.NodeProto, constants: _Constants) -> list[int] | None:
    """The zeros a ``Pad`` adds before and after each spatial axis, as ``Conv`` lists them; none: something else."""
    mode = next((item.s for item in pad.attribute if item.name == "mode"), b"constant")
    _, sides, value, axes = [*pad.input, "", "", ""][:4]
    added = constants[sides]
    if mode != b"constant" or axes or added is None:
        return None
    if value and ((filling := constants[value]) is None or filling.any()):
        return None
    before, after = added.reshape(2, -1).tolist()
    if any(before[:2]) or any(after[:2]) or min(before + after) < 0:
        return None
    return [*before[2:], *after[2:]]


def _prune(graph: onnx.GraphProto) -> None:
    """Remove what nothing uses any more."""
    uses = Counter(name for node in graph.node for name in node.input)
    uses.update(output.name for output in graph.output)
    for node in reversed(graph.node):  # sorted by dependence: users come after what they use
        if not any(uses[output] for output in node.output):
            uses.subtract(node.input)
            graph.node.remove(node)
    for tensor in list(graph.initializer):
        if not uses[tensor.name]:
            graph.initializer.remove(tensor)


def halve_weights(model: onnx.ModelProto) -> int:
    """Store weights as float16 and turn them back where they are used, in place.

    The file shrinks by half; runtimes turn constants back when they load it, so every computation stays in float32.
    Weights beyond float16's range, and small tensors, stay as they are.

    Returns:
        How many tensors were halved.
    """
    graph, casts = model.graph, []
    for tensor in graph.initializer:
        if tensor.data_type != TensorProto.FLOAT or np.prod(tensor.dims) < MIN_HALVED:
            continue
        values = numpy_helper.to_array(tensor)
        if np.abs(values).max() > np.finfo(np.float16).max:
            continue
        name = tensor.name
        tensor.CopyFrom(numpy_helper.from_array(values.astype(np.float16), f"{name}.half"))
        casts.append(helper.make_node("Cast", [tensor.name], [name], to=TensorProto.FLOAT))
    nodes = [*casts, *graph.node]
    del graph.node[:]
    graph.node.extend(nodes)
    return len(casts)
