"""Shards: built once, whole or not at all, whoever works on them and whoever dies."""

from __future__ import annotations

import functools
import os
import signal
import threading
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from privseg.datasets.sharding.shards import Batch, discard_staging, run_shards, staging_in_use
from privseg.datasets.sources.base import Sample
from privseg.errors import DataError, StorageError, UsageError


def _load() -> tuple[np.ndarray, np.ndarray]:
    return np.zeros((2, 2, 3), np.uint8), np.zeros((2, 2), np.uint8)


def _load_mask() -> np.ndarray:
    return np.zeros((2, 2), np.uint8)


def make_samples(count: int, files: dict[int, tuple[Path, ...]] | None = None) -> list[Sample]:
    return [
        Sample(f"s{index:03d}", "train", f"s{index:03d}", _load, _load_mask, (files or {}).get(index, ()))
        for index in range(count)
    ]


@dataclass(frozen=True)
class Note:
    """Writes a file a sample, and a line for it in a log that outlives the shard."""

    log: Path
    before: Callable[[str], None] = str

    def __call__(self, batch: Batch) -> None:
        for sample in batch:
            self.before(sample.name)
            (batch.folder / sample.name).write_text(sample.name)
            with self.log.open("a") as log:
                log.write(f"{sample.name}\n")


def die_at(name: str, at: str, how: signal.Signals) -> None:
    if name == at:
        os.kill(os.getpid(), how)


def fail_at(name: str, at: str, error: Exception) -> None:
    if name == at:
        raise error


@pytest.fixture
def run(tmp_path: Path) -> Callable[..., list[Path]]:
    def run_it(samples: list[Sample], work: Callable[[Batch], None], **options: object) -> list[Path]:
        staging = tmp_path / "staging"
        options = {"key": "k", "shard_size": 4, "processes": 1, "label": "try", **options}
        with staging_in_use(staging):
            return run_shards(samples, work, staging=staging, **options)  # type: ignore[arg-type]

    return run_it


def built(log: Path) -> Counter[str]:
    return Counter(log.read_text().split())


@pytest.mark.parametrize("processes", [1, 3])
def test_every_sample_is_done_once_and_shards_keep_the_order(
    run: Callable[..., list[Path]], tmp_path: Path, processes: int, capfd: pytest.CaptureFixture[str]
) -> None:
    samples, log = make_samples(39), tmp_path / "log"
    folders = run(samples, Note(log), processes=processes)
    assert [sorted(path.name for path in folder.glob("s[0-9]*")) for folder in folders] == [
        [sample.name for sample in samples[start : start + 4]] for start in range(0, 39, 4)
    ]
    assert "try: 39/39 images, 0 unreadable" in capfd.readouterr().err
    inodes = [folder.stat().st_ino for folder in folders]
    assert run(samples, Note(log), processes=processes) == folders
    assert [folder.stat().st_ino for folder in folders] == inodes
    assert set(built(log).values()) == {1}
    assert "try: 39/39 images, 0 unreadable, all from an earlier run" in capfd.readouterr().err


def test_shares_are_disjoint_and_together_everything(run: Callable[..., list[Path]], tmp_path: Path) -> None:
    samples, log = make_samples(22), tmp_path / "log"
    shares = [run(samples, Note(log), share=(index, 4)) for index in range(4)]
    assert sorted(len(share) for share in shares) == [1, 1, 2, 2]
    before = built(log)
    assert set(before) == {sample.name for sample in samples}
    assert sorted(run(samples, Note(log))) == sorted(folder for share in shares for folder in share)
    assert run(samples, Note(log), share=(9, 10)) == []
    assert built(log) == before
    with pytest.raises(UsageError, match="share 4 of 4"):
        run(samples, Note(log), share=(4, 4))


