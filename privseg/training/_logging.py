"""What a training says while it runs: curves for TensorBoard and DVCLive, and one line or bar of progress."""

from __future__ import annotations

import contextlib
import math
import shutil
import sys
import warnings
from pathlib import Path
from typing import Any

from dvclive import Live
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from privseg.training._hooks import ValidationHook
from privseg.training._mm import Hook
from privseg.training._runner import BudgetHook

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # TensorBoard's own, about numpy and protobuf
    from torch.utils.tensorboard import SummaryWriter

__all__ = ["CurvesHook", "ProgressHook"]

EVERY_STEPS = 10
PROGRESS_EVERY = 5.0  # seconds


class _Curves(Live):
    """DVCLive as a writer of files: no look at the git and DVC repository around it, nothing sent anywhere."""

    def _init_dvc(self) -> None:
        pass

    def _init_studio(self) -> None:
        pass


class CurvesHook(Hook):
    """Writes loss, learning rate and validation score for TensorBoard and for ``dvc plots``.

    A run that goes on begins its files anew with the points up to there, so that no point is in them twice.

    Args:
        folder: Gets ``tensorboard/`` and ``dvclive/``; None: nothing is written.
        budget: Knows the loss.
        validation: Knows the scores.
    """

    def __init__(self, folder: Path | None, budget: BudgetHook, validation: ValidationHook) -> None:
        self.folder = folder
        self.budget = budget
        self.validation = validation
        self._points: list[tuple[int, str, float]] = []
        self._losses: list[float] = []
        self._scores = 0
        self._tensorboard: Any = None
        self._dvclive: Any = None

    def state(self) -> dict[str, Any]:
        """What a later run needs to go on."""
        return {"_points": self._points, "_losses": self._losses, "_scores": self._scores}

    def restore(self, state: dict[str, Any]) -> None:
        """Go on from another run's state."""
        self.__dict__.update(state)

    def before_train_epoch(self, runner: Any) -> None:
        """Open the files: a checkpoint, if there is one, has been read by now."""
        if self.folder is None:
            return
        for name in ("tensorboard", "dvclive"):
            shutil.rmtree(self.folder / name, ignore_errors=True)
        self._tensorboard = SummaryWriter(str(self.folder / "tensorboard"))
        self._dvclive = _Curves(str(self.folder / "dvclive"), save_dvc_exp=False, dvcyaml=None)
        for point in self._points:
            self._write(*point)

    def after_train_iter(self, runner: Any, batch_idx: int, data_batch: Any = None, outputs: Any = None) -> None:
        """Add a point every ten steps: the mean loss since the last one."""
        if math.isfinite(self.budget.step_loss):
            self._losses.append(self.budget.step_loss)
        if (batch_idx + 1) % EVERY_STEPS == 0 and self._losses:
            self._add(batch_idx + 1, "loss", sum(self._losses) / len(self._losses))
            self._add(batch_idx + 1, "learning_rate", max(g["lr"] for g in runner.optim_wrapper.param_groups))
            self._losses = []
        self._add_scores()

    def after_train(self, runner: Any) -> None:
        """Add the last look, and close the files."""
        self._add_scores()
        self.close()

    def close(self) -> None:
        """Close the files."""
        if self._tensorboard is not None:
            self._tensorboard.close()

    def _add_scores(self) -> None:
        for iteration, score in self.validation.scores[self._scores :]:
            self._add(iteration, "validation_iou", score)
        self._scores = len(self.validation.scores)

    def _add(self, iteration: int, name: str, value: float) -> None:
        self._points.append((iteration, name, value))
        self._write(iteration, name, value)

    def _write(self, iteration: int, name: str, value: float) -> None:
        if self.folder is None:
            return
        self._tensorboard.add_scalar(name, value, iteration)
        self._dvclive.step = iteration
        self._dvclive.log_metric(name, value)
        self._dvclive.make_summary()


class ProgressHook(Hook):
    """One bar of progress on a terminal; elsewhere a line every five seconds, for whoever follows the output.

    Args:
        candidate: Its name.
        budget: Knows how far it is.
        shown: Whether this process says anything.
    """

    def __init__(self, candidate: str, budget: BudgetHook, *, shown: bool) -> None:
        self.candidate = candidate
        self.budget = budget
        self.shown = shown
        self._last_line = -math.inf
        self._bar: Progress | None = None

    def before_train_epoch(self, runner: Any) -> None:
        """Show the bar, if there is to be one."""
        if self.shown and sys.stderr.isatty():
            columns = (TextColumn("train {task.description}"), BarColumn(), TextColumn("{task.fields[text]}"))
            self._bar = Progress(*columns, TimeElapsedColumn(), console=Console(stderr=True))
            self._bar.add_task(self.candidate, total=1.0, text="")
            self._bar.start()

    def after_train_iter(self, runner: Any, batch_idx: int, data_batch: Any = None, outputs: Any = None) -> None:
        """Say how far it is."""
        budget = self.budget
        done = budget.done or runner.train_loop.stop_training
        left = max(0.0, budget.seconds - budget.elapsed)
        text = f"iteration {budget.iterations}, loss {budget.step_loss:.4f}, "
        text += "done" if done else f"{left:.0f} s left at most"
        if self._bar is not None:
            self._bar.update(self._bar.task_ids[0], completed=1.0 if done else budget.used, text=text)
        elif self.shown and (done or budget.elapsed - self._last_line >= PROGRESS_EVERY):
            self._last_line = budget.elapsed
            print(f"train {self.candidate}: {text}", file=sys.stderr, flush=True)

    def close(self) -> None:
        """Leave the bar as it is."""
        if self._bar is not None:
            with contextlib.suppress(OSError):  # the terminal may be gone
                self._bar.stop()
