"""Eight bits: what is quantised, what stays open, and what the calibration pictures decide."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
import torch
from onnx import numpy_helper
from torch import Tensor, nn
from torch.nn import functional

from privseg.errors import GateFailedError
from privseg.serving.golden import compare, draw_frame, run_onnx
from privseg.serving.quantize import quantize
from privseg.training.onnx_file import to_onnx

PICTURES = [draw_frame(96, 128, seed) for seed in range(4)]


class Small(nn.Module):
    """Colour scaling, three layers with a sum, resizing, softmax: a segmentor in little."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(3)
        self.stem = nn.Conv2d(3, 16, 3, stride=2, padding=1)
        self.deep = nn.Conv2d(16, 16, 3, padding=1)
        self.classify = nn.Conv2d(16, 2, 1)

    def forward(self, image: Tensor) -> Tensor:
        pixels = (image.permute(0, 3, 1, 2).to(torch.float32) - 120) / 60
        seen = functional.relu(self.stem(pixels))
        logits = self.classify(seen + functional.relu(self.deep(seen))) * 4
        logits = functional.interpolate(logits, size=image.shape[1:3], mode="bilinear", align_corners=False)
        return torch.round(logits.softmax(1)[:, 1] * 255).clamp(1, 255).to(torch.uint8)


@pytest.fixture(scope="module", params=[17, 20])
def models(request: pytest.FixtureRequest) -> tuple[bytes, bytes]:
    single = to_onnx(Small().eval(), request.param)
    return single, quantize(single, PICTURES)


def test_it_answers_nearly_as_before_at_any_size_and_any_number(models: tuple[bytes, bytes]) -> None:
    single, eight = models
    for height, width, count in ((96, 128, 1), (64, 64, 3), (256, 320, 2)):
        pictures = np.stack([draw_frame(height, width, seed) for seed in range(10, 10 + count)])
        expected = run_onnx(single, pictures)
        assert expected.std() > 5
        agreement = compare(expected, run_onnx(eight, pictures))
        assert agreement.within(4.0, 0.95), str(agreement)


def test_the_contract_is_the_same(models: tuple[bytes, bytes]) -> None:
    single, eight = (onnx.load_from_string(content) for content in models)
    assert eight.graph.input == single.graph.input
    assert eight.graph.output == single.graph.output
    assert [(o.domain, o.version) for o in eight.opset_import if not o.domain] == [
        (o.domain, o.version) for o in single.opset_import
    ]


def test_layers_get_a_scale_a_channel_but_the_first_one_and_the_way_to_probability_stay(
    models: tuple[bytes, bytes],
) -> None:
    graph = onnx.load_from_string(models[1]).graph
    makers = {output: node for node in graph.node for output in node.output}
    stored = {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer}
    convolutions = [node for node in graph.node if node.op_type == "Conv"]
    weights = [makers.get(node.input[1]) for node in convolutions]
    assert weights[0] is None, "the first layer sees the picture itself"
    for maker, channels in zip(weights[1:], (16, 2), strict=True):
        assert maker is not None
        assert maker.op_type == "DequantizeLinear"
        assert stored[maker.input[0]].dtype == np.int8
        assert stored[maker.input[1]].shape == (channels,)
    for node in graph.node:
        if node.op_type in {"Softmax", "Round"}:
            assert makers[node.input[0]].op_type != "DequantizeLinear"


def test_equal_weights_and_pictures_give_equal_bytes_and_other_pictures_others(models: tuple[bytes, bytes]) -> None:
    single, eight = models
    assert quantize(single, PICTURES) == eight
    assert quantize(single, [picture // 4 for picture in PICTURES]) != eight


def test_without_pictures_or_with_what_is_no_model_it_is_refused() -> None:
    single = to_onnx(Small().eval(), 17)
    with pytest.raises(GateFailedError, match="no picture"):
        quantize(single, [])
    with pytest.raises(GateFailedError, match="cannot be quantised"):
        quantize(b"no model at all" * 9, PICTURES)
    with pytest.raises(GateFailedError, match="cannot be quantised"):
        quantize(single, [PICTURES[0].astype(np.float32)])  # type: ignore[list-item]
