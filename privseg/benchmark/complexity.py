"""How big and how laborious a model is."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch.utils.flop_counter import FlopCounterMode

__all__ = ["FLOPS_CONVENTION", "Complexity", "measure_complexity"]

FLOPS_CONVENTION = "2 x multiply-accumulates of convolutions and matrix products, batch of one"


@dataclass(frozen=True)
class Complexity:
    """Size and work of a model.

    Attributes:
        parameters: Weights used at inference; auxiliary training heads are not among them.
        flops: Floating-point operations of one picture, by ``FLOPS_CONVENTION``.
        size: Height and width in pixels of that picture.
    """

    parameters: int
    flops: int
    size: int


def measure_complexity(segmentor: Any, size: int) -> Complexity:
    """Count parameters and floating-point operations.

    Args:
        segmentor: A ``PersonSegmentor``.
        size: Height and width in pixels to count at, a multiple of 32.
    """
    image = torch.zeros(1, size, size, 3, dtype=torch.uint8)
    counter = FlopCounterMode(display=False)
    with torch.no_grad(), counter:  # the counter does not see operations in inference mode
        segmentor(image)
    parameters = sum(parameter.numel() for parameter in segmentor.parameters())
    return Complexity(parameters=parameters, flops=int(counter.get_total_flops()), size=size)
