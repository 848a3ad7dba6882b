"""How the libraries that train and measure say that memory is short."""

from __future__ import annotations

import torch

from privseg.errors import PrivsegError

__all__ = ["is_out_of_memory"]

# No base class is common to them, not even within torch: its allocators, CUDA, cuBLAS and cuDNN, C++, the operating
# system, numpy, OpenCV, ONNX Runtime. In lower case.
NO_MEMORY = (
    "out of memory",
    "can't allocate memory",
    "cannot allocate memory",
    "not enough memory",
    "insufficient memory",
    "unable to allocate",
    "failed to allocate",
    "bad_alloc",
    "bad allocation",
    "alloc_failed",
    "allocation_failed",
)


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error means that memory, the computer's or the GPU's, was short; one of privseg's own never does."""
    if isinstance(error, (torch.OutOfMemoryError, MemoryError)):
        return True
    if isinstance(error, PrivsegError) or not isinstance(error, Exception):
        return False
    said = str(error).lower()
    return any(text in said for text in NO_MEMORY)
