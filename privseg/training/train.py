"""Train one candidate within a budget of seconds and iterations.

Several GPUs or machines train one candidate together when ``torchrun`` starts the command::

    torchrun --nproc-per-node 2 -m privseg stage train stdc1

``batch_size`` is that of all processes together, so the result is the same in all but rounding, save for batch
statistics: GPUs share them, CPUs do not, and see those of their own part of a batch only.
"""

from __future__ import annotations

import contextlib
import gc
import uuid
from pathlib import Path
from typing import Any

import cv2
import torch
from torch.utils.data import DataLoader

from privseg.errors import GateFailedError, PrivsegError, StorageError
from privseg.params import Params
from privseg.training import _distributed
from privseg.training._distributed import Processes, is_first
from privseg.training._faults import CanGoOnError, explained
from privseg.training._hooks import AverageHook, ValidationHook
from privseg.training._logging import CurvesHook, ProgressHook
from privseg.training._loop import PartsAmpOptimWrapper, PartsOptimWrapper, StepLoop
from privseg.training._mm import pseudo_collate, quiet_build
from privseg.training._record import TrainingResult, fingerprint, pretrained_from, write_results
from privseg.training._resume import CheckpointStore, ResumeHook, begin_anew, work_folder
from privseg.training._runner import BudgetHook, DivergenceGuard, QuietRunner
from privseg.training._stream import SampleStream, SeededDataset
from privseg.training._validation import Validation, validation_rows
from privseg.training.candidates import CANDIDATES
from privseg.training.checks import parts_of_batch
from privseg.training.configs import candidate_config
from privseg.training.data import PersonDataset, drawn_sources, people_files, split_rows, training_pipeline
from privseg.training.segmentor import inference_state

__all__ = ["TrainingResult", "is_first", "train"]


def train(params: Params, candidate: str, manifest: Path, root: Path, out_dir: Path) -> TrainingResult:
    """Train a candidate and write its weights, configuration, record, log and curves.

    ``checkpoint.pth`` are averaged weights (``params.train.ema``): the best on the validation split, where the
    training is long enough for a look at it and there is one, else the last. ``training.json`` is the result;
    ``config.py``, ``train.log``, ``tensorboard/`` and ``dvclive/`` say how it came about.

    Nothing already in ``out_dir`` is touched before the training has succeeded. Until then it lives in
    ``.NAME.training`` beside it, and a training that was killed goes on from its last checkpoint there. The same seed
    gives the same weights on CPUs, killed or not and whatever the number of data loading processes, as long as the
    iterations, not the seconds, end the training (the learning rate follows the clock, too); on GPUs, up to rounding.

    Args:
        params: The active profile's budget, the seed and the size of the images.
        candidate: A key of ``CANDIDATES``.
        manifest: The dataset's manifest (Parquet).
        root: Folder its paths are relative to.
        out_dir: Where the files go; made if need be.

    Raises:
        UsageError: No such candidate; the batch cannot be divided; or the candidate is in training there already.
        DataError: The train split is empty, or an image cannot be read.
        GateFailedError: The loss stopped being a number twice; memory is too small for two images; or a data loading
            process was killed, most likely for want of memory, and trying again goes on from the last checkpoint.
        ServerUnavailableError: Another process of the same training failed.
        StorageError: ``out_dir`` or the place beside it cannot be written.
    """
    profile = params.train_profile
    with _distributed.joined() as processes:
        parts_of_batch(profile.batch_size, processes.count, profile.accumulate)
        settings = _settings(params, candidate, processes)
        rows = split_rows(manifest, root, "train")
        people = people_files(root, rows, drawn_sources(params))
        pipeline = training_pipeline(
            profile.crop, params.train.augment, people, edges=CANDIDATES[candidate].needs_edges
        )
        shares = (params.train.source_weights, params.train.no_human_weight)
        dataset = PersonDataset(manifest, root, "train", pipeline, *shares)
        to_validate = validation_rows(manifest, root)
        validation = None if to_validate is None else Validation(candidate, to_validate, root, processes)
        try:
            with work_folder(out_dir, candidate, first=processes.first) as work:
                training = _Training(params, candidate, settings, processes, validation, work)
                weights = training.run(dataset, fingerprint(params, candidate, settings, manifest, processes.device))
                result = training.result(dataset) if processes.first else None
                if result is not None:
                    result = write_results(result, weights, settings, work, out_dir)
        except CanGoOnError as error:
            raise error.failed from error
        except OSError as error:
            raise StorageError.from_os_error(out_dir, error) from error
        done: TrainingResult = _distributed.from_first(result)
        several = processes.count > 1
    if several:
        # The model still holds on to Gloo's threads; they must be gone before the interpreter is.
        del training, weights
        gc.collect()
    return done


