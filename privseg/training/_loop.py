"""mmengine's loop, counting optimiser steps: the batch of a step is computed in parts, in more when memory is short."""

from __future__ import annotations

import sys
from typing import Any

import torch

from privseg.errors import GateFailedError
from privseg.training._mm import (
    LOOPS,
    OPTIM_WRAPPERS,
    AmpOptimWrapper,
    IterBasedTrainLoop,
    OptimWrapper,
    mm_distributed,
)
from privseg.training._stream import STEP, seed_generators
from privseg.training.checks import SMALLEST_PART
from privseg.training.memory import is_out_of_memory

__all__ = ["PartsAmpOptimWrapper", "PartsOptimWrapper", "StepLoop", "more_parts"]


def more_parts(images: int, parts: int) -> int | None:
    """Find the next larger number of equal parts: the double where it divides, never parts of fewer than two images.

    Returns:
        The number of parts, or None if there is none.
    """
    larger = [n for n in range(parts + 1, images // SMALLEST_PART + 1) if images % n == 0]
    return next((n for n in larger if n >= 2 * parts), larger[-1] if larger else None)


class _InParts:
    """Adds the gradients of ``parts`` parts up before it steps; ``part`` is the one at hand, from 0."""

    parts = 1
    part = 0

    def should_update(self) -> bool:
        return self.part == self.parts - 1

    def should_sync(self) -> bool:
        return self.should_update()

    def scale_loss(self, loss: torch.Tensor) -> torch.Tensor:
        return loss / self.parts


@OPTIM_WRAPPERS.register_module()
class PartsOptimWrapper(_InParts, OptimWrapper):
    """mmengine's wrapper of an optimiser, stepping when the loop says so."""


@OPTIM_WRAPPERS.register_module()
class PartsAmpOptimWrapper(_InParts, AmpOptimWrapper):
    """The same in mixed precision."""


@LOOPS.register_module()
class StepLoop(IterBasedTrainLoop):
    """A loop whose iterations are optimiser steps.

    Each part's random numbers (drop-out) depend on the seed, the step and the part alone. The loss of a part is a mean
    over its own pixels, and batch statistics are its own, too: a batch in two parts learns a little differently from a
    batch in one. Where memory runs out, the same batch is computed again in more parts, and so are all after it.

    Args:
        runner: mmengine's runner.
        dataloader: Gives this process's share of each step's batch.
        max_iters: Optimiser steps.
        parts: Parts that a share is computed in.
        seed: Of the model's random numbers.
        candidate: Name of the candidate, for messages.
    """

    def __init__(self, runner: Any, dataloader: Any, max_iters: int, parts: int, seed: int, candidate: str) -> None:
        super().__init__(runner, dataloader, max_iters)
        self.parts = parts
        self.seed = seed
        self.candidate = candidate

    def run_iter(self, data_batch: Any) -> None:
        """Make one optimiser step; the hooks get the mean of the parts' losses.

        Raises:
            GateFailedError: There is not memory enough for parts of two images.
        """
        self.runner.call_hook("before_train_iter", batch_idx=self._iter, data_batch=data_batch)
        outputs = self._step(data_batch)
        self.runner.call_hook("after_train_iter", batch_idx=self._iter, data_batch=data_batch, outputs=outputs)
        self._iter += 1

    def _step(self, batch: dict[str, Any]) -> dict[str, torch.Tensor]:
        while True:
            try:
                return self._in_parts(batch)
            except (RuntimeError, MemoryError) as error:
                if not is_out_of_memory(error):
                    raise
            # only here, with the error gone, is what the attempt held free again
            self._take_more_parts(len(batch["inputs"]))

    def _in_parts(self, batch: dict[str, Any]) -> dict[str, torch.Tensor]:
        model, optimiser = self.runner.model, self.runner.optim_wrapper
        images, first = len(batch["inputs"]) // self.parts, mm_distributed.get_rank() * self.parts
        optimiser.parts = self.parts
        means: dict[str, torch.Tensor] = {}
        for part in range(self.parts):
            seed_generators(self.seed, STEP, self._iter, first + part)
            optimiser.part = part
            piece = {key: values[part * images : (part + 1) * images] for key, values in batch.items()}
            for name, value in model.train_step(piece, optim_wrapper=optimiser).items():
                means[name] = means.get(name, 0) + value.detach() / self.parts
        return means

    def _take_more_parts(self, images: int) -> None:
        at_once, processes = images // self.parts, mm_distributed.get_world_size()
        subject = f"candidate {self.candidate}"
        if processes > 1:  # the others wait in the middle of this step
            raise GateFailedError(
                subject,
                f"ran out of memory with {at_once} images at a time on one of {processes} processes",
                "raise accumulate, or lower batch_size or crop of the train profile in params.yaml, then train again",
            )
        parts = more_parts(images, self.parts)
        if parts is None:
            raise GateFailedError(
                subject,
                f"does not fit into memory, even {at_once} images at a time",
                "lower crop or batch_size of the train profile in params.yaml, then train again",
            )
        self.parts = parts
        self.runner.optim_wrapper.zero_grad(set_to_none=True)
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
        print(
            f"train {self.candidate}: memory is short, from now on {images // parts} images at a time",
            file=sys.stderr,
            flush=True,
        )
