"""One shard: the samples it is made of, the lock that lets one run at a time build it, and the building itself.

Worker processes import this module and the work they do, nothing else; it stays free of pandas, which takes longer
to import than many shards take to build.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from privseg.datasets.sources.base import Sample
from privseg.errors import StorageError

__all__ = ["Batch", "Report", "Shard", "Work", "build", "locked", "wait_for_lock"]

_COUNTS = "shard.json"
_REPORT_SECONDS = 0.5
_POLL_SECONDS = 0.05

Report = Callable[[int, int], None]
"""Is told how many samples of the shard are done, and how many of them could not be read."""


@dataclass(frozen=True)
class Shard:
    """Some samples, and the folder that holds their results once all of them are done.

    Attributes:
        folder: Absent until the shard is finished.
        samples: In order.
    """

    folder: Path
    samples: Sequence[Sample]

    @property
    def finished(self) -> bool:
        """Whether the results are there, all of them."""
        return self.folder.is_dir()

    def unreadable(self) -> int:
        """Samples of a finished shard that could not be read."""
        return int(json.loads((self.folder / _COUNTS).read_text(encoding="utf-8"))["unreadable"])

    def __str__(self) -> str:
        return f"{self.folder.name} ({self.samples[0].name} to {self.samples[-1].name})"


@dataclass
class Batch:
    """A shard's samples while they are worked on; iterating over it is what counts them.

    Attributes:
        folder: Where the work writes its files; any name but ``shard.json`` is free.
        unreadable: To be counted up by the work.
    """

    folder: Path
    samples: Sequence[Sample]
    report: Report
    unreadable: int = 0

    def __iter__(self) -> Iterator[Sample]:
        reported = time.monotonic()
        for done, sample in enumerate(self.samples, start=1):
            yield sample
            if time.monotonic() - reported >= _REPORT_SECONDS:
                reported = time.monotonic()
                self.report(done, self.unreadable)


Work = Callable[[Batch], None]
"""Writes the results of a batch into its folder. Picklable; the same batch gives the same files."""


def build(shard: Shard, work: Work, report: Report, *, patience: float) -> bool:
    """Build a shard, unless it is finished already.

    The files are written beside their place, and the folder is renamed when all are there: whoever is killed leaves
    nothing that looks finished.

    Args:
        shard: What to build.
        work: How.
        report: Is called about twice a second.
        patience: Seconds to wait for another run that is building this very shard.

    Returns:
        Whether the shard is finished; False if another run is still at it.

    Raises:
        StorageError: The disk is full or the place cannot be written; the half shard is removed.
    """
    partial = shard.folder.with_name(f"{shard.folder.name}.partial")
    try:
        with locked(shard.folder.with_name(f"{shard.folder.name}.lock"), patience=patience) as ours:
            if not ours or shard.finished:
                return shard.finished
            try:
                if partial.exists():  # of a run that was killed
                    shutil.rmtree(partial)
                partial.mkdir()
                batch = Batch(partial, shard.samples, report)
                work(batch)
                counts = {"samples": len(shard.samples), "unreadable": batch.unreadable}
                (partial / _COUNTS).write_text(json.dumps(counts), encoding="utf-8")
                partial.rename(shard.folder)
            except BaseException:
                shutil.rmtree(partial, ignore_errors=True)
                raise
    except OSError as error:
        raise StorageError.from_os_error(shard.folder, error) from None
    return True


@contextlib.contextmanager
def locked(path: Path, *, patience: float) -> Iterator[bool]:
    """Hold the lock file ``path`` alone; False if somebody else held it for the ``patience`` seconds we waited.

    The kernel lets go of a lock when its holder dies, however that happened.
    """
    handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
    try:
        yield wait_for_lock(handle, patience=patience)
    finally:
        os.close(handle)


def wait_for_lock(handle: int, *, patience: float) -> bool:
    """Lock an open file for us alone, within ``patience`` seconds."""
    deadline = time.monotonic() + patience
    while True:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() >= deadline:
                return False
            time.sleep(_POLL_SECONDS)
        else:
            return True