def _settings(params: Params, candidate: str, processes: Processes) -> dict[str, Any]:
    """Describe model, optimiser and loop the way mmengine does; they are also kept in ``config.py``."""
    profile = params.train_profile
    backbone = params.train.backbones.get(candidate)
    config = candidate_config(
        candidate,
        crop=profile.crop,
        loss=params.train.loss,
        distributed=processes.count > 1 and processes.device.type == "cuda",
        backbone_weights=Path(backbone) if backbone else None,
    )
    precision = _precision(params, processes.device)
    wrapper = PartsAmpOptimWrapper if precision else PartsOptimWrapper
    settings: dict[str, Any] = config.to_dict()
    return settings | {
        "train_cfg": {
            "type": StepLoop.__name__,
            "max_iters": profile.max_iterations,
            "parts": profile.accumulate,
            "seed": params.seed,
            "candidate": candidate,
        },
        "optim_wrapper": {
            "type": wrapper.__name__,
            **({"dtype": precision} if precision else {}),
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


def _precision(params: Params, device: torch.device) -> str:
    """The type of number that mixed precision uses: float16 only where the GPU has no bfloat16; empty: none."""
    if device.type != "cuda" or not params.train.amp:
        return ""
    return "bfloat16" if torch.cuda.is_bf16_supported(including_emulation=False) else "float16"


class _Training:
    """One training: mmengine's runner and the hooks around it.

    Args:
        params: As for ``train``.
        candidate: As for ``train``.
        settings: Model, optimiser and loop.
        processes: Who trains together.
        validation: The validation images; None: there are none.
        work: Folder of the unfinished training.
    """

    def __init__(
        self,
        params: Params,
        candidate: str,
        settings: dict[str, Any],
        processes: Processes,
        validation: Validation | None,
        work: Path,
    ) -> None:
        profile = params.train_profile
        self.params = params
        self.candidate = candidate
        self.settings = settings
        self.processes = processes
        self.work = work
        self.budget = BudgetHook(profile.seconds, profile.max_iterations)
        self.averaged = AverageHook(params.train.ema)
        self.validation = ValidationHook(validation, profile.validate_every, profile.patience, self.averaged)
        self.curves = CurvesHook(work if processes.first else None, self.budget, self.validation)
        self.progress = ProgressHook(candidate, self.budget, shown=processes.first)
        self.parts = profile.accumulate
        self.resumed = 0
        self.diverged_at = 0

    def run(self, dataset: PersonDataset, key: str) -> dict[str, torch.Tensor]:
        """Train, from the last checkpoint if there is one of the same training; gives the weights to keep.

        Raises:
            DataError: An image cannot be read.
            GateFailedError: The training diverged or does not fit into memory.
            CanGoOnError: A data loading process was killed.
            ServerUnavailableError: Another process failed.
        """
        store = CheckpointStore(self.work, key)
        start = _distributed.from_first(store.load() if self.processes.first else None)
        if start is None and self.processes.first:
            begin_anew(self.work)
        every = self.params.train_profile.checkpoint_seconds
        remembered = {"budget": self.budget, "validation": self.validation, "curves": self.curves}
        resume = ResumeHook(self.candidate, store, start, every, self.processes, self.averaged, remembered)
        guard = DivergenceGuard(self.candidate, self.budget, resume)
        remembered["guard"] = guard
        hooks = [self.budget, guard, self.averaged, self.validation, self.curves, resume, self.progress]
        opencv_threads = cv2.getNumThreads()
        try:
            with contextlib.ExitStack() as stack:
                stack.callback(cv2.setNumThreads, opencv_threads)
                stack.callback(self.curves.close)
                stack.callback(self.progress.close)
                with quiet_build():
                    runner = self._runner(dataset, hooks)
                stack.callback(runner.close)
                runner.train()
                self.parts, self.resumed, self.diverged_at = runner.train_loop.parts, resume.resumed, guard.first_at
                last = inference_state(self.averaged.model(runner))
        except PrivsegError:
            raise
        except Exception as error:  # memory alone runs out under many names
            known = explained(error, self.candidate, self.processes.rank)
            if known is error:
                raise
            raise known from error
        weights = self.validation.weights or last
        broken = next((key for key, value in weights.items() if not torch.isfinite(value).all()), None)
        if broken:  # the last step may have spoilt them after its loss was seen
            raise GateFailedError(
                f"candidate {self.candidate}",
                f"diverged: {broken} is not finite after the last iteration",
                "lower learning_rate of the train profile in params.yaml, then train again",
            )
        return weights

    def _runner(self, dataset: PersonDataset, hooks: list[Any]) -> QuietRunner:
        profile, processes = self.params.train_profile, self.processes
        stream = SampleStream(len(dataset), self.params.seed, profile.batch_size, processes.rank, processes.count)
        loader = DataLoader(
            SeededDataset(dataset, self.params.seed),
            batch_size=stream.share,
            sampler=stream,
            num_workers=profile.workers,
            persistent_workers=profile.workers > 0,
            collate_fn=pseudo_collate,
        )
        return QuietRunner(
            work_dir=str(self.work),
            train_dataloader=loader,
            default_hooks={
                "checkpoint": None,
                "param_scheduler": None,
                "logger": {"type": "LoggerHook", "interval": 10},
            },
            custom_hooks=hooks,
            visualizer={"type": "Visualizer", "vis_backends": []},
            launcher="pytorch" if processes.count > 1 else "none",
            # mmengine keeps loggers and hubs by name for the life of the process
            experiment_name=uuid.uuid4().hex,
            **{key: value for key, value in self.settings.items() if key != "custom_imports"},
        )

    def result(self, dataset: PersonDataset) -> TrainingResult:
        """Put together what ``training.json`` says."""
        params, profile, device = self.params, self.params.train_profile, self.processes.device
        return TrainingResult(
            candidate=self.candidate,
            iterations=self.budget.iterations,
            seconds=round(self.budget.elapsed, 1),
            final_loss=self.budget.loss,
            seed=params.seed,
            crop=profile.crop,
            batch_size=profile.batch_size,
            accumulate=self.parts,
            processes=self.processes.count,
            device=torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu",
            precision=_precision(params, device) or "float32",
            ema=params.train.ema,
            loss=params.train.loss.model_dump(),
            augment=params.train.augment.model_dump(),
            source_weights=dict(params.train.source_weights),
            no_human_weight=params.train.no_human_weight,
            resumed=self.resumed,
            diverged_at=self.diverged_at or None,
            best_validation=self.validation.best,
            best_iteration=self.validation.best_iteration,
            early_stopped=self.validation.stopped,
            pretrained=pretrained_from(params, self.candidate),
            train_images=len(dataset.rows),
            train_people_images=int(dataset.rows["is_human"].sum()),
            train_sources={str(k): int(n) for k, n in dataset.rows["source"].value_counts(sort=False).items()},
        )
