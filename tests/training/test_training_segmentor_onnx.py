"""The segmentor must leave batch, height and width open when it becomes ONNX."""

from __future__ import annotations

import io
import warnings

import numpy as np
import onnxruntime
import pytest
import torch

from privseg.training._mm import MODELS, quiet_build
from privseg.training.candidates import CANDIDATES
from privseg.training.configs import candidate_config
from privseg.training.segmentor import PersonSegmentor


@pytest.fixture(scope="module", params=CANDIDATES)
def both(request) -> tuple[PersonSegmentor, onnxruntime.InferenceSession]:
    """An untrained segmentor with outputs spread over the whole range, and its ONNX twin."""
    torch.manual_seed(3)
    with quiet_build():
        model = MODELS.build(candidate_config(request.param, crop=64).model)
    segmentor = PersonSegmentor(request.param, model).eval()
    with torch.inference_mode():  # let normalisation fit the pictures, so that the features do not fade
        segmentor.train()
        for _ in range(8):
            segmentor(torch.randint(0, 256, (2, 64, 64, 3), dtype=torch.uint8))
        segmentor.eval()
        segmentor.decode_head.conv_seg.weight.mul_(5)
    stream = io.BytesIO()
    axes = {0: "N", 1: "H", 2: "W"}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the tracing exporter is deprecated and says much
        torch.onnx.export(
            segmentor,
            (torch.zeros(1, 64, 96, 3, dtype=torch.uint8),),
            stream,
            input_names=["IMAGE"],
            output_names=["PERSON"],
            dynamic_axes={"IMAGE": axes, "PERSON": axes},
            opset_version=17,
            dynamo=False,
        )
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    return segmentor, onnxruntime.InferenceSession(stream.getvalue(), options, providers=["CPUExecutionProvider"])


@pytest.mark.parametrize("shape", [(1, 64, 96), (2, 128, 64), (3, 96, 160)])
def test_onnx_agrees_at_sizes_it_was_not_traced_at(both, shape):
    segmentor, session = both
    image = torch.randint(0, 256, (*shape, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(5))
    with torch.inference_mode():
        expected = segmentor(image).numpy().astype(int)
    (found,) = session.run(None, {"IMAGE": image.numpy()})
    assert (found.shape, found.dtype) == (shape, np.uint8)
    assert np.ptp(expected) > 20, "a flat answer would prove nothing"
    assert np.abs(expected - found).max() <= 1
