"""Pre-trained backbone weights from a local file."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from privseg.errors import DataError, UsageError

__all__ = ["load_backbone"]

# What training tools put before a backbone's names: mmpretrain and mmsegmentation, data-parallel wrappers, none.
FILE_PREFIXES = ("", "backbone.", "module.", "module.backbone.")
# What they keep a model's weights under.
WRAPPERS = ("state_dict", "model")
MIN_SHARE = 0.5
_NEXT = "correct or remove its line in train.backbones of params.yaml"


def load_backbone(model: Any, path: Path) -> int:
    """Load a file of weights into the backbone of a model.

    Fits files of torchvision (bare names), mmpretrain and mmsegmentation (under ``state_dict``, names that start with
    ``backbone.``). Where a backbone is built around another one (BiSeNet, ICNet and STDC around a classifier's), the
    file may hold the inner one. Names or shapes that do not fit are left as they are: a stem of three small
    convolutions has no use for the weights of one large one. Only tensors are read; nothing in the file is run.

    Args:
        model: An mmsegmentation ``EncoderDecoder``.
        path: The file, as ``torch.save`` wrote it.

    Returns:
        How many tensors were loaded.

    Raises:
        UsageError: There is no such file.
        DataError: It holds no weights, or fits at most half of the backbone.
    """
    if not path.is_file():
        raise UsageError(path, "does not exist, but is to hold backbone weights", _NEXT)
    try:
        weights = _weights(torch.load(path, map_location="cpu", weights_only=True))
    except Exception as error:  # torch raises many kinds for a broken or foreign file
        raise DataError(path, f"holds no weights ({error})", _NEXT) from error
    fits = ((_fitting(weights, prefix, part), part) for part in _parts(model.backbone) for prefix in FILE_PREFIXES)
    found, part = max(fits, key=lambda fit: len(fit[0]))
    expected = len(_names(part))
    if len(found) <= MIN_SHARE * expected:
        fault = f"{len(found)} of the {expected} tensors of {type(part).__name__} are in it by name and shape"
        raise DataError(path, f"does not fit the backbone: {fault}", _NEXT)
    part.load_state_dict(found, strict=False)
    return len(found)


def _weights(content: Any) -> dict[str, Tensor]:
    """Take the named tensors out of a checkpoint."""
    for wrapper in WRAPPERS:
        if isinstance(content, Mapping) and isinstance(content.get(wrapper), Mapping):
            content = content[wrapper]
    if not isinstance(content, Mapping):
        raise TypeError(f"a {type(content).__name__} instead of named tensors")
    return {name: value for name, value in content.items() if isinstance(value, Tensor)}


def _parts(backbone: nn.Module) -> Iterator[nn.Module]:
    """The backbone, and the backbones in it."""
    return (module for name, module in backbone.named_modules() if not name or name.endswith("backbone"))


def _names(part: nn.Module) -> set[str]:
    # how many batches a normalisation saw is in newer files only, and of no use here
    return {name for name in part.state_dict() if not name.endswith("num_batches_tracked")}


def _fitting(weights: dict[str, Tensor], prefix: str, part: nn.Module) -> dict[str, Tensor]:
    """The weights that a part has a place for, under its own names."""
    own = part.state_dict()
    return {
        name: weights[prefix + name]
        for name in _names(part)
        if prefix + name in weights and weights[prefix + name].shape == own[name].shape
    }
