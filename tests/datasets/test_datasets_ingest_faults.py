"""Ingest that is killed, crowded, or out of disk: nothing finished is lost, and the result is the same."""

from __future__ import annotations

import multiprocessing
import os
import random
import signal
import sys
import threading
from collections.abc import Callable
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import pytest

from privseg.datasets.ingest import ingest, ingest_shards
from privseg.datasets.manifest import manifest_fingerprint, read_manifest
from privseg.errors import StorageError
from privseg.params import Params

SAMPLES = 36
# A process that has imported everything already, and starts others in milliseconds.
SERVER = multiprocessing.get_context("forkserver")
SERVER.set_forkserver_preload(["privseg.datasets.ingest", "scipy.fftpack"])


@pytest.fixture(scope="module")
def params(make_params: Any, make_pairs: Any, pairs_source: Any, tmp_path_factory: pytest.TempPathFactory) -> Params:
    raw = tmp_path_factory.mktemp("raw")
    make_pairs(raw / "train", [f"t{index:03d}" for index in range(SAMPLES - 4)], seed=1)
    make_pairs(raw / "test", [f"x{index:03d}" for index in range(4)], seed=2)
    (raw / "train/masks/t005.png").write_bytes(b"nothing")
    params: Params = make_params(raw, {"some": pairs_source}, image={"size": 64}, ingest={"shard_size": 4})
    return params


