"""Which sample comes when, and its randomness: functions of the seed and a place in the stream, and of nothing else.

That a training goes on after a kill exactly as it would have without, and that its data do not depend on the number
of processes, of data loading processes or of parts, follows from this.
"""

from __future__ import annotations

import functools
import itertools
import random
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils.data import Dataset, Sampler

__all__ = ["STEP", "SampleStream", "SeededDataset", "seed_generators"]

# What a number is drawn for: each has a sequence of its own.
ORDER, SAMPLE, STEP = 1, 2, 3


def seed_generators(*numbers: int) -> None:
    """Seed the global generators of Python, numpy and torch from several non-negative numbers."""
    seed = int(np.random.SeedSequence(numbers).generate_state(1)[0])
    random.seed(seed)
    np.random.seed(seed)  # noqa: NPY002 - mmcv's transforms draw from it
    torch.manual_seed(seed)


class SampleStream(Sampler[tuple[int, int]]):
    """The endless stream of shuffled samples, cut into batches, each batch dealt out to the processes in order.

    Gives the pairs (index of the sample, place in the stream) that ``SeededDataset`` takes.

    Args:
        size: Number of samples.
        seed: Of their order.
        batch_size: Samples a step, all processes together; a multiple of ``processes``.
        rank: Number of this process.
        processes: How many there are.
    """

    def __init__(self, size: int, seed: int, batch_size: int, rank: int, processes: int) -> None:
        self.size = size
        self.seed = seed
        self.batch_size = batch_size
        self.share = batch_size // processes
        self.rank = rank
        self.first_step = 0
        self._order = functools.lru_cache(maxsize=2)(self._shuffled)  # a batch may reach into the next round

    def skip(self, samples: int) -> None:
        """Begin after so many samples of this process; mmengine calls this when it goes on with a training."""
        self.first_step = samples // self.share

    def __iter__(self) -> Iterator[tuple[int, int]]:
        for step in itertools.count(self.first_step):
            start = step * self.batch_size + self.rank * self.share
            for place in range(start, start + self.share):
                yield int(self._order(place // self.size)[place % self.size]), place

    def __len__(self) -> int:
        return self.size

    def _shuffled(self, turn: int) -> NDArray[np.int64]:
        return np.random.default_rng([self.seed, ORDER, turn]).permutation(self.size)


class SeededDataset(Dataset[Any]):
    """A dataset whose random transforms depend on the place in the stream alone.

    Args:
        dataset: An mmengine dataset.
        seed: Of its randomness.
    """

    def __init__(self, dataset: Any, seed: int) -> None:
        self.dataset = dataset
        self.seed = seed
        self.metainfo = dataset.metainfo

    def __getitem__(self, sample: tuple[int, int]) -> Any:
        index, place = sample
        seed_generators(self.seed, SAMPLE, place)
        return self.dataset[index]

    def __len__(self) -> int:
        return len(self.dataset)