def test_a_changed_file_redoes_its_shard_alone(run: Callable[..., list[Path]], tmp_path: Path) -> None:
    raw, log = tmp_path / "raw", tmp_path / "log"
    raw.write_text("one")
    samples = make_samples(12, {5: (raw,), 9: (tmp_path / "missing",)})
    first = run(samples, Note(log))
    raw.write_text("three")
    second = run(samples, Note(log))
    assert [old == new for old, new in zip(first, second, strict=True)] == [True, False, True]
    os.utime(raw, ns=(0, 0))
    assert run(samples, Note(log))[1] not in {first[1], second[1]}
    (tmp_path / "missing").touch()
    assert run(samples, Note(log))[2] != first[2]
    assert run(samples, Note(log), key="other")[0] != first[0]


@pytest.mark.parametrize("processes", [1, 2])
def test_an_error_keeps_finished_shards_and_leaves_no_half_one(
    run: Callable[..., list[Path]], tmp_path: Path, processes: int
) -> None:
    samples, log = make_samples(40), tmp_path / "log"
    error = DataError("s029", "is odd", "look at it")
    with pytest.raises(DataError, match="s029: is odd"):
        run(samples, Note(log, functools.partial(fail_at, at="s029", error=error)), processes=processes)
    left = [path for path in (tmp_path / "staging").iterdir() if path.is_dir()]
    finished = {path: path.stat().st_ino for path in left}
    assert not [path for path in left if path.name.endswith(".partial") or path.name.startswith("00007-")]
    assert len(finished) >= 6
    folders = run(samples, Note(log))
    assert set(finished) < set(folders)
    assert all(path.stat().st_ino == inode for path, inode in finished.items())


def test_what_the_disk_says_becomes_one_line(run: Callable[..., list[Path]], tmp_path: Path) -> None:
    error = OSError(28, "No space left on device")
    with pytest.raises(StorageError, match="no space left on the disk"):
        run(make_samples(5), Note(tmp_path / "log", functools.partial(fail_at, at="s004", error=error)))


@pytest.mark.parametrize(
    ("how", "error", "words"),
    [(signal.SIGKILL, UsageError, "ran out of memory"), (signal.SIGSEGV, DataError, "died .SIGSEGV.")],
)
def test_a_dead_worker_is_named_with_its_shard(
    run: Callable[..., list[Path]],
    tmp_path: Path,
    how: signal.Signals,
    error: type[Exception],
    words: str,
) -> None:
    samples, log = make_samples(40), tmp_path / "log"
    with pytest.raises(error, match=rf"try, shard 00005-\w+ \(s020 to s023\).*{words}.*finished shards are kept"):
        run(samples, Note(log, functools.partial(die_at, at="s022", how=how)), processes=2)
    folders = run(samples, Note(log))
    assert len(folders) == 10
    assert sorted(path.name for path in folders[5].glob("s[0-9]*")) == ["s020", "s021", "s022", "s023"]


def test_two_runs_at_once_share_the_work(run: Callable[..., list[Path]], tmp_path: Path) -> None:
    samples, log = make_samples(24), tmp_path / "log"
    meeting = threading.Barrier(2)
    met: list[str] = []

    def meet(name: str) -> None:
        if len(met) < 2:  # both runs are inside a shard of their own at this moment
            met.append(name)
            meeting.wait(30)

    results: list[list[Path]] = []
    runs = [threading.Thread(target=lambda: results.append(run(samples, Note(log, meet)))) for _ in range(2)]
    for one in runs:
        one.start()
    for one in runs:
        one.join(60)
    assert len(results) == 2
    assert results[0] == results[1]
    assert sorted(met) == ["s000", "s004"]
    assert built(log) == Counter(sample.name for sample in samples)


def test_staging_is_removed_by_the_last_that_uses_it(tmp_path: Path) -> None:
    staging = tmp_path / "staging"
    with staging_in_use(staging):
        (staging / "something").touch()
        with staging_in_use(staging):
            pass
        discard_staging(staging)
        assert (staging / "something").exists()
    discard_staging(staging)
    assert list(tmp_path.iterdir()) == []
    discard_staging(staging)  # nothing is there: nothing to do
    with staging_in_use(staging):
        assert not (staging / "something").exists()


def test_a_place_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(StorageError, match="file/staging"), staging_in_use(tmp_path / "file" / "staging"):
        pass
