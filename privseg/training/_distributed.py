"""The processes of one training: a single one, or those that ``torchrun`` started."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import distributed, nn

from privseg.errors import UsageError
from privseg.training._mm import mm_distributed

__all__ = ["Processes", "average_buffers", "from_first", "has_lost_others", "is_first", "joined", "mean", "total"]


@dataclass(frozen=True)
class Processes:
    """Which of how many processes this one is, and what it computes on.

    Attributes:
        rank: Number of this process, from 0; the first one writes.
        count: How many there are, on all machines together.
        device: Where this process computes.
    """

    rank: int
    count: int
    device: torch.device

    @property
    def first(self) -> bool:
        """Whether this is the process that writes."""
        return self.rank == 0


def is_first() -> bool:
    """Whether this is the process that writes, before it has joined the others and after it has left them."""
    return not _started_together() or int(os.environ["RANK"]) == 0


def _started_together() -> bool:
    return int(os.environ.get("WORLD_SIZE", "1")) > 1 and "LOCAL_RANK" in os.environ


@contextlib.contextmanager
def joined() -> Iterator[Processes]:
    """Join the processes that ``torchrun`` started, by NCCL between GPUs and by Gloo between CPUs.

    Raises:
        UsageError: A machine has fewer GPUs than processes.
    """
    cuda = torch.cuda.is_available()
    if not _started_together():
        yield Processes(0, 1, torch.device("cuda" if cuda else "cpu"))
        return
    local = int(os.environ["LOCAL_RANK"])
    if cuda:
        if local >= torch.cuda.device_count():
            fault = f"has {torch.cuda.device_count()} GPUs, too few for process {local + 1} of this machine"
            raise UsageError("this machine", fault, "give torchrun --nproc-per-node the number of its GPUs")
        torch.cuda.set_device(local)
    threads = os.environ.setdefault("OMP_NUM_THREADS", "1")  # as torchrun has it
    os.environ.setdefault("MKL_NUM_THREADS", threads)  # else mmengine sets it, and warns that it did
    distributed.init_process_group("nccl" if cuda else "gloo")
    try:
        device = torch.device("cuda", local) if cuda else torch.device("cpu")
        yield Processes(distributed.get_rank(), distributed.get_world_size(), device)
        distributed.barrier()  # who leaves while another still talks to it can be torn down in the middle
    finally:
        distributed.destroy_process_group()


def mean(*values: float) -> list[float]:
    """Average numbers over all processes; what is not a number anywhere is none everywhere."""
    return _reduced(torch.tensor(values, dtype=torch.float64), "mean")


def total(*values: int) -> list[int]:
    """Add numbers up over all processes."""
    return _reduced(torch.tensor(values, dtype=torch.int64), "sum")


def _reduced(values: torch.Tensor, operation: str) -> list[Any]:
    mm_distributed.all_reduce(values, op=operation)
    result: list[Any] = values.tolist()
    return result


def from_first(value: Any) -> Any:
    """Give every process what the first one has; all must call it."""
    box = [value]
    mm_distributed.broadcast_object_list(box)
    return box[0]


def average_buffers(model: nn.Module) -> None:
    """Average the running statistics of all processes, where each saw only its own part of every batch."""
    mm_distributed.all_reduce_params((buffer for buffer in model.buffers() if buffer.is_floating_point()), op="mean")


def has_lost_others(error: BaseException) -> bool:
    """Whether an error means that another process of the training is gone."""
    return isinstance(error, distributed.DistError) or (isinstance(error, RuntimeError) and "gloo" in str(error))
