"""A candidate as an mmsegmentation configuration, under the one set of rules that all share."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from privseg.training import efficientnet_lite, stdc_detail
from privseg.training._mm import Config, mmseg
from privseg.training.candidates import CLASSES, find_candidate

__all__ = ["IGNORE", "candidate_config"]

IGNORE = 255
# A missed person costs more than a wall taken for one, and people are the smaller part of every picture.
HUMAN_WEIGHT = 3.0
# mmsegmentation starts its classifiers near zero. Adam then turns every weight towards background, the larger class,
# within ten steps, and features behind a ReLU need hundreds to come back: too many for a short training.
CLASSIFIER_INIT = {"type": "Xavier", "distribution": "normal", "override": {"name": "conv_seg"}}


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
    candidate = find_candidate(name)
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