@pytest.fixture(scope="module")
def undisturbed(params: Params, tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    folder = tmp_path_factory.mktemp("undisturbed")
    ingest(params, "some", folder / "some", processes=1)
    return files_of(folder)


def files_of(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def ingest_until(params: Params, out: Path, change: int | None, note: Path | None = None) -> None:
    """Ingest, and die as by kill -9 just before the given change to the file system; note how many there were."""
    seen = 0

    def look(event: str, arguments: tuple[Any, ...]) -> None:
        nonlocal seen
        changes = event in {"os.mkdir", "os.rename", "os.link", "os.remove", "os.rmdir"}
        if changes or (event == "open" and str(out) in str(arguments[0])):
            if seen == change:
                os.kill(os.getpid(), signal.SIGKILL)
            seen += 1

    sys.addaudithook(look)
    ingest(params, "some", out / "some", processes=1)
    if note is not None:
        note.write_text(str(seen))


def started(target: Callable[..., object], *arguments: object, **options: object) -> BaseProcess:
    process = SERVER.Process(target=target, args=arguments, kwargs=options)
    process.start()
    return process


def finished_pictures(out: Path) -> dict[str, int]:
    """Pictures of finished shards and of a finished result, with what identifies the file on the disk."""
    shards = [path for path in (out / ".some.shards").glob("*") if path.is_dir() and path.suffix != ".partial"]
    pictures = [picture for folder in [*shards, out / "some"] for picture in folder.glob("images/*")]
    return {picture.name: picture.stat().st_ino for picture in pictures}


@pytest.fixture(scope="module")
def changes(params: Params, tmp_path_factory: pytest.TempPathFactory) -> int:
    """How often an undisturbed run changes something on the disk."""
    folder = tmp_path_factory.mktemp("counted")
    run = started(ingest_until, params, folder / "out", None, folder / "note")
    run.join()
    return int((folder / "note").read_text())


@pytest.mark.parametrize("seed", range(10))
def test_killed_at_a_random_moment_and_resumed(
    params: Params, undisturbed: dict[str, bytes], changes: int, tmp_path: Path, seed: int
) -> None:
    chance = random.Random(seed)
    kept: dict[str, int] = {}
    for moment in (chance.randrange(changes), chance.randrange(changes // 2)):
        run = started(ingest_until, params, tmp_path, moment)
        run.join()
        assert run.exitcode in {-signal.SIGKILL, 0}  # 0: there was less left to do than that
        whole = (tmp_path / "some").exists()
        assert not whole or files_of(tmp_path / "some").keys() == {name[len("some/") :] for name in undisturbed}
        now = finished_pictures(tmp_path)
        assert whole or kept.items() <= now.items()
        kept = {} if whole else now
    df = ingest(params, "some", tmp_path / "some", processes=1)
    assert files_of(tmp_path) == undisturbed
    assert manifest_fingerprint(df) == manifest_fingerprint(read_manifest(tmp_path / "some/manifest.parquet"))
    made = {picture.name: picture.stat().st_ino for picture in (tmp_path / "some/images").iterdir()}
    assert kept.items() <= made.items()  # the very files, not others like them


def test_killed_while_its_workers_work(params: Params, undisturbed: dict[str, bytes], tmp_path: Path) -> None:
    run = started(ingest, params, "some", tmp_path / "some", processes=2)
    while run.is_alive() and not finished_pictures(tmp_path):
        pass
    run.kill()
    run.join()
    assert run.exitcode == -signal.SIGKILL
    ingest(params, "some", tmp_path / "some", processes=1)  # the workers may still be at their last shards
    assert files_of(tmp_path) == undisturbed


def test_two_processes_at_once(params: Params, undisturbed: dict[str, bytes], tmp_path: Path) -> None:
    runs = [started(ingest, params, "some", tmp_path / "some", processes=1) for _ in range(2)]
    for run in runs:
        run.join()
    assert [run.exitcode for run in runs] == [0, 0]
    assert files_of(tmp_path) == undisturbed


def test_two_threads_at_once(params: Params, undisturbed: dict[str, bytes], tmp_path: Path) -> None:
    results = []
    runs = [
        threading.Thread(target=lambda: results.append(ingest(params, "some", tmp_path / "some", processes=1)))
        for _ in range(3)
    ]
    for run in runs:
        run.start()
    for run in runs:
        run.join()
    assert len({manifest_fingerprint(df) for df in results}) == 1
    assert len(results) == 3
    assert files_of(tmp_path) == undisturbed


def test_a_changed_raw_file_is_ingested_anew(
    make_params: Any, make_pairs: Any, pairs_source: Any, tmp_path: Path
) -> None:
    names = [f"t{index:03d}" for index in range(12)]
    make_pairs(tmp_path / "raw/train", names)
    make_pairs(tmp_path / "raw/test", ["z"])
    params = make_params(tmp_path / "raw", {"some": pairs_source}, image={"size": 64}, ingest={"shard_size": 4})
    ingest_shards(params, "some", None, tmp_path / "out/some", 0, 1)
    before = finished_pictures(tmp_path / "out")
    make_pairs(tmp_path / "raw/train", ["t006"], seed=9)
    ingest(params, "some", tmp_path / "out/some")
    made = {picture.name: picture.stat().st_ino for picture in (tmp_path / "out/some/images").iterdir()}
    assert {name for name in made if made[name] != before[name]} == {f"t{index:03d}.jpg" for index in range(4, 8)}
    ingest(params, "some", tmp_path / "fresh/some")
    assert files_of(tmp_path / "out") == files_of(tmp_path / "fresh")


def test_other_parameters_use_none_of_the_old_shards(params: Params, tmp_path: Path) -> None:
    ingest_shards(params, "some", None, tmp_path / "some", 0, 1, processes=1)
    other = params.model_copy(update={"image": params.image.model_copy(update={"size": 96})})
    df = ingest(other, "some", tmp_path / "some", processes=1)
    assert set(df.loc[df["status"] == "kept", "width"]) == {96}
    assert [path.name for path in tmp_path.iterdir()] == ["some"]


def fill(disk: Path, *, leave: int) -> Path:
    filler = disk / "filler"
    free = os.statvfs(disk).f_bavail * os.statvfs(disk).f_frsize
    filler.write_bytes(b"x" * (free - leave))
    return filler


def test_a_disk_that_fills_half_way(
    params: Params, undisturbed: dict[str, bytes], small_disk: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    filler = fill(small_disk, leave=200 * 1024)
    with pytest.raises(StorageError, match="no space left on the disk") as caught:
        ingest(params, "some", small_disk / "some", processes=1)
    assert caught.value.exit_code == 7
    kept = finished_pictures(small_disk)
    assert 0 < len(kept) < SAMPLES - 1
    assert not list(small_disk.rglob("*.partial"))
    filler.unlink()
    ingest(params, "some", small_disk / "some", processes=1)
    made = {picture.name: picture.stat().st_ino for picture in (small_disk / "some/images").iterdir()}
    assert kept.items() <= made.items()
    assert files_of(small_disk) == undisturbed


def test_a_full_disk_keeps_the_earlier_ingest(params: Params, undisturbed: dict[str, bytes], small_disk: Path) -> None:
    ingest(params, "some", small_disk / "some", processes=1)
    filler = fill(small_disk, leave=8192)
    changed = params.model_copy(update={"image": params.image.model_copy(update={"size": 96})})
    with pytest.raises(StorageError, match="no space left on the disk"):
        ingest(changed, "some", small_disk / "some", processes=1)
    filler.unlink()
    assert {name: data for name, data in files_of(small_disk).items() if name.startswith("some/")} == undisturbed


def test_staging_on_another_file_system_is_copied(
    params: Params, undisturbed: dict[str, bytes], small_disk: Path, tmp_path: Path
) -> None:
    ingest(params, "some", tmp_path / "out/some", staging=small_disk / "shards", processes=1)
    assert files_of(tmp_path / "out") == undisturbed
    assert list(small_disk.iterdir()) == []
