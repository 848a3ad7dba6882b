from __future__ import annotations

import pytest
import torch

from privseg.benchmark.complexity import (
    FLOPS_SHAPES,
    complexity_figures,
    count_flops,
    count_parameters,
    peak_memory,
)
from privseg.errors import GateFailedError
from privseg.training.onnx_file import to_onnx

CHANNELS = 16


class TwoConvolutions(torch.nn.Module):
    """A model with the serving contract that keeps sixteen values a pixel in between."""

    def __init__(self):
        super().__init__()
        self.first = torch.nn.Conv2d(3, CHANNELS, 3, padding=1)
        self.second = torch.nn.Conv2d(CHANNELS, 1, 1)

    def forward(self, image):
        pixels = image.permute(0, 3, 1, 2).float()
        return self.second(torch.sin(self.first(pixels))).squeeze(1).to(torch.uint8)


@pytest.fixture(scope="module")
def model():
    return TwoConvolutions().eval()


@pytest.fixture(scope="module")
def onnx(model):
    return to_onnx(model, 17)


def test_parameters(model):
    assert count_parameters(model) == 3 * CHANNELS * 9 + CHANNELS + CHANNELS + 1


def test_flops_are_two_a_multiply_accumulate(model):
    each = 2 * (3 * 9 * CHANNELS + CHANNELS)
    assert count_flops(model, [(64, 64), (64, 96)]) == {(64, 64): each * 64 * 64, (64, 96): each * 64 * 96}
    assert next(model.parameters()).device.type == "cpu"


def test_memory_grows_with_the_picture(onnx):
    small, large = peak_memory(onnx, (64, 64), 1), peak_memory(onnx, (1024, 1024), 1)
    assert small is not None
    assert large is not None
    results_in_between = 4 * CHANNELS * 1024 * 1024
    assert large - small > results_in_between / 2
    assert large < 10 * results_in_between


def test_memory_of_a_broken_model(tmp_path):
    with pytest.raises(GateFailedError, match="cannot be run to measure memory"):
        peak_memory(b"no model", (64, 64), 1)


def test_figures(model, onnx):
    found = complexity_figures(model, onnx, 64)
    assert found["model_bytes"] == len(onnx)
    assert found["flops"] == found["flops_by_shape"]["64x64"]
    assert set(found["flops_by_shape"]) == {"64x64", *(f"{height}x{width}" for height, width in FLOPS_SHAPES)}
    assert found["peak_memory_bytes"] > 0
