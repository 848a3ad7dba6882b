"""The EfficientNet-Lite backbone: published weights, strides, TensorFlow's padding."""

from __future__ import annotations

import pytest
import torch

from privseg.training._mm import MODELS
from privseg.training.candidates import CANDIDATES
from privseg.training.efficientnet_lite import imagenet_weights

VARIANTS = ("lite0", "lite2")


@pytest.mark.parametrize("variant", VARIANTS)
def test_backbone_takes_every_published_weight_and_nothing_else(variant):
    backbone = MODELS.build({"type": "EfficientNetLite", "variant": variant})
    weights = imagenet_weights(variant)
    assert backbone.state_dict().keys() == weights.keys()
    backbone.init_weights()
    assert all(torch.equal(value, weights[key]) for key, value in backbone.state_dict().items())


@pytest.mark.parametrize("variant", VARIANTS)
def test_backbone_features_come_at_strides_4_8_16_32(variant):
    backbone = MODELS.build({"type": "EfficientNetLite", "variant": variant}).eval()
    with torch.inference_mode():
        features = backbone(torch.zeros(1, 3, 64, 96))
    assert [feature.shape[2:] for feature in features] == [(16, 24), (8, 12), (4, 6), (2, 3)]
    head = CANDIDATES[f"efficientnet_{variant}_fpn"].model["decode_head"]
    assert [feature.shape[1] for feature in features] == head["in_channels"]


def test_backbone_keeps_the_statistics_of_imagenet_while_training():
    backbone = MODELS.build({"type": "EfficientNetLite"})
    backbone.init_weights()
    backbone.train()
    backbone(torch.rand(2, 3, 64, 64))
    assert torch.equal(backbone.state_dict()["_bn0.running_mean"], imagenet_weights("lite0")["_bn0.running_mean"])


def test_strided_convolution_pads_as_tensorflow_does():
    """At stride 2 an even picture gets its padding right and below only: out[0] is centred on pixel 1, not 0."""
    backbone = MODELS.build({"type": "EfficientNetLite"})
    stem = backbone._conv_stem
    with torch.no_grad():
        stem.weight.zero_()
        stem.weight[0, 0, 0, 0] = 1.0  # the tap at the upper left
        picture = torch.arange(64.0).view(1, 1, 8, 8).repeat(1, 3, 1, 1)
        assert torch.equal(stem(picture)[0, 0], picture[0, 0, ::2, ::2])
