"""What torch and mmengine raise, as errors of privseg: one line each."""

from __future__ import annotations

from privseg.errors import DataError, GateFailedError, ServerUnavailableError
from privseg.training import _distributed
from privseg.training.data import UnreadableSampleError
from privseg.training.memory import is_out_of_memory

__all__ = ["CanGoOnError", "explained"]

# How torch says that a data loading process is gone, and that one handed on an error.
LOST_LOADER, FROM_LOADER = "DataLoader worker (pid", "in DataLoader worker process"


class CanGoOnError(Exception):
    """A failed gate that another try may open: unlike after others, what the training has reached stays.

    Args:
        failed: The failed gate.
    """

    def __init__(self, failed: GateFailedError) -> None:
        super().__init__(str(failed))
        self.failed = failed


def explained(error: Exception, candidate: str, rank: int) -> Exception:
    """Turn what ended a training into an error of one line; a bug stays what it is.

    Args:
        error: What was raised.
        candidate: Name of the candidate, for messages.
        rank: Number of this process.
    """
    said = str(error).strip().splitlines() or ["no more to be had"]
    if isinstance(error, UnreadableSampleError):
        # from a data loading process the text comes with a traceback above it
        fault = said[-1].removeprefix(f"{UnreadableSampleError.__module__}.")
        return DataError(
            "training sample", f"cannot be read: {fault}", "restore it, in the workspace: dvc checkout --force"
        )
    subject, short = f"candidate {candidate}", is_out_of_memory(error)
    if LOST_LOADER in str(error) or (short and FROM_LOADER in str(error)):
        # workers make no difference to a training, so it goes on from its checkpoint
        fault = f"lost a data loading process, most likely for want of memory: {said[0]}"
        return CanGoOnError(
            GateFailedError(
                subject,
                fault,
                "lower workers of the train profile in params.yaml, then train again: it goes on from its checkpoint",
            )
        )
    if short:
        next_step = "lower crop or batch_size of the train profile in params.yaml, then train again"
        return GateFailedError(subject, f"does not fit into memory ({said[0]})", next_step)
    if _distributed.has_lost_others(error):
        fault = f"process {rank} lost the others ({said[0]})"
        return ServerUnavailableError(subject, fault, "see the message of the process that ended first")
    return error
