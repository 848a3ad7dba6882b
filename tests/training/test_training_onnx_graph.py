"""Changes to an exported graph leave its answers as they were."""

from __future__ import annotations

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import Tensor, nn
from torch.nn import functional

from privseg.training.efficientnet_lite import EfficientNetLite
from privseg.training.onnx_file import to_onnx
from privseg.training.onnx_graph import fold_padding, halve_weights

WEIGHTS = np.random.default_rng(6).normal(size=(8, 2, 3, 3)).astype(np.float32)
OPSET = [helper.make_opsetid("", 17)]


def graph(*, mode: str = "constant", value: float = 0.0, pads: tuple[int, ...] = (0, 0, 0, 1, 0, 0, 2, 3)):
    """Pad, then convolve (which pads by one below); the padding is a cast of a constant, as PyTorch exports it."""
    nodes = [
        helper.make_node("Cast", ["sides32"], ["sides"], to=TensorProto.INT64),
        helper.make_node("Pad", ["x", "sides", "value"], ["padded"], mode=mode),
        helper.make_node("Conv", ["padded", "weights"], ["y"], pads=[0, 0, 1, 0], strides=[2, 2]),
    ]
    stored = [
        numpy_helper.from_array(np.array(pads, np.int32), "sides32"),
        numpy_helper.from_array(np.array(value, np.float32), "value"),
        numpy_helper.from_array(WEIGHTS, "weights"),
    ]
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, [None, 2, None, None])
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, [None, 8, None, None])
    return helper.make_model(helper.make_graph(nodes, "g", [x], [y], stored), opset_imports=OPSET, ir_version=10)


def run(model: onnx.ModelProto, **inputs: np.ndarray) -> np.ndarray:
    onnx.checker.check_model(model, full_check=True)
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, ["CPUExecutionProvider"])
    return session.run(None, inputs)[0]


@pytest.mark.parametrize("size", [(8, 8), (7, 10)])
def test_a_convolution_takes_over_the_zeros_before_it(size: tuple[int, int]):
    model, x = graph(), np.random.default_rng(1).normal(size=(2, 2, *size)).astype(np.float32)
    before = run(model, x=x)
    assert fold_padding(model) == 1
    assert [node.op_type for node in model.graph.node] == ["Conv"]
    assert [tensor.name for tensor in model.graph.initializer] == ["weights"]
    np.testing.assert_allclose(run(model, x=x), before, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    "options",
    [{"mode": "reflect"}, {"value": 1.0}, {"pads": (0, 1, 0, 0, 0, -1, 0, 0)}, {"pads": (0, 0, -1, 0, 0, 0, 0, 0)}],
    ids=["reflected", "ones", "channels", "cropped"],
)
def test_what_a_convolution_cannot_do_stays(options: dict[str, object]):
    model = graph(**options)
    before = model.SerializeToString()
    assert fold_padding(model) == 0
    assert model.SerializeToString() == before


def test_padding_that_depends_on_the_picture_or_is_used_elsewhere_stays():
    model = graph()
    model.graph.output.append(helper.make_tensor_value_info("padded", TensorProto.FLOAT, [None, 2, None, None]))
    assert fold_padding(model) == 0
    model = graph()
    model.graph.node[0].input[0] = "given"
    model.graph.input.append(helper.make_tensor_value_info("given", TensorProto.INT32, [8]))
    assert fold_padding(model) == 0


class Lite(nn.Module):
    """EfficientNet-Lite's features as a picture: all its uneven padding, none of its head."""

    def __init__(self) -> None:
        super().__init__()
        self.backbone = EfficientNetLite()
        self.backbone.init_weights()

    def forward(self, image: Tensor) -> Tensor:
        feature = self.backbone((image.permute(0, 3, 1, 2).to(torch.float32) - 127) / 128)[-1].mean(1, keepdim=True)
        level = functional.interpolate(feature, size=image.shape[1:3], mode="bilinear")[:, 0]
        return torch.clamp(255 * torch.sigmoid(50 * (level - level.mean())), 1, 255).to(torch.uint8)


def test_an_exported_network_has_no_padding_nodes_and_half_its_bytes():
    module = Lite().eval()
    image = torch.randint(0, 256, (1, 64, 96, 3), dtype=torch.uint8)
    with torch.inference_mode():
        expected = module(image).numpy().astype(int)
    assert np.ptp(expected) > 20
    full, half = to_onnx(module, 17), to_onnx(module, 17, half_weights=True)
    assert len(half) < 0.6 * len(full)
    for content in (full, half):
        model = onnx.load_from_string(content)
        assert "Pad" not in {node.op_type for node in model.graph.node}
        assert [(item.domain, item.version) for item in model.opset_import] == [("", 17)]
        found = run(model, IMAGE=image.numpy()).astype(int)
        assert np.abs(found - expected).mean() < 1
    assert to_onnx(module, 17, half_weights=True) == half, "equal weights give equal bytes"


def test_half_weights_are_the_nearest_and_large_or_few_values_keep_their_precision():
    random = np.random.default_rng(2)
    weights = {
        "many": random.normal(size=(64, 64)).astype(np.float32),
        "few": random.normal(size=(64,)).astype(np.float32),
        "large": np.full((64, 64), 1e5, np.float32),
    }
    nodes = [
        helper.make_node("MatMul", ["x", "many"], ["a"]),
        helper.make_node("Add", ["a", "few"], ["b"]),
        helper.make_node("MatMul", ["b", "large"], ["y"]),
    ]
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 64])
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 64])
    stored = [numpy_helper.from_array(value, name) for name, value in weights.items()]
    model = helper.make_model(helper.make_graph(nodes, "g", [x], [y], stored), opset_imports=OPSET, ir_version=10)
    assert halve_weights(model) == 1
    kinds = {tensor.name: tensor.data_type for tensor in model.graph.initializer}
    assert kinds["few"] == kinds["large"] == TensorProto.FLOAT
    value = np.eye(1, 64, dtype=np.float32)
    expected = (value @ weights["many"].astype(np.float16).astype(np.float32) + weights["few"]) @ weights["large"]
    np.testing.assert_allclose(run(model, x=value), expected, rtol=1e-5)
