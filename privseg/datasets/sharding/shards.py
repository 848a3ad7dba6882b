"""Shards: the unit in which a source is worked on, resumed after a crash and spread over machines.

The samples are cut into shards. A shard is a folder below *staging* that appears, whole, when all its samples are
done; its name holds a hash of everything that its content depends on, so one that fits no longer is never used again.
Any number of runs, on any number of machines that share the folder, may work at once: each shard is built by one of
them, and waited for by the others. A run that comes back after a crash builds what is missing.
"""

from __future__ import annotations

import contextlib
import fcntl
import functools
import hashlib
import json
import os
import secrets
import shutil
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from privseg.datasets.sharding.build import Batch, Shard, Work
from privseg.datasets.sharding.workers import build_all
from privseg.datasets.sources.base import Sample
from privseg.errors import StorageError, UsageError

__all__ = ["Batch", "Work", "code_version", "discard_staging", "run_shards", "staging_in_use"]

_PROGRESS_SECONDS = 2.0
_POOL_PAYS_FROM = 32  # samples; below, starting processes takes longer than the work
_IN_USE = ".in_use"
_CODE = ("sharding/build.py", "sharding/work.py", "features.py", "fit.py")


def run_shards(
    samples: Sequence[Sample],
    work: Work,
    *,
    staging: Path,
    key: str,
    shard_size: int,
    processes: int,
    label: str,
    share: tuple[int, int] = (0, 1),
) -> list[Path]:
    """Build every shard of the samples that is not finished yet.

    Memory is bounded by the samples' descriptions and the pairs in work.

    Args:
        samples: In the order the results are wanted in.
        work: Writes the results of a batch of samples into the batch's folder.
        staging: Holds the shards; hold it with `staging_in_use` for as long as the shards are needed.
        key: Everything that the results depend on besides the samples' names, pools and files.
        shard_size: Samples a shard.
        processes: Worker processes; few samples are done in this process.
        label: What progress and messages call the whole.
        share: Part and number of parts: ``(0, 3)`` builds every third shard, beginning with the first.

    Returns:
        Folders of the share's shards, in the samples' order.

    Raises:
        UsageError: The share does not exist, or a worker process was killed for want of memory.
        DataError: A worker process crashed.
        StorageError: The disk is full or the place cannot be written. In every case finished shards stay.
    """
    part, parts = share
    if not 0 <= part < parts:
        raise UsageError(f"share {part} of {parts}", "does not exist", "count shares from 0")
    shards = _plan(samples, staging, key, shard_size)[part::parts]
    progress = _Progress(label, sum(len(shard.samples) for shard in shards))
    missing = []
    for shard in shards:
        if shard.finished:
            progress.resumed(len(shard.samples), shard.unreadable())
        else:
            missing.append(shard)
    if missing:
        pays = len(missing) > 1 and sum(len(shard.samples) for shard in missing) >= _POOL_PAYS_FROM
        build_all(
            missing,
            work,
            processes=min(processes, len(missing)) if pays else 1,
            label=label,
            progress=progress.of_shard,
            tick=progress.tick,
        )
    progress.show()
    return [shard.folder for shard in shards]


def _plan(samples: Sequence[Sample], staging: Path, key: str, shard_size: int) -> list[Shard]:
    @functools.lru_cache(maxsize=64)  # samples may share a file, an annotation of the whole source for example
    def stamp(file: Path) -> tuple[str, int, int]:
        try:
            stat = file.stat()
        except OSError:
            return str(file), -1, -1  # loading it will say what is wrong
        return str(file), stat.st_size, stat.st_mtime_ns

    shards = []
    for index, start in enumerate(range(0, len(samples), shard_size)):
        chunk = samples[start : start + shard_size]
        facts = [(sample.name, sample.pool, [stamp(file) for file in sample.files]) for sample in chunk]
        digest = hashlib.sha256(json.dumps([key, facts]).encode()).hexdigest()[:16]
        shards.append(Shard(staging / f"{index:05d}-{digest}", chunk))
    return shards


@functools.cache
def code_version() -> str:
    """Hash of the code that turns raw data into shards, to be part of a key: other code, other shards."""
    folder, digest = Path(__file__).parents[1], hashlib.sha256()
    for file in [*(folder / name for name in _CODE), *sorted(folder.glob("sources/*.py"))]:
        digest.update(file.read_bytes())
    return digest.hexdigest()


@contextlib.contextmanager
def staging_in_use(staging: Path) -> Iterator[None]:
    """Make a staging folder if there is none, and keep other runs from removing it.

    Raises:
        StorageError: The place cannot be written.
    """
    try:
        handle = _hold(staging)
    except OSError as error:
        raise StorageError.from_os_error(staging, error) from None
    try:
        yield
    finally:
        os.close(handle)


def _hold(staging: Path) -> int:
    while True:
        staging.mkdir(parents=True, exist_ok=True)
        with contextlib.suppress(FileNotFoundError):  # removed by another run just now: make it again
            handle = os.open(staging / _IN_USE, os.O_RDWR | os.O_CREAT, 0o644)
            fcntl.flock(handle, fcntl.LOCK_SH)
            if _is_at(handle, staging / _IN_USE):
                return handle
            os.close(handle)


def discard_staging(staging: Path) -> None:
    """Remove a staging folder, shards of other keys included, unless another run holds it: that one will."""
    with contextlib.suppress(OSError):
        handle = os.open(staging / _IN_USE, os.O_RDWR)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if _is_at(handle, staging / _IN_USE):
                # Renamed first: whoever comes now makes a new folder instead of working in one that vanishes.
                staging.rename(staging.with_name(f"{staging.name}.removed.{secrets.token_hex(4)}"))
        finally:
            os.close(handle)
    for removed in staging.parent.glob(f"{staging.name}.removed.*"):
        shutil.rmtree(removed, ignore_errors=True)


def _is_at(handle: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(handle), path.stat())
    except FileNotFoundError:
        return False


class _Progress:
    """A line on stderr every two seconds: done, unreadable, speed and time left."""

    def __init__(self, label: str, total: int) -> None:
        self._label = label
        self._total = total
        self._counts: dict[str, tuple[int, int]] = {}  # by shard
        self._resumed = (0, 0)
        self._begun = self._shown = time.monotonic()

    def resumed(self, done: int, unreadable: int) -> None:
        self._resumed = (self._resumed[0] + done, self._resumed[1] + unreadable)

    def of_shard(self, shard: Shard, done: int, unreadable: int) -> None:
        self._counts[shard.folder.name] = (done, unreadable)

    def tick(self) -> None:
        if time.monotonic() - self._shown >= _PROGRESS_SECONDS:
            self.show()

    def show(self) -> None:
        self._shown = time.monotonic()
        new = sum(done for done, _ in self._counts.values())
        done = self._resumed[0] + new
        unreadable = self._resumed[1] + sum(unreadable for _, unreadable in self._counts.values())
        speed = new / max(1e-9, self._shown - self._begun)
        line = f"{self._label}: {done}/{self._total} images, {unreadable} unreadable"
        if new:
            left = (self._total - done) / speed
            line += f", {speed:.0f} images/s, {int(left) // 60}:{int(left) % 60:02d} min left"
        elif done:
            line += ", all from an earlier run" if done == self._total else ", from an earlier run"
        print(line, file=sys.stderr, flush=True)
