"""The table of candidates and the rules that all of them share."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from privseg.errors import UsageError
from privseg.params import LossParams
from privseg.training._mm import MODELS, TRANSFORMS, mmseg, quiet_build
from privseg.training.candidates import CANDIDATES
from privseg.training.configs import candidate_config
from privseg.training.heads import PersonDetailHead
from privseg.training.losses import PersonLoss
from privseg.training.segmentor import PersonSegmentor, inference_state

LOSS = LossParams(human_weight=2.0, hard_share=0.5, dice=1.0, boundary=1.0)


def dicts(node: Any) -> Iterator[dict[str, Any]]:
    if isinstance(node, dict):
        yield node
        node = list(node.values())
    if isinstance(node, (list, tuple)):
        for item in node:
            yield from dicts(item)


def build(name: str, **options: Any) -> Any:
    with quiet_build():
        model = MODELS.build(candidate_config(name, crop=64, **options).model)
    model.init_weights()
    return model


def batch(name: str) -> dict[str, Any]:
    """Two pictures of 64 x 64 with a person and an unlabelled strip, as the data loader gives them."""
    random = np.random.default_rng(1)
    labels = np.zeros((64, 64), np.uint8)
    labels[20:50, 20:36], labels[:4] = 1, 255
    steps = [{"type": "GenerateEdge", "edge_width": 4}] if CANDIDATES[name].needs_edges else []
    packed = []
    for _ in range(2):
        picture = random.integers(0, 256, (64, 64, 3), dtype=np.uint8)
        results = {"img": picture, "gt_seg_map": labels.copy(), "img_shape": (64, 64)}
        for step in [*steps, {"type": "PackSegInputs"}]:
            results = TRANSFORMS.build(step).transform(results)
        packed.append(results)
    return {key: [results[key] for results in packed] for key in ("inputs", "data_samples")}


def test_the_table_has_the_models_of_the_study_and_those_after_it():
    assert len(CANDIDATES) == 20
    study = {name for name, candidate in CANDIDATES.items() if candidate.study}
    assert study == {
        *("unet_s5_d16", "bisenetv1_r18", "bisenetv2", "stdc1", "stdc2", "segformer_b0", "segformer_b1"),
        *("isanet_r50", "fcn_r50", "pspnet_r50", "deeplabv3_r50", "deeplabv3plus_r50", "semantic_fpn_r50", "icnet_r18"),
    }
    summaries = [candidate.summary for candidate in CANDIDATES.values()]
    assert len(set(summaries)) == len(summaries)
    assert all("arXiv" in summary for summary in summaries)


@pytest.mark.parametrize("name", CANDIDATES)
def test_a_row_names_one_source_of_settings(name):
    candidate = CANDIDATES[name]
    assert bool(candidate.base) != bool(candidate.model)
    assert name.startswith(candidate.family.split("_")[0])
    if candidate.base:
        assert (Path(mmseg.__file__).parent / ".mim" / "configs" / candidate.base).is_file()


def test_the_table_is_read_without_a_framework():
    code = "import sys, json, privseg.training.candidates; print(json.dumps(sorted(sys.modules)))"
    loaded = json.loads(subprocess.run([sys.executable, "-c", code], capture_output=True, check=True).stdout)
    assert not {"torch", "mmseg", "mmengine", "mmcv", "numpy"} & set(loaded)


def test_unknown_candidate_names_the_known_and_the_closest():
    with pytest.raises(UsageError, match="did you mean 'stdc1'") as raised:
        candidate_config("stdc_1", crop=64)
    assert all(name in str(raised.value) for name in CANDIDATES)


@pytest.mark.parametrize("name", CANDIDATES)
def test_one_set_of_rules_holds_for_every_candidate(name):
    model = candidate_config(name, crop=64, loss=LOSS).model.to_dict()
    nodes = list(dicts(model))
    assert model["data_preprocessor"]["size"] == [64, 64]
    assert model["data_preprocessor"]["bgr_to_rgb"]
    assert all(node["num_classes"] == node["out_channels"] == 2 for node in nodes if "num_classes" in node)
    assert all(node["ignore_index"] == 255 for node in nodes if "num_classes" in node)
    assert not any(node.get("type") == "SyncBN" for node in nodes)
    assert not any(node.get("pretrained") or node.get("checkpoint") for node in nodes)
    assert not any(node.get("type") == "Pretrained" for node in nodes)
    assert not any(node.get("align_corners") or node.get("sampler") for node in nodes)
    assert "http" not in json.dumps(model)


@pytest.mark.parametrize("name", CANDIDATES)
def test_the_served_output_gets_all_of_the_loss_and_helpers_its_class_weight(name):
    model = candidate_config(name, crop=64, loss=LOSS).model.to_dict()
    served = [node for node in dicts(model["decode_head"]) if node.get("type") == "PersonLoss"]
    helpers = [node for node in dicts(model.get("auxiliary_head", [])) if node.get("type") == "PersonLoss"]
    full = [node for node in served if LOSS.model_dump().items() <= node.items()]
    assert full
    assert all(node["loss_weight"] == 1.0 for node in full)
    for node in [*helpers, *(node for node in served if node not in full)]:
        assert node == {"type": "PersonLoss", "human_weight": 2.0, "loss_weight": node["loss_weight"]}
    other = {node["type"] for node in dicts(model) if "loss_weight" in node} - {"PersonLoss"}
    assert other == {"stdc": {"CrossEntropyLoss", "DiceLoss"}, "pidnet": {"BoundaryLoss"}}.get(
        CANDIDATES[name].family, set()
    )


@pytest.mark.parametrize("name", CANDIDATES)
def test_a_candidate_learns_from_a_batch_and_serves_without_its_helpers(name):
    """Built under the rules, two classes and plain BatchNorm; loss and slopes are finite; the served part stands."""
    torch.manual_seed(2)
    model = build(name, loss=LOSS)
    assert model.num_classes == model.decode_head.conv_seg.out_channels == 2
    assert not any(isinstance(module, nn.SyncBatchNorm) for module in model.modules())
    model.train()
    losses = model(**model.data_preprocessor(batch(name), training=True), mode="loss")
    total, _ = model.parse_losses(losses)
    assert torch.isfinite(total)
    assert total.item() < 10, "initial logits are so large that the first steps would be spent on undoing them"
    total.backward()
    slopes = [weight.grad for weight in model.parameters() if weight.grad is not None]
    assert slopes
    assert all(torch.isfinite(slope).all() for slope in slopes)
    assert model.decode_head.conv_seg.weight.grad.any()
    segmentor = PersonSegmentor(name, model)
    assert segmentor.state_dict().keys() == inference_state(model).keys()
    assert not any("aux" in key or ".p_" in key or ".d_" in key for key in segmentor.decode_head.state_dict())


@pytest.mark.parametrize("name", ["bisenetv1_r18", "stdc1", "pidnet_s", "efficientnet_lite0_fpn"])
def test_many_gpus_share_every_batch_statistic(name):
    model = build(name, distributed=True)
    norms = [module for module in model.modules() if isinstance(module, nn.modules.batchnorm._BatchNorm)]
    assert norms
    assert all(isinstance(norm, nn.SyncBatchNorm) for norm in norms)
    assert model.state_dict().keys() == build(name).state_dict().keys()
    model.train()
    still = [norm for norm in norms if not norm.training]
    assert bool(still) == (name == "efficientnet_lite0_fpn"), "statistics of ImageNet are kept"


@pytest.mark.parametrize("name", CANDIDATES)
def test_without_given_parameters_the_loss_is_the_default(name):
    with quiet_build():
        losses = MODELS.build({"type": "PersonLoss"}), candidate_config(name, crop=64).model.decode_head.loss_decode
    first = losses[1] if isinstance(losses[1], dict) else next(node for node in losses[1] if node.loss_weight == 1.0)
    assert (
        vars(MODELS.build(first)).items()
        >= {
            key: value for key, value in vars(PersonLoss()).items() if not key.startswith("_") and key != "training"
        }.items()
    )


def test_detail_head_draws_no_outline_around_ignored_pixels():
    class Sample:
        def __init__(self, labels: torch.Tensor) -> None:
            self.gt_sem_seg = type("Labels", (), {"data": labels})

    head = object.__new__(PersonDetailHead)
    head.__dict__["ignore_index"] = 255
    labels = torch.tensor([[[0, 1, 255]]])
    assert head._stack_batch_gt([Sample(labels)]).tolist() == [[[[0, 1, 0]]]]
    assert labels.tolist() == [[[0, 1, 255]]], "the other heads still see what is ignored"
