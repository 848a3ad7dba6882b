"""Backbone weights from a local file, as the tools that publish them write it."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
import torch

from privseg.errors import DataError, UsageError
from privseg.training._mm import MODELS, quiet_build
from privseg.training.configs import candidate_config
from privseg.training.pretrained import load_backbone


def build(name: str, **options: Any) -> Any:
    with quiet_build():
        return MODELS.build(candidate_config(name, crop=64, **options).model)


@pytest.fixture(scope="module")
def resnet() -> dict[str, torch.Tensor]:
    """ResNet-18 weights under torchvision's names, with its classifier; none like those a model starts with."""
    backbone = build("bisenetv1_r18").backbone.context_path.backbone
    torch.manual_seed(4)
    weights = {name: torch.rand_like(value.float()) for name, value in backbone.state_dict().items()}
    return weights | {"fc.weight": torch.rand(1000, 512), "fc.bias": torch.rand(1000)}


def tensors(weights: dict[str, torch.Tensor], prefix: str = "") -> dict[str, torch.Tensor]:
    return {prefix + name: value for name, value in weights.items()}


@pytest.mark.parametrize(
    "content",
    [
        lambda weights: weights,
        lambda weights: {"state_dict": tensors(weights, "backbone."), "meta": {"epoch": 100}},
        lambda weights: {"model": tensors(weights, "module.")},
    ],
    ids=["torchvision", "mmpretrain", "data-parallel"],
)
def test_the_ways_in_which_weights_are_published(tmp_path: Path, resnet, content):
    file = tmp_path / "resnet18.pth"
    torch.save(content(resnet), file)
    model = build("bisenetv1_r18", backbone_weights=file)
    model.init_weights()
    loaded = model.backbone.context_path.backbone.state_dict()
    expected = {name for name in loaded if not name.endswith("num_batches_tracked")}
    assert all(torch.equal(loaded[name], resnet[name]) for name in expected)
    assert load_backbone(model, file) == len(expected)


def test_a_stem_that_differs_keeps_its_own_start(tmp_path: Path, resnet):
    """mmsegmentation's ResNet-18 begins with three small convolutions; torchvision's with one large one."""
    file = tmp_path / "resnet18.pth"
    torch.save(resnet, file)
    model = build("fcn_r18")
    before = {name: value.clone() for name, value in model.backbone.state_dict().items()}
    load_backbone(model, file)
    after = model.backbone.state_dict()
    assert torch.equal(after["layer1.0.conv1.weight"], resnet["layer1.0.conv1.weight"])
    assert all(torch.equal(after[name], before[name]) for name in after if name.startswith("stem."))


def test_training_starts_from_the_file_and_its_head_from_chance(tmp_path: Path):
    torch.manual_seed(1)
    source = build("efficientnet_lite0_fpn")
    file = tmp_path / "lite.pth"
    torch.save({"state_dict": tensors(source.backbone.state_dict(), "backbone.")}, file)
    model = build("efficientnet_lite0_fpn", backbone_weights=file)
    model.init_weights()
    wanted = source.backbone.state_dict()
    assert all(torch.equal(value, wanted[name]) for name, value in model.backbone.state_dict().items())
    assert not torch.equal(model.decode_head.conv_seg.weight, source.decode_head.conv_seg.weight)


def test_an_absent_file_is_named_before_anything_is_built(tmp_path: Path):
    with pytest.raises(UsageError, match=r"absent\.pth: does not exist.*stdc1.*train\.backbones") as raised:
        candidate_config("stdc1", crop=64, backbone_weights=tmp_path / "absent.pth")
    assert raised.value.exit_code == 2
    with pytest.raises(UsageError, match=r"absent\.pth: does not exist"):
        load_backbone(build("stdc1"), tmp_path / "absent.pth")


def test_weights_of_another_network_are_refused_with_the_count(tmp_path: Path, resnet):
    file = tmp_path / "resnet18.pth"
    torch.save(resnet, file)
    with pytest.raises(DataError, match=r"fit the backbone: 0 of the \d+ tensors of EfficientNetLite") as raised:
        load_backbone(build("efficientnet_lite0_fpn"), file)
    assert raised.value.exit_code == 3
    few = {name: value for name, value in resnet.items() if name.startswith("layer1.")}
    torch.save(few, file)
    with pytest.raises(DataError, match=r": 20 of the \d+ tensors of ResNet"):
        load_backbone(build("bisenetv1_r18"), file)


class Trap:
    """Runs code when a careless reader unpickles it."""

    def __reduce__(self) -> tuple[Any, tuple[str]]:
        return (os.mkdir, ("sprung",))


@pytest.mark.parametrize("content", [b"no weights", [1, 2], {"state_dict": Trap()}], ids=["bytes", "list", "code"])
def test_what_holds_no_weights_is_refused_and_not_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content):
    monkeypatch.chdir(tmp_path)
    file = tmp_path / "broken.pth"
    if isinstance(content, bytes):
        file.write_bytes(content)
    else:
        torch.save(content, file)
    with pytest.raises(DataError, match=r"broken\.pth: holds no weights"):
        load_backbone(build("stdc1"), file)
    assert not (tmp_path / "sprung").exists()
