"""What happens beside the steps of a training: weights are averaged, and the best of them kept."""

from __future__ import annotations

from typing import Any

import torch

from privseg.training import _distributed
from privseg.training._mm import Hook, MomentumAnnealingEMA
from privseg.training._resume import bare
from privseg.training._validation import Validation
from privseg.training.segmentor import inference_state

__all__ = ["AverageHook", "ValidationHook"]

GAMMA = 100


class AverageHook(Hook):
    """Keeps an exponential moving average of weights and running statistics.

    A step's share is 100 / (100 + steps) until that falls below ``share``: of a training of a hundred steps the last
    two or three count, so that its beginning cannot hold it back; of one of thousands, the last few hundred.

    Args:
        share: Of each step in the average; 0 and 1: no average.
    """

    def __init__(self, share: float) -> None:
        self.share = share
        self._average: Any = None

    def before_train(self, runner: Any) -> None:
        """Begin with the model's weights."""
        if 0 < self.share < 1:
            model = bare(runner.model)
            self._average = MomentumAnnealingEMA(model, momentum=self.share, gamma=GAMMA, update_buffers=True)

    def after_train_iter(self, runner: Any, batch_idx: int, data_batch: Any = None, outputs: Any = None) -> None:
        """Add the weights after a step."""
        if self._average is not None:
            self._average.update_parameters(bare(runner.model))

    def model(self, runner: Any) -> Any:
        """The averaged model, or the model itself where nothing is averaged."""
        model = bare(runner.model) if self._average is None else self._average.module
        _distributed.average_buffers(model)
        return model

    def state(self) -> dict[str, Any]:
        """What a later run needs to go on."""
        return {} if self._average is None else self._average.state_dict()

    def restore(self, state: dict[str, Any]) -> None:
        """Go on from another run's state."""
        if self._average is not None:
            self._average.load_state_dict(state)


class ValidationHook(Hook):
    """Looks at the validation split now and then, keeps the best weights, and stops a training that has no better.

    A training that ends before its first look keeps its last weights; one that was looked at is looked at once more
    at its end.

    Args:
        validation: The images; None: there are none.
        every: Optimiser steps between two looks.
        patience: Looks without a better score before training stops; 0: never.
        averaged: Has the weights to look at.

    Attributes:
        scores: Iteration and score of every look.
        best: The highest score; None before the first look.
        best_iteration: The iteration it was seen at.
        weights: The weights it was seen with.
        stopped: Whether the training was stopped early.
    """

    def __init__(self, validation: Validation | None, every: int, patience: int, averaged: AverageHook) -> None:
        self.validation = validation
        self.every = every
        self.patience = patience
        self.averaged = averaged
        self.scores: list[tuple[int, float]] = []
        self.best: float | None = None
        self.best_iteration: int | None = None
        self.weights: dict[str, torch.Tensor] = {}
        self.stopped = False
        self._without_better = 0

    def state(self) -> dict[str, Any]:
        """What a later run needs to go on."""
        names = ("scores", "best", "best_iteration", "weights", "stopped", "_without_better")
        return {name: getattr(self, name) for name in names}

    def restore(self, state: dict[str, Any]) -> None:
        """Go on from another run's state."""
        self.__dict__.update(state)

    def after_train_iter(self, runner: Any, batch_idx: int, data_batch: Any = None, outputs: Any = None) -> None:
        """Look when it is time."""
        if self.validation is not None and (batch_idx + 1) % self.every == 0:
            self._look(self.validation, runner, batch_idx + 1)
            if self.patience and self._without_better >= self.patience:
                self.stopped = True
                runner.train_loop.stop_training = True

    def after_train(self, runner: Any) -> None:
        """Give the last weights their chance."""
        if self.validation is not None and self.scores and self.scores[-1][0] < runner.train_loop.iter:
            self._look(self.validation, runner, runner.train_loop.iter)

    def _look(self, validation: Validation, runner: Any, iteration: int) -> None:
        model = self.averaged.model(runner)
        score = validation.score(model)
        self.scores.append((iteration, score))
        if self.best is None or score > self.best:
            self.best, self.best_iteration, self._without_better = score, iteration, 0
            self.weights = inference_state(model)
        else:
            self._without_better += 1
