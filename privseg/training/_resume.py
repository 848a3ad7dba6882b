"""Checkpoints that a killed training goes on from, exactly as if it had not been killed."""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import io
import os
import shutil
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Protocol

import torch

from privseg.errors import GateFailedError, UsageError
from privseg.training import _distributed
from privseg.training._distributed import Processes
from privseg.training._mm import Hook, is_model_wrapper

__all__ = ["CheckpointStore", "ResumeHook", "Stateful", "bare", "begin_anew", "work_folder"]

MAGIC = b"privseg training checkpoint 1"
KEPT = 2
LOCK = ".lock"


@contextlib.contextmanager
def work_folder(out_dir: Path, candidate: str, *, first: bool) -> Iterator[Path]:
    """Open the folder of an unfinished training: ``.NAME.training`` beside ``out_dir``, where DVC leaves it alone.

    It outlives whatever ends a training before its time, and goes with the training's end, be it a model or a failed
    gate, which trying again would not open.

    Args:
        out_dir: Where the results will go.
        candidate: Name of the candidate, for messages.
        first: Whether this process writes; the others get a folder of their own.

    Raises:
        UsageError: Another process trains there.
    """
    if not first:
        with tempfile.TemporaryDirectory() as name:
            yield Path(name)
        return
    folder = out_dir.parent / f".{out_dir.name}.training"
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / LOCK).open("w") as lock:
        try:
            fcntl.lockf(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)  # unlike flock, data loading processes do not inherit it
        except (BlockingIOError, PermissionError):
            raise UsageError(f"candidate {candidate}", f"is being trained in {folder}", "wait for it") from None
        try:
            yield folder
        except GateFailedError:
            shutil.rmtree(folder)
            raise
        shutil.rmtree(folder)


def begin_anew(folder: Path) -> None:
    """Empty the folder of an unfinished training of what another one left."""
    for entry in folder.iterdir():
        if entry.is_dir():
            shutil.rmtree(entry)
        elif entry.name != LOCK:
            entry.unlink()


class CheckpointStore:
    """The last two checkpoints of one training, in files that are whole or not there.

    A file begins with a line that names the training and the SHA-256 of what follows; one that was torn, spoilt, or
    belongs to a training with other parameters, data or code is never read, and is removed.

    Args:
        folder: Where they are.
        fingerprint: SHA-256 of everything that makes it the same training.
    """

    def __init__(self, folder: Path, fingerprint: str) -> None:
        self.folder = folder
        self.fingerprint = fingerprint.encode()

    def save(self, iteration: int, state: dict[str, Any]) -> None:
        """Write a checkpoint by replacement, then drop all but the last two.

        Raises:
            OSError: It cannot be written; those before are still there.
        """
        buffer = io.BytesIO()  # straight to a file, torch would hide a full disk behind an error of its own
        torch.save(state, buffer)
        payload = buffer.getbuffer()
        head = b" ".join((MAGIC, self.fingerprint, hashlib.sha256(payload).hexdigest().encode()))
        path = self.folder / f"checkpoint-{iteration:08d}.pt"
        partial = path.with_suffix(".partial")
        try:
            with partial.open("wb") as file:
                file.write(head + b"\n")
                file.write(payload)
                file.flush()
                os.fsync(file.fileno())
            partial.replace(path)
        except OSError:
            partial.unlink(missing_ok=True)
            raise
        for old in self._newest_first()[KEPT:]:
            old.unlink()

    def load(self) -> dict[str, Any] | None:
        """Read the newest checkpoint that is whole and of this training; None if there is none."""
        found: dict[str, Any] | None = None
        for path in self._newest_first():
            found = self._read(path)
            if found is not None:
                break
            path.unlink()
        return found

    def _read(self, path: Path) -> dict[str, Any] | None:
        head, _, payload = path.read_bytes().partition(b"\n")
        expected = b" ".join((MAGIC, self.fingerprint, hashlib.sha256(payload).hexdigest().encode()))
        if head == expected:
            with contextlib.suppress(Exception):  # torch raises many kinds for what it does not hold for tensors
                state: dict[str, Any] = torch.load(io.BytesIO(payload), map_location="cpu", weights_only=True)
                return state
        print(f"{path.name} is damaged or of another training: left out", file=sys.stderr, flush=True)
        return None

    def _newest_first(self) -> list[Path]:
        return sorted(self.folder.glob("checkpoint-*.pt"), reverse=True)


