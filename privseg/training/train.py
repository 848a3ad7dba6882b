"""Train one candidate within a budget of seconds and iterations."""

from __future__ import annotations

import hashlib
import io
import json
import tempfile
import uuid
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import cv2
import torch

from privseg.errors import DataError, GateFailedError, StorageError
from privseg.params import Params
from privseg.training._mm import Config, quiet_build
from privseg.training._runner import BudgetHook, QuietRunner
from privseg.training.candidates import CANDIDATES
from privseg.training.configs import candidate_config
from privseg.training.data import PersonDataset, UnreadableSampleError, training_pipeline
from privseg.training.segmentor import CHECKPOINT_FILE, RECORD_FILE, inference_state

__all__ = ["TrainingResult", "train"]

CONFIG_FILE = "config.py"
LOG_FILE = "train.log"


@dataclass(frozen=True)
class TrainingResult:
    """What a training did; the contents of ``training.json``.

    Attributes:
        candidate: Name of the candidate.
        iterations: Optimiser steps made.
        seconds: Wall-clock seconds they took.
        final_loss: Loss of the last step.
        seed: Seed of weights, order and augmentation.
        crop: Height and width of a training crop in pixels.
        batch_size: Crops a step.
        pretrained: What the weights started from; empty: from scratch.
        train_images: Images in the train split.
        train_people_images: Those of them that show a person.
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
    pretrained: str
    train_images: int
    train_people_images: int
    checkpoint_sha256: str
    versions: dict[str, str]


def train(params: Params, candidate: str, manifest: Path, root: Path, out_dir: Path) -> TrainingResult:
    """Train a candidate and write ``checkpoint.pth``, ``config.py``, ``train.log`` and ``training.json``.

    Nothing already in ``out_dir`` is touched before the training has succeeded. The same seed gives the same weights
    as long as the iterations, not the seconds, end the training (the learning rate follows the clock, too).

    Args:
        params: The active profile's budget, the seed and the size of the images.
        candidate: A key of ``CANDIDATES``.
        manifest: The dataset's manifest (Parquet).
        root: Folder its paths are relative to.
        out_dir: Where the files go; made if need be.

    Raises:
        UsageError: No such candidate.
        DataError: The train split is empty, or an image of it cannot be read.
        GateFailedError: The loss stopped being a number.
        StorageError: ``out_dir`` cannot be written.
    """
    profile = params.train_profile
    config = candidate_config(candidate, crop=profile.crop)
    dataset = PersonDataset(manifest, root, "train", training_pipeline(params.image.size, profile.crop))
    settings = config.to_dict() | _settings(params, candidate)
    budget = BudgetHook(candidate, profile.seconds, profile.max_iterations)
    try:
        out_dir.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".training-", dir=out_dir) as staging_name:
            staging = Path(staging_name)
            model = _run(settings, dataset, budget, staging)
            Config(settings).dump(staging / CONFIG_FILE)
            checkpoint = io.BytesIO()  # straight to a file, torch would hide a full disk behind an error of its own
            torch.save(_finite_state(candidate, model), checkpoint)
            (staging / CHECKPOINT_FILE).write_bytes(checkpoint.getbuffer())
            result = TrainingResult(
                candidate=candidate,
                iterations=budget.iterations,
                seconds=round(budget.elapsed, 1),
                final_loss=budget.loss,
                seed=params.seed,
                crop=profile.crop,
                batch_size=profile.batch_size,
                pretrained=CANDIDATES[candidate].pretrained,
                train_images=len(dataset),
                train_people_images=int(dataset.rows["is_human"].sum()),
                checkpoint_sha256=hashlib.sha256(checkpoint.getbuffer()).hexdigest(),
                versions={
                    "privseg": version("privseg"),
                    "torch": torch.__version__,
                    "mmsegmentation": version("onedl-mmsegmentation"),
                },
            )
            (staging / RECORD_FILE).write_text(json.dumps(asdict(result), indent=2) + "\n", encoding="utf-8")
            # The record goes last: with it, the checkpoint beside it counts.
            for name in (LOG_FILE, CONFIG_FILE, CHECKPOINT_FILE, RECORD_FILE):
                (staging / name).replace(out_dir / name)
    except OSError as error:
        raise StorageError.from_os_error(out_dir, error) from error
    return result


def _settings(params: Params, candidate: str) -> dict[str, Any]:
    """Describe the optimiser and the loop the way mmengine does; they are also kept in ``config.py``."""
    profile = params.train_profile
    return {
        "train_dataloader": {
            "batch_size": profile.batch_size,
            "num_workers": profile.workers,
            "persistent_workers": profile.workers > 0,
            "sampler": {"type": "InfiniteSampler", "shuffle": True},
        },
        "train_cfg": {"type": "IterBasedTrainLoop", "max_iters": profile.max_iterations},
        "optim_wrapper": {
            "type": "OptimWrapper",
            "optimizer": {"type": "AdamW", "lr": profile.learning_rate, "weight_decay": 0.01},
            "clip_grad": {"max_norm": 5.0},
            "paramwise_cfg": {
                "norm_decay_mult": 0.0,
                "custom_keys": {"backbone": {"lr_mult": CANDIDATES[candidate].backbone_learning_rate}},
            },
        },
        "randomness": {"seed": params.seed},
        "log_processor": {"by_epoch": False},
    }


def _run(settings: dict[str, Any], dataset: PersonDataset, budget: BudgetHook, work_dir: Path) -> torch.nn.Module:
    """Run mmengine's loop and return the trained model."""
    opencv_threads = cv2.getNumThreads()
    options = {key: value for key, value in settings.items() if key not in {"custom_imports", "model"}}
    with quiet_build():
        runner = QuietRunner(
            model=settings["model"],
            work_dir=str(work_dir),
            **options | {"train_dataloader": settings["train_dataloader"] | {"dataset": dataset}},
            default_hooks={
                "checkpoint": None,
                "param_scheduler": None,
                "logger": {"type": "LoggerHook", "interval": 10},
            },
            custom_hooks=[budget],
            visualizer={"type": "Visualizer", "vis_backends": []},
            # mmengine keeps loggers and hubs by name for the life of the process
            experiment_name=uuid.uuid4().hex,
        )
    try:
        runner.train()
    except UnreadableSampleError as error:
        # from a data loading process the text comes with a traceback above it
        fault = str(error).strip().splitlines()[-1].removeprefix(f"{UnreadableSampleError.__module__}.")
        raise DataError("training sample", f"cannot be read: {fault}", "dvc repro --force ingest") from error
    finally:
        runner.close()
        cv2.setNumThreads(opencv_threads)
    return runner.model


def _finite_state(candidate: str, model: torch.nn.Module) -> dict[str, torch.Tensor]:
    """Take the weights to keep; the last step may have spoilt them after its loss was seen."""
    state = inference_state(model)
    broken = next((key for key, value in state.items() if not torch.isfinite(value).all()), None)
    if broken:
        raise GateFailedError(
            f"candidate {candidate}",
            f"diverged: {broken} is not finite after the last iteration",
            "lower learning_rate of the train profile in params.yaml, then train again",
        )
    return state
