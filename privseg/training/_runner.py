"""mmengine's runner under a time budget: when to stop, how fast to learn, where to begin."""

from __future__ import annotations

import logging
import math
import sys
import time
from pathlib import Path
from typing import Any

import torch

from privseg.errors import GateFailedError
from privseg.training import _distributed
from privseg.training._mm import Hook, MMDistributedDataParallel, MMLogger, Runner
from privseg.training._resume import ResumeHook

__all__ = ["BudgetHook", "DivergenceGuard", "QuietRunner", "learning_rate_factor"]

WARM_UP = 0.03  # share of the budget
START_FACTOR, END_FACTOR = 0.1, 0.01
AFTER_DIVERGENCE = 0.5


def learning_rate_factor(progress: float) -> float:
    """Learning rate relative to its peak: a short linear warm-up, then half a cosine down (arXiv 1608.03983).

    Args:
        progress: Share of the budget used, 0 to 1; beyond 1 the last value holds.
    """
    if progress < WARM_UP:
        return START_FACTOR + (1 - START_FACTOR) * progress / WARM_UP
    share = (min(progress, 1.0) - WARM_UP) / (1 - WARM_UP)
    return END_FACTOR + (1 - END_FACTOR) * (1 + math.cos(math.pi * share)) / 2


class BudgetHook(Hook):
    """Ends the training when its seconds are used up, and sets the learning rate by the share used.

    Several processes agree on the time, and on the loss, by their mean.

    Args:
        seconds: Wall-clock budget, counted from the first iteration, without the time between a kill and going on.
        max_iterations: Iterations after which the loop ends by itself.

    Attributes:
        iterations: Optimiser steps made.
        elapsed: Seconds they took.
        step_loss: Loss of the last step, of all processes.
        loss: The last loss that was a number.
        scale: Of the learning rate; 1 unless the training diverged.
    """

    def __init__(self, seconds: float, max_iterations: int) -> None:
        self.seconds = seconds
        self.max_iterations = max_iterations
        self.iterations = 0
        self.elapsed = 0.0
        self.step_loss = math.nan
        self.loss = math.nan
        self.scale = 1.0
        self._started = 0.0
        self._peaks: list[float] = []

    @property
    def used(self) -> float:
        """Share of the budget used, of whichever of seconds and iterations will end sooner."""
        return max(self.iterations / self.max_iterations, self.elapsed / self.seconds)

    @property
    def done(self) -> bool:
        """Whether the budget is used up."""
        return self.used >= 1

    def state(self) -> dict[str, Any]:
        """What a later run needs to go on."""
        return {
            "iterations": self.iterations,
            "elapsed": self.elapsed,
            "step_loss": self.step_loss,
            "loss": self.loss,
            "scale": self.scale,
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Go on from another run's state; the clock runs on from there."""
        self.__dict__.update(state)
        self._started = time.monotonic() - self.elapsed

    def before_train(self, runner: Any) -> None:
        """Start the clock and remember each parameter group's peak learning rate."""
        self._started = time.monotonic()
        self._peaks = [group["lr"] for group in runner.optim_wrapper.param_groups]

    def before_train_iter(self, runner: Any, batch_idx: int, data_batch: Any = None) -> None:
        """Set the learning rate of this iteration."""
        factor = self.scale * learning_rate_factor(self.used)
        for group, peak in zip(runner.optim_wrapper.param_groups, self._peaks, strict=True):
            group["lr"] = peak * factor

    def after_train_iter(self, runner: Any, batch_idx: int, data_batch: Any = None, outputs: Any = None) -> None:
        """Note the loss and the time, and end the training when it is over."""
        elapsed = time.monotonic() - self._started
        self.step_loss, self.elapsed = _distributed.mean(outputs["loss"].item(), elapsed)
        if math.isfinite(self.step_loss):
            self.loss = self.step_loss
        self.iterations = batch_idx + 1
        if self.elapsed >= self.seconds:
            runner.train_loop.stop_training = True


class DivergenceGuard(Hook):
    """Gives a training whose loss is no longer a number one more chance.

    Weights, averages and optimiser go back to the last good checkpoint, the learning rate is halved, and the training
    goes on with the next batch; time and iterations count on. The second time, the gate fails.

    Args:
        candidate: Its name, for messages.
        budget: Knows the loss and scales the learning rate.
        resume: Keeps the checkpoints.
    """

    def __init__(self, candidate: str, budget: BudgetHook, resume: ResumeHook) -> None:
        self.candidate = candidate
        self.budget = budget
        self.resume = resume
        self.first_at = 0

    def state(self) -> dict[str, Any]:
        """What a later run needs to go on."""
        return {"first_at": self.first_at}

    def restore(self, state: dict[str, Any]) -> None:
        """Go on from another run's state."""
        self.first_at = state["first_at"]

    def after_train_iter(self, runner: Any, batch_idx: int, data_batch: Any = None, outputs: Any = None) -> None:
        """Check the loss.

        Raises:
            GateFailedError: It is not finite for the second time.
        """
        loss, iteration = self.budget.step_loss, batch_idx + 1
        if math.isfinite(loss):
            return
        back_at = None if self.first_at else self.resume.go_back(runner)
        if back_at is None:
            again = f", at half the learning rate after it had at iteration {self.first_at}" if self.first_at else ""
            raise GateFailedError(
                f"candidate {self.candidate}",
                f"diverged: the loss became {loss} at iteration {iteration}{again}",
                "lower learning_rate of the train profile in params.yaml, then train again",
            )
        self.first_at = iteration
        self.budget.scale = AFTER_DIVERGENCE
        if self.resume.processes.first:
            print(
                f"train {self.candidate}: the loss became {loss} at iteration {iteration}; goes on with the weights "
                f"of iteration {back_at} at half the learning rate",
                file=sys.stderr,
                flush=True,
            )


class QuietRunner(Runner):
    """A runner that logs to a file and nowhere else: standard output belongs to the command's result."""

    def build_logger(self, log_level: int | str = "INFO", log_file: str | None = None, **options: Any) -> Any:
        """Build mmengine's logger without its console handler."""
        logger: MMLogger = super().build_logger(log_level, str(Path(self.work_dir) / "train.log"), **options)
        logger.handlers[:] = [handler for handler in logger.handlers if isinstance(handler, logging.FileHandler)]
        return logger

    def wrap_model(self, model_wrapper_cfg: Any, model: Any) -> Any:
        """Put the model where it is computed; several processes share its gradients, on CPUs as well as GPUs."""
        model = model.to(memory_format=torch.channels_last)  # a fifth less work on a CPU
        if not self.distributed:
            return super().wrap_model(model_wrapper_cfg, model)
        device = torch.device("cuda", torch.cuda.current_device()) if torch.cuda.is_available() else None
        return MMDistributedDataParallel(
            module=model.to(device) if device else model,
            device_ids=[device] if device else None,
            forward_sync_buffers=False,
        )

    def dump_config(self) -> None:
        """Write nothing: the configuration goes beside the weights at the end."""

    def close(self) -> None:
        """Close the log file."""
        for handler in self.logger.handlers:
            handler.close()
        self.logger.handlers.clear()
