"""A trained candidate as one plain module: pixels in, person probability out."""

from __future__ import annotations

import copy
import hashlib
import io
import json
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from privseg.errors import DataError
from privseg.training._mm import MODELS, quiet_build
from privseg.training.candidates import CANDIDATES, CLASSES
from privseg.training.configs import candidate_config
from privseg.training.open_size import open_sizes

__all__ = ["CHECKPOINT_FILE", "RECORD_FILE", "PersonSegmentor", "inference_state", "load_segmentor"]

CHECKPOINT_FILE = "checkpoint.pth"
RECORD_FILE = "training.json"
BACKGROUND, HUMAN = CLASSES.index("background"), CLASSES.index("human")
# Parts of a decode head that work in training only: PIDNet's and DDRNet's second and third outputs.
HELPERS = ("p_head", "p_cls_seg", "d_head", "d_cls_seg", "aux_head", "aux_cls_seg")


class PersonSegmentor(nn.Module):
    """What is served: everything between a picture's bytes and the person probability.

    Shares the weights of a candidate's backbone, neck (if it has one) and decode head; what is for training only is
    left out. Fit for ``torch.onnx.export`` with batch, height and width left open: some layers of the model are
    replaced, in place, by others that answer alike (see ``open_sizes``).

    Args:
        candidate: Name of the candidate.
        model: Its mmsegmentation ``EncoderDecoder``.
    """

    def __init__(self, candidate: str, model: Any) -> None:
        super().__init__()
        self.candidate = candidate
        self.backbone = model.backbone
        self.neck = model.neck if model.with_neck else nn.Identity()
        self.decode_head = _without_helpers(model.decode_head)
        open_sizes(self)
        colours = CANDIDATES[candidate]
        self.register_buffer("mean", torch.tensor(colours.mean).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(colours.std).view(1, 3, 1, 1), persistent=False)

    def forward(self, image: Tensor) -> Tensor:
        """Segment people.

        Args:
            image: uint8 ``[N, H, W, 3]``, RGB; H and W multiples of 32.

        Returns:
            uint8 ``[N, H, W]``, the person probability times 255, rounded, at least 1; 0 where it is not a number.
        """
        pixels = (image.permute(0, 3, 1, 2).to(torch.float32) - self.mean) / self.std
        logits = self.decode_head(self.neck(self.backbone(pixels)))
        # With two classes, softmax is the sigmoid of their difference: one channel to resize instead of two.
        difference = logits[:, HUMAN : HUMAN + 1] - logits[:, BACKGROUND : BACKGROUND + 1]
        difference = functional.interpolate(
            difference, size=image.shape[1:3], mode="bilinear", align_corners=self.decode_head.align_corners
        )
        probability = torch.sigmoid(difference[:, 0])
        # 0 is kept for what could not be computed (NaN compares false): a client must be able to tell a broken model
        # from an empty scene.
        levels = torch.clamp(torch.round(probability * 255), min=1)
        return torch.where(probability >= 0, levels, torch.zeros_like(levels)).to(torch.uint8)


def _without_helpers(head: nn.Module) -> nn.Module:
    """The same head, weights shared, without the branches that only its losses look at."""
    served = copy.copy(head)
    served._modules = {name: part for name, part in head._modules.items() if name not in HELPERS}
    return served


def inference_state(model: nn.Module) -> dict[str, Tensor]:
    """Take the weights that a ``PersonSegmentor`` needs out of an ``EncoderDecoder``, on the CPU."""
    helpers = tuple(f"decode_head.{name}." for name in HELPERS)
    return {
        key: value.detach().cpu().clone()
        for key, value in model.state_dict().items()
        if key.startswith(("backbone.", "neck.", "decode_head.")) and not key.startswith(helpers)
    }


def load_segmentor(candidate_dir: Path) -> PersonSegmentor:
    """Load what ``train`` wrote.

    Args:
        candidate_dir: Folder with ``checkpoint.pth`` and ``training.json``.

    Returns:
        The segmentor in evaluation mode, on the CPU; ``.candidate`` names it.

    Raises:
        DataError: A file is missing or broken, or they do not belong together.
        UsageError: The candidate it was trained as is not known (any more).
    """
    again = f"dvc repro train@{candidate_dir.name}"
    record_file, checkpoint = candidate_dir / RECORD_FILE, candidate_dir / CHECKPOINT_FILE
    try:
        record = json.loads(record_file.read_text(encoding="utf-8"))
        candidate, digest, crop = str(record["candidate"]), str(record["checkpoint_sha256"]), int(record["crop"])
    except FileNotFoundError:
        raise DataError(record_file, "does not exist", again) from None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(record_file, f"is not a training record ({error})", again) from error
    try:
        data = checkpoint.read_bytes()
    except OSError as error:
        fault = "does not exist" if isinstance(error, FileNotFoundError) else f"cannot be read ({error})"
        raise DataError(checkpoint, fault, again) from None
    if hashlib.sha256(data).hexdigest() != digest:
        raise DataError(checkpoint, f"is not the file that {RECORD_FILE} describes (sha256 differs)", again)
    with quiet_build():
        model = MODELS.build(candidate_config(candidate, crop=crop).model)
    segmentor = PersonSegmentor(candidate, model)
    segmentor.eval()
    try:
        state = torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)
        segmentor.load_state_dict(state, strict=True)
    except Exception as error:  # torch raises many kinds for a broken or foreign file
        raise DataError(checkpoint, f"does not hold the weights of {candidate} ({error})", again) from error
    return segmentor
