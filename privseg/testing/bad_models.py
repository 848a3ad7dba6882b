"""Models that must never be published, and a third good one, for tests."""

from __future__ import annotations

from pathlib import Path
from typing import Final, Literal

import numpy as np
from onnx import TensorProto, helper, numpy_helper

from privseg.serving.artifact import INPUT_NAME, OUTPUT_NAME, Artifact, write_artifact

__all__ = ["BadKind", "make_bad_model"]

BadKind = Literal["green", "nobody", "everybody", "same", "nan", "shape", "signature", "truncated"]
_OPSET: Final = 17
_GREEN: Final = 1  # channel


def make_bad_model(path: Path, kind: BadKind) -> Artifact:
    """Write ``model.onnx`` and ``model.json`` of a tiny model into the directory ``path``.

    Args:
        path: The artifact's directory; made when absent.
        kind: ``green``: probability is the green channel; not bad at all. ``nobody``: an eighth of it, so never a
            person, yet no two pictures alike. ``everybody``: never under 200. ``same``: a drawing of its own, whatever
            is shown. ``nan``: a weight that is not a number. ``shape``: one row too few. ``signature``: the output has
            another name. ``truncated``: half of a model, with the hash of that half.
    """
    content = _graph(kind)
    if kind == "truncated":
        content = content[: len(content) // 2]
    return write_artifact(path, content, {"candidate": f"test_{kind}", "input": INPUT_NAME, "output": OUTPUT_NAME})


def _graph(kind: BadKind) -> bytes:
    output = "SOMETHING" if kind == "signature" else OUTPUT_NAME
    weight, offset = {"nobody": (0.125, 0.0), "everybody": (0.2, 200.0), "same": (0.0, 0.0), "nan": (np.nan, 0.0)}.get(
        kind, (1.0, 0.0)
    )
    constants = [
        numpy_helper.from_array(np.array(_GREEN, np.int64), "channel"),
        numpy_helper.from_array(np.array(weight, np.float32), "weight"),
        numpy_helper.from_array(np.array(offset, np.float32), "offset"),
        numpy_helper.from_array(np.array(1, np.float32), "least"),
        numpy_helper.from_array(np.array(255, np.float32), "most"),
    ]
    nodes = [
        helper.make_node("Gather", [INPUT_NAME, "channel"], ["plane"], axis=3),
        helper.make_node("Cast", ["plane"], ["floats"], to=TensorProto.FLOAT),
        helper.make_node("Mul", ["floats", "weight"], ["scaled"]),
        helper.make_node("Add", ["scaled", "offset"], ["level"]),
    ]
    if kind == "same":  # bright to the right of the middle: the running sum of ones along a row
        constants.append(numpy_helper.from_array(np.array(2, np.int64), "axis"))
        nodes.append(helper.make_node("Add", ["level", "least"], ["ones"]))
        nodes.append(helper.make_node("CumSum", ["ones", "axis"], ["drawing"]))
    if kind == "shape":
        for name, value in (("from", [0]), ("to", [-1]), ("rows", [1])):
            constants.append(numpy_helper.from_array(np.array(value, np.int64), name))
        nodes.append(helper.make_node("Slice", ["level", "from", "to", "rows"], ["drawing"]))
    last = "drawing" if kind in {"same", "shape"} else "level"
    nodes.append(helper.make_node("Clip", [last, "least", "most"], ["bounded"]))
    nodes.append(helper.make_node("Cast", ["bounded"], [output], to=TensorProto.UINT8))
    graph = helper.make_graph(
        nodes,
        f"person_{kind}",
        [helper.make_tensor_value_info(INPUT_NAME, TensorProto.UINT8, ["N", "H", "W", 3])],
        [helper.make_tensor_value_info(output, TensorProto.UINT8, ["N", "h", "W"])],
        constants,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", _OPSET)], ir_version=8)
    return bytes(model.SerializeToString())
