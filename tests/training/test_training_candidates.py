from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch.nn import functional

from privseg.errors import UsageError
from privseg.training._mm import MODELS, quiet_build
from privseg.training.candidates import CANDIDATES
from privseg.training.configs import candidate_config
from privseg.training.efficientnet_lite import imagenet_weights
from privseg.training.stdc_detail import PersonDetailHead


def dicts(node: Any) -> Iterator[dict[str, Any]]:
    if isinstance(node, dict):
        yield node
        node = list(node.values())
    if isinstance(node, (list, tuple)):
        for item in node:
            yield from dicts(item)


@pytest.mark.parametrize("name", CANDIDATES)
def test_one_set_of_rules_holds_for_every_candidate(name):
    model = candidate_config(name, crop=64).model.to_dict()
    nodes = list(dicts(model))
    assert model["data_preprocessor"]["size"] == [64, 64]
    assert model["data_preprocessor"]["bgr_to_rgb"]
    assert all(node["num_classes"] == node["out_channels"] == 2 for node in nodes if "num_classes" in node)
    assert all(node["ignore_index"] == 255 for node in nodes if "num_classes" in node)
    assert not any(node.get("type") == "SyncBN" for node in nodes)
    assert not any(node.get("pretrained") or node.get("type") == "Pretrained" for node in nodes)
    assert not any(node.get("align_corners") for node in nodes)


@pytest.mark.parametrize("name", CANDIDATES)
def test_loss_weighs_people_and_leaves_unlabelled_pixels_out_of_the_mean(name):
    with quiet_build():
        loss = MODELS.build(candidate_config(name, crop=64).model.decode_head.loss_decode)
    logits, labels = torch.randn(2, 2, 8, 8), torch.randint(0, 2, (2, 8, 8))
    labels[:, :3] = 255
    expected = functional.cross_entropy(logits, labels, weight=torch.tensor([1.0, 3.0]), ignore_index=255)
    assert float(loss(logits, labels, ignore_index=255)) == pytest.approx(float(expected), rel=1e-5)


def test_unknown_candidate_names_the_known_and_the_closest():
    with pytest.raises(UsageError, match="did you mean 'stdc1'") as raised:
        candidate_config("stdc", crop=64)
    assert all(name in str(raised.value) for name in CANDIDATES)


def test_backbone_takes_every_published_weight_and_nothing_else():
    backbone = MODELS.build({"type": "EfficientNetLite"})
    weights = imagenet_weights("lite0")
    assert backbone.state_dict().keys() == weights.keys()
    backbone.init_weights()
    assert all(torch.equal(value, weights[key]) for key, value in backbone.state_dict().items())


def test_backbone_features_come_at_strides_4_8_16_32():
    backbone = MODELS.build({"type": "EfficientNetLite"}).eval()
    with torch.inference_mode():
        shapes = [tuple(feature.shape) for feature in backbone(torch.zeros(1, 3, 64, 96))]
    assert shapes == [(1, 24, 16, 24), (1, 40, 8, 12), (1, 112, 4, 6), (1, 320, 2, 3)]


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


def test_detail_head_draws_no_outline_around_ignored_pixels():
    class Sample:
        def __init__(self, labels: torch.Tensor) -> None:
            self.gt_sem_seg = type("Labels", (), {"data": labels})

    head = object.__new__(PersonDetailHead)
    head.__dict__["ignore_index"] = 255
    labels = torch.tensor([[[0, 1, 255]]])
    assert head._stack_batch_gt([Sample(labels)]).tolist() == [[[[0, 1, 0]]]]
    assert labels.tolist() == [[[0, 1, 255]]], "the other heads still see what is ignored"
