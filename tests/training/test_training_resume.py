"""A training that was killed ends as one that was not."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from privseg.errors import StorageError, UsageError
from privseg.params import Params
from privseg.testing.tiny_dataset import make_tiny_dataset
from privseg.training._resume import CheckpointStore, work_folder
from privseg.training.train import TrainingResult, train

CANDIDATE = "segformer_b0"  # with drop-out, drop-path and batch statistics
STEPS, KILLED_AT = 6, 3
# A training that stands still after its third step, so that it is surely killed in the middle.
TRAIN_AND_WAIT = """
import signal, sys
from pathlib import Path
import torch
torch.set_num_threads(1)
from privseg.params import Params
from privseg.training import train as module

class Waiting(module.ProgressHook):
    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None):
        if batch_idx + 1 == int(sys.argv[3]):
            signal.pause()

module.ProgressHook = Waiting
folder = Path(sys.argv[1])
params = Params.model_validate_json((folder / "params.json").read_text())
module.train(params, sys.argv[2], folder / "manifest.parquet", folder / "data", folder / "killed")
"""


@pytest.fixture(scope="module")
def place(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("resume")
    make_tiny_dataset(folder, splits=("train",) * 7 + ("validation",) * 2)
    return folder


@pytest.fixture(scope="module")
def params(budget) -> Params:
    """A checkpoint after every step, looks at the validation split, batches in two parts."""
    return budget(max_iterations=STEPS, batch_size=4, accumulate=2, crop=64, checkpoint_seconds=1e-9, validate_every=2)


@pytest.fixture(scope="module")
def unbroken(place, params) -> TrainingResult:
    return run(params, place, "unbroken")


def run(params: Params, place: Path, name: str) -> TrainingResult:
    return train(params, CANDIDATE, place / "manifest.parquet", place / "data", place / name)


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return torch.load(folder / "checkpoint.pth", weights_only=True)


def same_weights(one: Path, other: Path) -> bool:
    first, second = weights(one), weights(other)
    return first.keys() == second.keys() and all(torch.equal(first[key], second[key]) for key in first)


def interrupt(monkeypatch, params: Params, place: Path, name: str, at: int = KILLED_AT) -> Path:
    """End a training after a step the way Ctrl-C does; gives the folder it is to go on from."""

    def stop(hook, runner, batch_idx, data_batch=None, outputs=None):
        if batch_idx + 1 == at:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("privseg.training._logging.ProgressHook.after_train_iter", stop)
        with pytest.raises(KeyboardInterrupt):
            run(params, place, name)
    assert not (place / name).exists()
    return place / f".{name}.training"


def test_a_killed_training_goes_on_to_the_very_same_weights(place, params, unbroken, capfd):
    (place / "params.json").write_text(params.model_dump_json())
    command = [sys.executable, "-c", TRAIN_AND_WAIT, str(place), CANDIDATE, str(KILLED_AT)]
    awaited = place / ".killed.training" / f"checkpoint-{KILLED_AT:08d}.pt"
    with subprocess.Popen(command, stderr=subprocess.PIPE) as process:
        while not awaited.exists():
            assert process.poll() is None, process.stderr.read().decode()
            time.sleep(0.02)
        process.send_signal(signal.SIGKILL)
    assert process.returncode == -signal.SIGKILL
    assert not (place / "killed").exists()
    # data loading processes have no part in the result
    parallel = params.train.smoke.model_copy(update={"workers": 1})
    again = params.model_copy(update={"train": params.train.model_copy(update={"smoke": parallel})})
    result = run(again, place, "killed")
    assert f"train {CANDIDATE}: goes on from iteration {KILLED_AT}\n" in capfd.readouterr().err
    assert same_weights(place / "killed", place / "unbroken")
    assert (unbroken.resumed, result.resumed) == (0, 1)
    assert (result.iterations, result.final_loss) == (STEPS, unbroken.final_loss)
    assert (result.best_validation, result.best_iteration) == (unbroken.best_validation, unbroken.best_iteration)
    for curve in ("loss", "learning_rate", "validation_iou"):
        relative = f"dvclive/plots/metrics/{curve}.tsv"
        if (place / "unbroken" / relative).exists():
            assert (place / "killed" / relative).read_text() == (place / "unbroken" / relative).read_text()
    assert not awaited.parent.exists()


def test_a_torn_checkpoint_is_left_out_for_the_one_before(place, params, unbroken, monkeypatch, capfd):
    left = interrupt(monkeypatch, params, place, "torn")
    newest = left / f"checkpoint-{KILLED_AT:08d}.pt"
    newest.write_bytes(newest.read_bytes()[:-100])
    result = run(params, place, "torn")
    said = capfd.readouterr().err
    assert f"{newest.name} is damaged or of another training: left out" in said
    assert f"goes on from iteration {KILLED_AT - 1}\n" in said
    assert result.resumed == 1
    assert same_weights(place / "torn", place / "unbroken")


def test_another_training_begins_anew(place, params, unbroken, monkeypatch, capfd):
    other = params.model_copy(update={"seed": params.seed + 1})
    left = interrupt(monkeypatch, other, place, "other", at=2)
    assert list(left.glob("checkpoint-*.pt"))
    result = run(params, place, "other")
    assert "goes on" not in capfd.readouterr().err
    assert result.resumed == 0
    assert same_weights(place / "other", place / "unbroken")


def test_a_full_disk_ends_the_training_and_keeps_the_checkpoints(place, params, monkeypatch):
    real, calls = os.fsync, []

    def full(handle: int) -> None:
        calls.append(handle)
        if len(calls) == 3:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        real(handle)

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        with pytest.raises(StorageError, match="no space left on the disk"):
            run(params, place, "full")
    left = place / ".full.training"
    assert sorted(path.name for path in left.glob("checkpoint-*")) == [
        "checkpoint-00000000.pt",
        "checkpoint-00000001.pt",
    ]
    assert not (place / "full").exists()


def test_the_last_two_checkpoints_are_kept_and_the_newest_is_read(tmp_path):
    store = CheckpointStore(tmp_path, "a" * 64)
    for iteration in range(5):
        store.save(iteration, {"iteration": iteration, "weights": torch.full((3,), float(iteration))})
    assert sorted(path.name for path in tmp_path.iterdir()) == ["checkpoint-00000003.pt", "checkpoint-00000004.pt"]
    state = store.load()
    assert state is not None
    assert state["iteration"] == 4
    assert state["weights"].tolist() == [4.0] * 3


@pytest.mark.parametrize("fault", ["empty", "short", "flipped", "foreign"])
def test_what_is_not_whole_or_not_ours_is_never_read(tmp_path, fault):
    store = CheckpointStore(tmp_path, "a" * 64)
    store.save(1, {"iteration": 1})
    (CheckpointStore(tmp_path, "b" * 64) if fault == "foreign" else store).save(2, {"iteration": 2})
    newest = tmp_path / "checkpoint-00000002.pt"
    data = bytearray(newest.read_bytes())
    if fault == "flipped":
        data[len(data) // 2] ^= 1
    newest.write_bytes(data[: {"empty": 0, "short": 50}.get(fault, len(data))])
    state = store.load()
    assert state is not None
    assert state["iteration"] == 1
    assert not newest.exists()
    (tmp_path / "checkpoint-00000001.pt").write_bytes(b"")
    assert store.load() is None


def test_a_candidate_is_trained_by_one_process_at_a_time(tmp_path):
    script = (
        "import fcntl, sys; file = open(sys.argv[1], 'w'); fcntl.lockf(file, fcntl.LOCK_EX)\n"
        "print('held', flush=True); sys.stdin.read()"
    )
    folder = tmp_path / ".stdc1.training"
    folder.mkdir()
    command = [sys.executable, "-c", script, str(folder / ".lock")]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as other:
        assert other.stdout.readline() == b"held\n"
        with (
            pytest.raises(UsageError, match=rf"candidate stdc1: is being trained in {folder}"),
            work_folder(tmp_path / "stdc1", "stdc1", first=True),
        ):
            pass
        other.stdin.close()
    with work_folder(tmp_path / "stdc1", "stdc1", first=True) as free:
        assert free == folder
    assert not folder.exists()
