"""Identify: which pictures of a source show people. Only the labels are read, no picture is decoded."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from privseg.datasets._parquet import TableFile
from privseg.datasets._stage_report import counts_by_pool, write_report
from privseg.datasets.sharding.assembly import assemble
from privseg.datasets.sharding.shards import discard_staging, staging_in_use
from privseg.datasets.sharding.source_run import check_destination, default_staging, run_source, source_samples
from privseg.datasets.sharding.work import IdentifyWork, read_rows
from privseg.params import Params

__all__ = ["IDENTIFIED_COLUMNS", "identified_frame", "identify", "read_identified"]

_IDENTIFIED = TableFile(
    "table of identified pictures",
    {
        "name": "str",
        "pool": "str",
        "is_human": "bool",
        "human_ratio": "float64",
        "height": "int64",
        "width": "int64",
        "fault": "str",
    },
    key=("name",),
    stage="identify",
)
IDENTIFIED_COLUMNS: tuple[str, ...] = _IDENTIFIED.columns
identified_frame = _IDENTIFIED.frame
read_identified = _IDENTIFIED.read


def identify(
    params: Params, source: str, out_dir: Path, *, staging: Path | None = None, processes: int | None = None
) -> pd.DataFrame:
    """Say of every sample of a source whether it shows people.

    Writes ``identified.parquet`` and ``report.json``. The columns: ``name`` and ``pool`` of the sample, ``is_human``
    (at least one pixel is human), ``human_ratio`` (human pixels / labelled pixels, 0..1), ``height`` and ``width`` of
    the label in pixels before resizing, and ``fault``: file and fault of a label that cannot be used, else ''.

    Args:
        params: The whole parameters; ``params.sources[source]`` is read.
        source: Key of the source.
        out_dir: Destination; its last part is the source's name.
        staging: Holds the shards while they are made; ``.{source}.shards`` beside ``out_dir`` by default.
        processes: Worker processes; ``params.ingest.processes`` by default.

    Returns:
        The table, sorted by name.

    Raises:
        UsageError: The source is not in the parameters, or ``out_dir`` does not end in its name.
        DataError: The source's folder is wrong or empty.
        StorageError: The disk is full or the place cannot be written; an earlier result is left as it was, and the
            shards that are finished are not done again.
    """
    check_destination(params, source, out_dir)
    samples = source_samples(params, source)
    staging = default_staging(out_dir) if staging is None else staging

    def finish(folder: Path) -> None:
        df = identified_frame([row for shard in shards for row in read_rows(shard)])
        _IDENTIFIED.write(folder / "identified.parquet", df)
        counts = counts_by_pool(df["pool"], df["is_human"], df["fault"] != "")
        write_report(folder / "report.json", {"stage": "identify", "source": source, "pools": counts})

    with staging_in_use(staging):
        shards = run_source(
            params, source, samples, IdentifyWork(), stage="identify", staging=staging, processes=processes
        )
        assemble(out_dir, shards, staging=staging, folders=(), finish=finish)
        df = read_identified(out_dir / "identified.parquet")
    discard_staging(staging)
    return df
