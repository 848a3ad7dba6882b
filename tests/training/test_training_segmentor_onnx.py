"""The segmentor answers as mmsegmentation's model does, and leaves batch, height and width open as ONNX."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import onnxruntime
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from privseg.serving.golden import draw_frame
from privseg.training._mm import MODELS, quiet_build
from privseg.training.candidates import CANDIDATES
from privseg.training.configs import candidate_config
from privseg.training.onnx_file import to_onnx
from privseg.training.segmentor import PersonSegmentor

SIZE = (64, 96)


class Served(NamedTuple):
    """A candidate in its three forms; ``theirs`` is the answer of mmsegmentation's model to ``image``."""

    image: Tensor
    theirs: Tensor
    segmentor: PersonSegmentor
    session: onnxruntime.InferenceSession


def pictures(count: int, height: int, width: int) -> Tensor:
    """uint8 ``[count, height, width, 3]``, each different."""
    return torch.from_numpy(np.stack([draw_frame(height, width, seed) for seed in range(count)]))


def spread(logits: Tensor, classifier: nn.Conv2d) -> None:
    """Let a classifier's answers cover the whole range around the threshold: a flat answer would prove nothing."""
    difference = logits[:, 1] - logits[:, 0]
    factor = 3 / difference.std()
    classifier.weight.mul_(factor)
    classifier.bias.mul_(factor)
    classifier.bias[1] -= factor * difference.mean()


@pytest.fixture(scope="module", params=CANDIDATES)
def served(request: pytest.FixtureRequest) -> Served:
    name = request.param
    torch.manual_seed(3)
    with quiet_build():
        model = MODELS.build(candidate_config(name, crop=64).model)
    model.init_weights()
    mean, std = (torch.tensor(part).view(3, 1, 1) for part in (CANDIDATES[name].mean, CANDIDATES[name].std))
    image = pictures(4, *SIZE)
    pixels = (image.permute(0, 3, 1, 2) - mean) / std
    with torch.inference_mode():
        model.eval()
        for norm in model.modules():  # fit the pictures, so that features neither fade nor burst
            if isinstance(norm, nn.BatchNorm2d):
                norm.train()
                norm.momentum = 1.0
        model(pixels, mode="tensor")
        model.eval()
        spread(model(pixels, mode="tensor"), model.decode_head.conv_seg)
        logits = functional.interpolate(model(pixels, mode="tensor"), size=SIZE, mode="bilinear")
        theirs = logits.softmax(1)[:, 1]
    segmentor = PersonSegmentor(name, model).eval()
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    content = to_onnx(segmentor, 17)
    return Served(image, theirs, segmentor, onnxruntime.InferenceSession(content, options, ["CPUExecutionProvider"]))


def test_segmentor_answers_as_the_trained_model_does(served: Served):
    with torch.inference_mode():
        found = served.segmentor(served.image)
    assert (found.shape, found.dtype) == ((4, *SIZE), torch.uint8)
    assert (found.float() - (served.theirs * 255).clamp(min=1)).abs().max() <= 0.51


@pytest.mark.parametrize("shape", [(2, 128, 64), (1, 96, 160)])
def test_onnx_agrees_at_sizes_it_was_not_traced_at(served: Served, shape: tuple[int, int, int]):
    image = pictures(*shape)
    with torch.inference_mode():
        expected = served.segmentor(image).numpy().astype(int)
    (found,) = served.session.run(None, {"IMAGE": image.numpy()})
    assert (found.shape, found.dtype) == (shape, np.uint8)
    assert np.ptp(expected) > 100
    assert np.abs(expected - found).mean() <= 1
    assert ((expected >= 127.5) == (found >= 127.5)).mean() >= 0.999