class Stateful(Protocol):
    """A hook with something to remember."""

    def state(self) -> dict[str, Any]:
        """What a later run needs to go on; tensors and plain values."""

    def restore(self, state: dict[str, Any]) -> None:
        """Go on from another run's state."""


class ResumeHook(Hook):
    """Saves checkpoints by the clock, and begins at the last one.

    The first is saved before the first iteration: a training that diverges early has one to go back to, and a place
    that cannot be written shows before time is spent. Generators of random numbers need no place in it, nor does the
    order of the samples: both follow from seed and iteration (`privseg.training._stream`).

    Args:
        candidate: Its name, for messages.
        store: Keeps the checkpoints.
        start: The one to go on from; None: begin.
        every: Seconds between two.
        processes: The first one reads and writes for all.
        averaged: The hook whose state belongs to the weights.
        others: The other hooks with something to remember, by name; ``budget`` knows the time.
    """

    def __init__(
        self,
        candidate: str,
        store: CheckpointStore,
        start: dict[str, Any] | None,
        every: float,
        processes: Processes,
        averaged: Stateful,
        others: dict[str, Any],
    ) -> None:
        self.candidate = candidate
        self.store = store
        self.start = start
        self.every = every
        self.processes = processes
        self.averaged = averaged
        self.others = others
        self.resumed = 0
        self._saved_at = 0.0

    def before_train(self, runner: Any) -> None:
        """Go on from the last checkpoint, or save the first."""
        state, self.start = self.start, None
        if state is None:
            self._save(runner, 0)
            return
        loop = runner.train_loop
        loop._iter = state["iteration"]  # mmengine's loop starts there, and passes over the samples before
        loop.stop_training = state["stopped"]
        if state["processes"] == self.processes.count:
            loop.parts = max(loop.parts, state["parts"])
        self._restore_weights(runner, state)
        for name, hook in self.others.items():
            hook.restore(state[name])
        self.resumed = state["resumed"] + 1
        self._saved_at = self.others["budget"].elapsed
        if self.processes.first:
            print(f"train {self.candidate}: goes on from iteration {loop.iter}", file=sys.stderr, flush=True)

    def after_train_iter(self, runner: Any, batch_idx: int, data_batch: Any = None, outputs: Any = None) -> None:
        """Save a checkpoint when it is time."""
        if self.others["budget"].elapsed - self._saved_at >= self.every:
            self._save(runner, batch_idx + 1)

    def go_back(self, runner: Any) -> int | None:
        """Take weights, averages and optimiser from the last checkpoint.

        Returns:
            The iteration it is of, or None if there is none: the weights were spoilt from the start.
        """
        state = _distributed.from_first(self.store.load() if self.processes.first else None)
        if state is None:
            return None
        self._restore_weights(runner, state)
        return int(state["iteration"])

    def _save(self, runner: Any, iteration: int) -> None:
        self._saved_at = self.others["budget"].elapsed
        model = bare(runner.model)
        # The step after a good loss may have spoilt the weights; the next loss will tell.
        if not self.processes.first or not all(bool(p.isfinite().all()) for p in model.parameters()):
            return
        state = {
            "iteration": iteration,
            "stopped": runner.train_loop.stop_training,
            "processes": self.processes.count,
            "parts": runner.train_loop.parts,
            "resumed": self.resumed,
            "model": model.state_dict(),
            "optimiser": runner.optim_wrapper.state_dict(),
            "averaged": self.averaged.state(),
        }
        self.store.save(iteration, state | {name: hook.state() for name, hook in self.others.items()})

    def _restore_weights(self, runner: Any, state: dict[str, Any]) -> None:
        bare(runner.model).load_state_dict(state["model"])
        runner.optim_wrapper.load_state_dict(state["optimiser"])
        self.averaged.restore(state["averaged"])


def bare(model: Any) -> Any:
    """The model itself, without what makes several processes share its gradients."""
    return model.module if is_model_wrapper(model) else model
