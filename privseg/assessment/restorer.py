"""A small network that learns to restore people from pairs of raw and protected pictures.

A U-Net (Ronneberger 2015) of 64 by 64 pixels, trained for seconds: it shows what little effort reaches. A larger one
reaches more; where this one succeeds a method has failed, and where it fails nothing is proved.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from privseg.assessment.data import Portrait
from privseg.assessment.quality import Image, psnr
from privseg.assessment.subject import Subject, Variant

__all__ = ["Restored", "Restorer", "train_restorer"]

_SIDE = 64
_WIDTHS = (20, 32, 48)
_BATCH = 16
Floats = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Restored:
    """How well people are restored, mean PSNR inside the mask in dB.

    Attributes:
        protected_db: Of the protected picture.
        restored_db: Of the network's guess.
    """

    protected_db: float
    restored_db: float


@dataclass(frozen=True)
class _Pairs:
    covered: Floats
    raw: Floats
    mask: Floats


class Restorer:
    """The network; ``restore`` maps what is protected to a guess."""

    def __init__(self, seed: int) -> None:
        torch.manual_seed(seed)
        first, second, third = _WIDTHS
        self._down = nn.ModuleList([_block(16, first), _block(first, second), _block(second, third)])
        self._up = nn.ModuleList([_block(third + second, second), _block(second + first, first)])
        self._last = nn.Conv2d(first, 12, 1)
        self._parts = nn.ModuleList([self._down, self._up, self._last])

    def parameters(self) -> Any:
        """What is learnt."""
        return self._parts.parameters()

    def restore(self, covered: Any, mask: Any) -> Any:
        """Float tensors ``(N, 3, 64, 64)`` and ``(N, 1, 64, 64)`` from 0 to 1; a guess of the shape of the first."""
        folded = nn.functional.pixel_unshuffle(torch.cat([covered, mask], 1), 2)  # a quarter of the work
        fine = self._down[0](folded)
        middle = self._down[1](nn.functional.avg_pool2d(fine, 2))
        coarse = self._down[2](nn.functional.avg_pool2d(middle, 2))
        middle = self._up[0](torch.cat([_larger(coarse), middle], 1))
        fine = self._up[1](torch.cat([_larger(middle), fine], 1))
        return covered + mask * nn.functional.pixel_shuffle(self._last(fine), 2)


def train_restorer(
    variant: Variant, train: Sequence[Portrait], test: Sequence[Portrait], *, steps: int, seed: int = 3
) -> Restored:
    """Train on some people and restore others.

    Args:
        variant: What covers them.
        train: People of whom the attacker has raw and protected pictures.
        test: Other people.
        steps: Batches of 16 to train on.
        seed: Of the network and its batches.

    Returns:
        PSNR before and after, over the test people.
    """
    subject = Subject(variant)
    known, asked = _pairs(subject, train, flips=True), _pairs(subject, test, flips=False)
    network, rng = Restorer(seed), np.random.default_rng(seed)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # so small a network spends more time on waiting for threads than it wins by them
    try:
        _train(network, known, steps, rng)
        with torch.no_grad():
            guess = network.restore(torch.from_numpy(asked.covered), torch.from_numpy(asked.mask)).numpy()
    finally:
        torch.set_num_threads(threads)
    return Restored(_mean_psnr(asked.covered, asked), _mean_psnr(guess, asked))


def _train(network: Restorer, known: _Pairs, steps: int, rng: np.random.Generator) -> None:
    optimizer = torch.optim.Adam(network.parameters(), lr=4e-3)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    for _ in range(steps):
        chosen = rng.integers(len(known.raw), size=_BATCH)
        covered, raw, mask = (torch.from_numpy(part[chosen]) for part in (known.covered, known.raw, known.mask))
        loss = (((network.restore(covered, mask) - raw) ** 2) * mask).sum() / mask.sum()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()


def _block(inside: int, outside: int) -> Any:
    return nn.Sequential(
        nn.Conv2d(inside, outside, 3, padding=1),
        nn.ReLU(),
        nn.Conv2d(outside, outside, 3, padding=1),
        nn.ReLU(),
    )


def _larger(values: Any) -> Any:
    return nn.functional.interpolate(values, scale_factor=2, mode="bilinear")


def _pairs(subject: Subject, people: Sequence[Portrait], *, flips: bool) -> _Pairs:
    """Cover everybody at full size, then shrink raw, covered and mask to the network's input."""
    rows: list[tuple[Floats, Floats, Floats]] = []
    for person in people:
        for flip in (False, True) if flips else (False,):
            side = -1 if flip else 1
            image = np.ascontiguousarray(person.image[:, ::side])
            mask = np.ascontiguousarray(person.mask[:, ::side])
            covered = subject.cover(image, mask)
            small = cv2.resize(mask.view(np.uint8), (_SIDE, _SIDE), interpolation=cv2.INTER_NEAREST)
            rows.append((_tensor(covered), _tensor(image), small[np.newaxis].astype(np.float32)))
    covered_all, raw_all, mask_all = (np.stack(column) for column in zip(*rows, strict=True))
    return _Pairs(covered_all, raw_all, mask_all)


def _tensor(picture: Image) -> Floats:
    small = cv2.resize(picture, (_SIDE, _SIDE), interpolation=cv2.INTER_AREA)
    return np.ascontiguousarray(small.transpose(2, 0, 1).astype(np.float32) / 255)


def _mean_psnr(found: Floats, pairs: _Pairs) -> float:
    pictures = (np.clip(found, 0, 1) * 255).astype(np.uint8).transpose(0, 2, 3, 1)
    truths = (pairs.raw * 255).astype(np.uint8).transpose(0, 2, 3, 1)
    masks = pairs.mask[:, 0] > 0
    return float(np.mean([psnr(a, b, m) for a, b, m in zip(pictures, truths, masks, strict=True)]))
