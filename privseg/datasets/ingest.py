"""Ingest one source: every chosen pair becomes a JPEG, a binary PNG mask and a manifest row.

The work is done in shards, which are then put together (`privseg.datasets.sharding`): a run that was killed goes on
where it stopped, and until the very end an earlier ingest is left as it was.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from privseg.datasets._parquet import TableFile
from privseg.datasets._stage_report import counts_by_pool, write_report
from privseg.datasets.fit import Fitted, fit, label_ratios
from privseg.datasets.isolate import read_chosen
from privseg.datasets.manifest import empty_row, manifest_frame, read_manifest, write_manifest
from privseg.datasets.sharding.assembly import assemble
from privseg.datasets.sharding.shards import discard_staging, staging_in_use
from privseg.datasets.sharding.source_run import (
    check_destination,
    default_staging,
    run_source,
    source_samples,
)
from privseg.datasets.sharding.work import IngestWork, read_rows
from privseg.datasets.sources.base import Sample
from privseg.errors import DataError
from privseg.params import Params

__all__ = [
    "PEOPLE_COLUMNS",
    "Fitted",
    "fit",
    "ingest",
    "ingest_shards",
    "label_ratios",
    "read_people",
]

_PEOPLE = TableFile(
    "table of people",
    {
        "sample_id": "str",
        **dict.fromkeys(("left", "top", "width", "height", "area", "content_height", "content_width"), "int64"),
    },
    key=("sample_id",),
    stage="ingest",
)
PEOPLE_COLUMNS: tuple[str, ...] = _PEOPLE.columns
read_people = _PEOPLE.read


def ingest(
    params: Params,
    source: str,
    out_dir: Path,
    *,
    chosen: Path | None = None,
    staging: Path | None = None,
    processes: int | None = None,
) -> pd.DataFrame:
    """Ingest a source into ``out_dir``.

    Writes ``images/*.jpg``, ``masks/*.png``, ``manifest.parquet``, ``people.parquet`` (a row a connected component of
    human pixels: bounding box and area in pixels of the written size, relative to the content) and ``report.json``. A
    sample that cannot be read becomes a removed row with reason ``unreadable``; the others go on. The result does not
    depend on shard size, processes or interruptions.

    Args:
        params: The whole parameters; ``params.sources[source]`` is read.
        source: Key of the source.
        out_dir: Destination; its last part is the source's name, its parent the dataset's root.
        chosen: The chosen samples (`privseg.datasets.isolate`); every sample if None.
        staging: Holds the shards while they are made; ``.{source}.shards`` beside ``out_dir`` by default, where it
            survives that DVC removes ``out_dir`` before a stage runs. Removed when the result is in place.
        processes: Worker processes; ``params.ingest.processes`` by default.

    Returns:
        The manifest, sorted by sample_id.

    Raises:
        UsageError: The source is not in the parameters, or ``out_dir`` does not end in its name.
        DataError: The source's folder is wrong or empty, or a chosen sample is not in it any more.
        StorageError: The disk is full or the place cannot be written; an earlier ingest is left as it was, and the
            shards that are finished are not done again.
    """
    check_destination(params, source, out_dir)
    samples = _chosen_samples(params, source, chosen)
    staging = default_staging(out_dir) if staging is None else staging
    with staging_in_use(staging):
        shards = _run(params, source, samples, staging, processes)
        assemble(
            out_dir,
            shards,
            staging=staging,
            folders=("images", "masks"),
            finish=lambda folder: _write_tables(folder, source, shards),
        )
        df = read_manifest(out_dir / "manifest.parquet")
    discard_staging(staging)
    return df


def ingest_shards(
    params: Params,
    source: str,
    chosen: Path | None,
    out_dir: Path,
    index: int,
    count: int,
    *,
    staging: Path | None = None,
    processes: int | None = None,
) -> None:
    """Do one of ``count`` shares of a source's shards and stop: the part of `ingest` that machines can share.

    A later `ingest` into ``out_dir`` finds the shards and puts them together. The machines must see the same raw data,
    with the same times of modification, and the same staging folder; there may be more of them than shards.

    Args:
        params: As for `ingest`.
        source: As for `ingest`.
        chosen: As for `ingest`.
        out_dir: Destination of the later `ingest`; nothing is written to it.
        index: Which share, from 0.
        count: Number of shares.
        staging: As for `ingest`.
        processes: As for `ingest`.

    Raises:
        PrivsegError: As `ingest` does, and UsageError if there is no such share.
    """
    check_destination(params, source, out_dir)
    samples = _chosen_samples(params, source, chosen)
    staging = default_staging(out_dir) if staging is None else staging
    with staging_in_use(staging):
        _run(params, source, samples, staging, processes, share=(index, count))


def _chosen_samples(params: Params, source: str, chosen: Path | None) -> list[Sample]:
    samples = source_samples(params, source)
    if chosen is None:
        return samples
    names = set(read_chosen(chosen)["name"])
    found = [sample for sample in samples if sample.name in names]
    if len(found) < len(names):
        missing = min(names - {sample.name for sample in found})
        raise DataError(
            f"{source}/{missing}",
            f"is chosen in {chosen}, but the source has no such sample any more",
            f"run identify again: dvc repro identify@{source}, then the stages after it",
        )
    return found


def _run(
    params: Params,
    source: str,
    samples: Sequence[Sample],
    staging: Path,
    processes: int | None,
    *,
    share: tuple[int, int] = (0, 1),
) -> list[Path]:
    work = IngestWork(source, params.image.size, params.image.resize)
    return run_source(params, source, samples, work, stage="ingest", staging=staging, processes=processes, share=share)


def _write_tables(folder: Path, source: str, shards: Sequence[Path]) -> None:
    manifests, people = [manifest_frame([])], [_PEOPLE.frame([])]
    for shard in shards:
        results = list(read_rows(shard))
        manifests.append(manifest_frame(empty_row(**result["row"]) for result in results))
        people.append(_PEOPLE.frame([row for result in results for row in result["people"]]))
    df = pd.concat(manifests, ignore_index=True)
    write_manifest(folder / "manifest.parquet", df)
    _PEOPLE.write(folder / "people.parquet", pd.concat(people, ignore_index=True))
    counts = counts_by_pool(df["pool"], df["is_human"], df["reason"] == "unreadable")
    write_report(folder / "report.json", {"stage": "ingest", "source": source, "pools": counts})
