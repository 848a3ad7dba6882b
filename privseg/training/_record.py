"""What a training leaves behind: its result, and the files of a trained candidate."""

from __future__ import annotations

import hashlib
import io
import json
import shutil
from dataclasses import asdict, dataclass, field, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

from privseg.params import Params
from privseg.training._mm import Config
from privseg.training.candidates import CANDIDATES
from privseg.training.data import drawn_sources
from privseg.training.segmentor import CHECKPOINT_FILE, RECORD_FILE

__all__ = ["TrainingResult", "fingerprint", "pretrained_from", "write_results"]

CONFIG_FILE = "config.py"
LOG_FILE = "train.log"
CURVES = ("tensorboard", "dvclive")
# What a run may change and still go on with the same training: of the active profile, and of the rest of ``train``. The
# profile and the candidate's own backbone are hashed by themselves.
OF_NO_CONSEQUENCE = {"workers", "accumulate", "checkpoint_seconds"}
APART = {"smoke", "full", "backbones"}


def _versions() -> dict[str, str]:
    return {
        "privseg": version("privseg"),
        "torch": torch.__version__,
        "mmsegmentation": version("onedl-mmsegmentation"),
    }


@dataclass(frozen=True)
class TrainingResult:
    """What a training did; the contents of ``training.json``.

    Attributes:
        candidate: Name of the candidate.
        iterations: Optimiser steps made.
        seconds: Wall-clock seconds they took, those before a kill included.
        final_loss: Loss of the last step.
        seed: Seed of weights, order and augmentation.
        crop: Height and width of a training crop in pixels.
        batch_size: Crops a step, of all processes together.
        accumulate: Parts that each process computed its share in, at the end: more than asked for if memory was short.
        processes: How many trained together.
        device: ``cpu``, or the name of the GPU.
        precision: Type of number of the layers: ``float32``, or that of mixed precision.
        ema: Share of each step in the averaged weights; 0: no average.
        loss: The losses (``privseg.params.LossParams``).
        augment: What was done to the pictures (``privseg.params.AugmentParams``).
        source_weights: How often a source's pictures were drawn; 1 where not named.
        no_human_weight: How often pictures without people were drawn relative to the others.
        resumed: How often it went on after a kill.
        diverged_at: Iteration at which it went back to a checkpoint, at half the learning rate; None: it did not.
        best_validation: Human intersection over union on the validation split of the weights that were kept; None: the
            last weights were kept unseen.
        best_iteration: Iteration these are of; None likewise.
        early_stopped: Whether it stopped because validation no longer improved.
        pretrained: What the weights started from; empty: from scratch.
        train_images: Images in the train split.
        train_people_images: Those of them that show a person.
        train_sources: Images in the train split, by source.
        checkpoint_sha256: Of ``checkpoint.pth``.
        versions: Of privseg, torch and mmsegmentation.
    """

    candidate: str
    iterations: int
    seconds: float
    final_loss: float
    seed: int
    crop: int
    batch_size: int
    accumulate: int
    processes: int
    device: str
    precision: str
    ema: float
    loss: dict[str, float]
    augment: dict[str, float]
    source_weights: dict[str, float]
    no_human_weight: float
    resumed: int
    diverged_at: int | None
    best_validation: float | None
    best_iteration: int | None
    early_stopped: bool
    pretrained: str
    train_images: int
    train_people_images: int
    train_sources: dict[str, int]
    checkpoint_sha256: str = ""
    versions: dict[str, str] = field(default_factory=_versions)


def fingerprint(params: Params, candidate: str, settings: dict[str, Any], manifest: Path, device: torch.device) -> str:
    """Hash everything that makes two runs the same training: parameters, model, data, code and kind of device.

    The numbers of processes and of parts are not in it: a training may go on with more or fewer.
    """
    backbone = params.train.backbones.get(candidate)
    facts = {
        "seed": params.seed,
        "image": params.image.model_dump(),
        "profile": params.train_profile.model_dump(exclude=OF_NO_CONSEQUENCE),
        "train": params.train.model_dump(exclude=APART),
        "drawn": drawn_sources(params),
        "model": settings["model"],
        "optimiser": settings["optim_wrapper"],
        "backbone": _sha256(Path(backbone)) if backbone else "",
        "manifest": _sha256(manifest),
        "code": [_sha256(file) for file in sorted(Path(__file__).parent.glob("*.py"))],
        "device": device.type,
        "versions": _versions(),
    }
    return hashlib.sha256(json.dumps(facts, sort_keys=True, default=str).encode()).hexdigest()


def pretrained_from(params: Params, candidate: str) -> str:
    """Say what a candidate's weights start from; empty: from scratch."""
    backbone = params.train.backbones.get(candidate)
    if not backbone:
        return CANDIDATES[candidate].pretrained
    return f"local file {Path(backbone).name} (sha256 {_sha256(Path(backbone))})"


def write_results(
    result: TrainingResult, weights: dict[str, torch.Tensor], settings: dict[str, Any], work: Path, out_dir: Path
) -> TrainingResult:
    """Write the files of a trained candidate in ``work`` and move them to ``out_dir``, the record last.

    Returns:
        The result, with the weights' sha256.

    Raises:
        OSError: They cannot be written.
    """
    checkpoint = io.BytesIO()  # straight to a file, torch would hide a full disk behind an error of its own
    torch.save(weights, checkpoint)
    result = replace(result, checkpoint_sha256=hashlib.sha256(checkpoint.getbuffer()).hexdigest())
    (work / CHECKPOINT_FILE).write_bytes(checkpoint.getbuffer())
    Config(settings).dump(work / CONFIG_FILE)
    (work / RECORD_FILE).write_text(json.dumps(asdict(result), indent=2) + "\n", encoding="utf-8")
    out_dir.mkdir(parents=True, exist_ok=True)
    for name in CURVES:
        shutil.rmtree(out_dir / name, ignore_errors=True)
    # The record goes last: with it, the checkpoint beside it counts.
    for name in (*CURVES, LOG_FILE, CONFIG_FILE, CHECKPOINT_FILE, RECORD_FILE):
        (work / name).replace(out_dir / name)
    return result


def _sha256(file: Path) -> str:
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
