"""What of the training parameters can be checked before there is anything to train on; loads no framework."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from pathlib import Path

from privseg.errors import UsageError
from privseg.params import Params
from privseg.training.candidates import CANDIDATES

__all__ = ["SMALLEST_PART", "check_training", "parts_of_batch"]

SMALLEST_PART = 2  # images; batch statistics of a single one do not exist where it is pooled to one pixel


def check_training(params: Params) -> None:
    """Check what ``params.yaml`` names for training, hours before a training would find it wrong.

    Raises:
        UsageError: ``train.backbones`` names something that is no candidate, or a file that does not exist or has no
            absolute path; ``train.source_weights`` names something that is no source; or a profile's ``batch_size``
            cannot be divided into ``accumulate`` equal parts of two images or more.
    """
    for name, file in params.train.backbones.items():
        field = f"train.backbones.{name}"
        if name not in CANDIDATES:
            raise UsageError(field, "is no candidate", _choice(name, CANDIDATES, field))
        if not Path(file).is_absolute():
            fault = f"is {file!r}, a relative path, and training runs in a workspace of its own"
            raise UsageError(field, fault, f"give {field} in params.yaml the whole path of the file")
        if not Path(file).is_file():
            raise UsageError(field, f"is {file}, which is no file", f"correct or remove {field} in params.yaml")
    for name in params.train.source_weights:
        field = f"train.source_weights.{name}"
        if name not in params.sources:
            raise UsageError(field, "is no source of this run", _choice(name, params.sources, field))
    for name, profile in (("smoke", params.train.smoke), ("full", params.train.full)):
        parts_of_batch(profile.batch_size, 1, profile.accumulate, field=f"train.{name}.batch_size")


def parts_of_batch(batch_size: int, processes: int, accumulate: int, *, field: str = "batch_size") -> int:
    """Check that a batch can be divided, and give the images of it that a process computes at a time.

    Args:
        batch_size: Images a step, all processes and parts together.
        processes: How many processes share it.
        accumulate: Parts that each process computes its share in.
        field: What the message calls ``batch_size``.

    Raises:
        UsageError: It cannot be divided into equal parts of two images or more.
    """
    part, rest = divmod(batch_size, processes * accumulate)
    if rest or part < SMALLEST_PART:
        sharing = f"{processes} processes that accumulate {accumulate} parts each"
        if processes == 1:
            sharing = f"a process that accumulates {accumulate} parts"
        raise UsageError(
            f"{field} {batch_size}",
            f"cannot be divided into equal parts of at least {SMALLEST_PART} images by {sharing}",
            f"make batch_size of the train profile in params.yaml a multiple of {processes * accumulate}, "
            f"{SMALLEST_PART * processes * accumulate} at least",
        )
    return part


def _choice(name: str, known: Iterable[str], field: str) -> str:
    """What to do about a name that is not known."""
    close = difflib.get_close_matches(name, known, n=1)
    hint = f"did you mean {close[0]!r}? " if close else ""
    return f"{hint}correct or remove {field} in params.yaml; there are {', '.join(sorted(known))}"
