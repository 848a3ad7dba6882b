"""A candidate as an mmsegmentation configuration, under the one set of rules that all share."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from privseg.errors import UsageError
from privseg.params import LossParams
from privseg.training import efficientnet_lite, heads, losses, person_model
from privseg.training._mm import Config, mmseg
from privseg.training.candidates import CLASSES, find_candidate

__all__ = ["IGNORE", "candidate_config"]

IGNORE = 255
REGISTERED = (efficientnet_lite, heads, losses, person_model)
REPLACED = {
    "EncoderDecoder": "PersonModel",
    "ISAHead": "OpenSizeISAHead",
    "InterpConv": "mmseg.InterpConv",  # UNet's; mmcv looks for it in its own registry
    "STDCHead": "PersonDetailHead",
    "SyncBN": "BN",
}
# Weights from elsewhere and their like; a choice of hard pixels, which is the loss's business for all alike.
LEFT_OUT = {"pretrained", "init_cfg", "sampler"}


def candidate_config(
    name: str,
    *,
    crop: int,
    loss: LossParams | None = None,
    distributed: bool = False,
    backbone_weights: Path | None = None,
) -> Any:
    """Build the mmengine ``Config`` of a candidate under the rules that all share.

    Two classes in every head (STDC's detail head keeps its own two: outline or not), BatchNorm everywhere (or
    SyncBatchNorm everywhere), colours scaled from RGB, pixels counted as areas when resizing (``align_corners`` off),
    ``PersonLoss`` on every two-class output: with all of ``loss`` where the output is the one served, with its class
    weight alone where it is there for training only. The losses of outlines (STDC, PIDNet) stay. No weights come from
    elsewhere, except those in ``backbone_weights``.

    Args:
        name: A key of ``CANDIDATES``.
        crop: Height and width in pixels of a training crop.
        loss: The losses; their defaults where not given.
        distributed: Whether several processes train on GPUs, so that batch statistics must be shared.
        backbone_weights: A file with pre-trained weights of the backbone; see ``load_backbone``.

    Raises:
        UsageError: No such candidate; the message names those there are and the closest. Or no such file of weights.
    """
    candidate = find_candidate(name)
    if candidate.base:
        base = Path(mmseg.__file__).parent / ".mim" / "configs" / candidate.base
        model = Config.fromfile(base).model.to_dict()
    else:
        model = Config(candidate.model).to_dict()
    model = _apply_rules(model, loss or LossParams(), served=True)
    model["data_preprocessor"] = {
        "type": "mmseg.SegDataPreProcessor",
        "mean": list(candidate.mean),
        "std": list(candidate.std),
        "bgr_to_rgb": True,
        "size": [crop, crop],
        "pad_val": 0,
        "seg_pad_val": IGNORE,
    }
    model["sync_norms"] = distributed
    if backbone_weights is not None:
        if not backbone_weights.is_file():
            fault = f"does not exist, but is to hold backbone weights of {name}"
            raise UsageError(backbone_weights, fault, "correct or remove its line in train.backbones of params.yaml")
        model["backbone_weights"] = str(backbone_weights)
    imports = {"imports": [module.__name__ for module in REGISTERED]}
    return Config({"default_scope": "mmseg", "custom_imports": imports, "model": model})


def _apply_rules(node: Any, loss: LossParams, *, served: bool) -> Any:
    """Walk a model's settings and apply the rules that hold for every candidate.

    Args:
        node: Settings, or a part of them.
        loss: The losses.
        served: Whether the part is in use after training.
    """
    if isinstance(node, (list, tuple)):
        return [_apply_rules(item, loss, served=served) for item in node]
    if not isinstance(node, dict):
        return node
    settings = {
        key: _apply_rules(value, loss, served=served and key != "auxiliary_head")
        for key, value in node.items()
        if key not in LEFT_OUT
    }
    kind = settings.get("type")
    if kind in REPLACED:
        settings["type"] = REPLACED[kind]
    elif kind in {"CrossEntropyLoss", "OhemCrossEntropy"}:
        return _loss(settings, loss, served=served)
    if settings.get("align_corners"):
        settings["align_corners"] = False  # sizes here are multiples of 32, never of 32 plus one
    if "num_classes" in settings:
        settings |= {"num_classes": len(CLASSES), "out_channels": len(CLASSES), "ignore_index": IGNORE}
    return settings


def _loss(settings: dict[str, Any], loss: LossParams, *, served: bool) -> dict[str, Any]:
    """Replace a loss of classes; STDC's cross-entropy of outlines (sigmoid) has its own balance and stays."""
    if settings.get("use_sigmoid"):
        return settings | {"avg_non_ignore": True}
    weight = settings.get("loss_weight", 1.0)
    # A head with several losses (PIDNet, DDRNet) gives the served output the full weight, and its helpers less.
    options = loss.model_dump() if served and weight == 1.0 else {"human_weight": loss.human_weight}
    return {"type": "PersonLoss", **options, "loss_weight": weight}
