"""Memory that runs out, wherever it does, is that candidate's failure: a failed gate, no bug and no bad data."""

from __future__ import annotations

import errno
import os
import signal
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from privseg.errors import DataError, GateFailedError, StorageError
from privseg.training import data
from privseg.training._resume import CheckpointStore
from privseg.training.data import PersonDataset
from privseg.training.memory import is_out_of_memory
from privseg.training.train import train

CANDIDATE = "efficientnet_lite0_fpn"


def raised(function, *arguments) -> Exception:
    with pytest.raises(Exception) as caught:  # noqa: PT011 - whatever the library raises
        function(*arguments)
    return caught.value


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB."),
        torch.AcceleratorError("CUDA error: out of memory\nCUDA kernel errors might be asynchronously reported"),
        RuntimeError("CUDA error: out of memory"),
        RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
        RuntimeError("cuDNN error: CUDNN_STATUS_ALLOC_FAILED"),
        RuntimeError("cuDNN error: CUDNN_STATUS_INTERNAL_ERROR_DEVICE_ALLOCATION_FAILED"),
        RuntimeError("std::bad_alloc"),
        RuntimeError("NCCL error: unhandled cuda error, Cuda failure 'out of memory'"),
        OSError(errno.ENOMEM, os.strerror(errno.ENOMEM)),
        MemoryError(),
        raised(torch.empty, 10**15),
        raised(np.empty, (10**9, 10**9)),
        raised(cv2.resize, np.zeros((8, 8), np.uint8), (2**30, 2**20)),
    ],
    ids=lambda error: type(error).__name__,
)
def test_every_library_s_way_to_say_it_is_known(error: Exception) -> None:
    assert is_out_of_memory(error)


@pytest.mark.parametrize(
    "error",
    [
        RuntimeError("CUDA error: device-side assert triggered"),
        RuntimeError("cuDNN error: CUDNN_STATUS_EXECUTION_FAILED"),
        OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)),
        DataError("/data/out of memory.png", "cannot be read", "look"),
        KeyboardInterrupt("out of memory"),
    ],
    ids=lambda error: type(error).__name__,
)
def test_nothing_else_is_taken_for_it(error: BaseException) -> None:
    assert not is_out_of_memory(error)


def test_a_data_loading_process_that_is_killed_fails_the_gate_and_the_training_can_go_on(
    tmp_path, tiny_dataset, budget, monkeypatch
):
    first = os.getpid()

    def killed(dataset, index):
        assert os.getpid() != first
        os.kill(os.getpid(), signal.SIGKILL)

    with monkeypatch.context() as patch:
        patch.setattr(PersonDataset, "__getitem__", killed)
        with pytest.raises(
            GateFailedError, match=r"lost a data loading process, .*DataLoader worker.*Next: lower workers"
        ):
            train(budget(workers=1), CANDIDATE, *tiny_dataset, tmp_path / "out")
    assert train(budget(), CANDIDATE, *tiny_dataset, tmp_path / "out").resumed == 1


@pytest.mark.parametrize(("workers", "advice"), [(0, "lower crop or batch_size"), (1, "lower workers")])
def test_memory_that_runs_out_while_a_picture_is_read_is_no_bad_data(
    tmp_path, tiny_dataset, budget, monkeypatch, workers, advice
):
    def no_memory(self, results):
        np.empty((10**9, 10**9))

    monkeypatch.setattr(data.PersonCrop, "transform", no_memory)
    with pytest.raises(GateFailedError, match=rf"candidate {CANDIDATE}: .*memory.*Next: {advice}"):
        train(budget(workers=workers), CANDIDATE, *tiny_dataset, tmp_path / "out")


def test_a_fault_in_a_data_loading_process_stays_what_it_is(tmp_path, tiny_dataset, budget, monkeypatch):
    def faulty(dataset, index):
        raise RuntimeError("a bug")

    monkeypatch.setattr(PersonDataset, "__getitem__", faulty)
    with pytest.raises(RuntimeError, match="a bug"):
        train(budget(workers=1), CANDIDATE, *tiny_dataset, tmp_path / "out")


@pytest.mark.parametrize(
    ("number", "kind"), [(errno.ENOMEM, GateFailedError), (errno.ENOSPC, StorageError)], ids=["memory", "disk"]
)
def test_the_operating_system_short_of_memory_is_not_a_full_disk(
    tmp_path: Path, tiny_dataset, budget, monkeypatch, number, kind
):
    def refuse(store, iteration, state):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(CheckpointStore, "save", refuse)
    with pytest.raises(kind):
        train(budget(), CANDIDATE, *tiny_dataset, tmp_path / "out")
