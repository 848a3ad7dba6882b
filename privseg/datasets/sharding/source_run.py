"""Run a stage over a source's samples, in shards: what ingest and identify have in common."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Sequence
from pathlib import Path

import cv2
import imagehash
import numpy as np
import PIL

from privseg.datasets.sharding.shards import Work, code_version, run_shards
from privseg.datasets.sources.base import Sample
from privseg.datasets.sources.registry import open_source
from privseg.errors import UsageError
from privseg.params import Params

__all__ = ["check_destination", "default_staging", "run_source", "source_samples"]

_SMALLEST_SHARD = 32  # samples
_SHARDS_AT_LEAST = 8  # where that leaves the smallest size: a small source, too, is work for several processes
_MOST_PROCESSES = 8
_NO_CONTENT = {"terms", "limit", "no_human_share"}  # of a source's section: say nothing about a sample's content


def check_destination(params: Params, source: str, out_dir: Path) -> None:
    """Refuse a source that is unknown, or a destination that is another's.

    Raises:
        UsageError: The source is not in the parameters, or ``out_dir`` does not end in its name.
    """
    if source not in params.sources:
        raise UsageError(source, "is no source in params.yaml", f"choose one of {', '.join(params.sources)}")
    if out_dir.name != source:
        raise UsageError(out_dir, f"does not end in the source's name {source}", f"write to {out_dir / source}")


def default_staging(out_dir: Path) -> Path:
    """Where shards are kept: beside the destination, which DVC removes before a stage runs."""
    return out_dir.with_name(f".{out_dir.name}.shards")


def source_samples(params: Params, source: str) -> list[Sample]:
    """All samples of a source of the parameters, sorted by name.

    Raises:
        UsageError: The source is not in the parameters.
        DataError: The source's folder is wrong or empty.
    """
    if source not in params.sources:
        raise UsageError(source, "is no source in params.yaml", f"choose one of {', '.join(params.sources)}")
    opened = open_source(
        source, params.sources[source], raw_root=Path(params.raw_root), size=params.image.size, seed=params.seed
    )
    return list(opened.samples())


def run_source(
    params: Params,
    source: str,
    samples: Sequence[Sample],
    work: Work,
    *,
    stage: str,
    staging: Path,
    processes: int | None,
    share: tuple[int, int] = (0, 1),
) -> list[Path]:
    """Build the shards of a source's samples, as `shards.run_shards` does.

    Args:
        params: The whole parameters.
        source: Key of the source.
        samples: The source's, or some of them.
        work: What to do with them.
        stage: Name of the stage.
        staging: Folder for the shards.
        processes: Worker processes; ``params.ingest.processes`` if None, and one a processor, at most eight, if that is
            0.
        share: As in `shards.run_shards`.
    """
    versions = [module.__version__ for module in (cv2, imagehash, np, PIL)]
    section = params.sources[source].model_dump(mode="json", exclude=_NO_CONTENT)
    used = [section, params.image.model_dump(mode="json"), params.seed]
    return run_shards(
        samples,
        work,
        staging=staging,
        key=json.dumps([stage, source, used, versions, code_version()]),
        shard_size=_shard_size(params, len(samples)),
        processes=processes or params.ingest.processes or min(_MOST_PROCESSES, len(os.sched_getaffinity(0))),
        label=f"{stage} {source}",
        share=share,
    )


def _shard_size(params: Params, samples: int) -> int:
    """Depends on nothing that differs from machine to machine: all must cut alike."""
    return min(params.ingest.shard_size, max(_SMALLEST_SHARD, math.ceil(samples / _SHARDS_AT_LEAST)))
