"""Shards over worker processes: who does what, how far they are, and what to say when one of them dies."""

from __future__ import annotations

import contextlib
import multiprocessing
import multiprocessing.connection
import signal
import traceback
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from multiprocessing.connection import Connection
from multiprocessing.context import SpawnProcess
from typing import Any

import cv2

from privseg.datasets.sharding.build import Shard, Work, build
from privseg.errors import DataError, PrivsegError, UsageError

__all__ = ["build_all"]

_PATIENCE_SECONDS = 0.2  # with a shard that another run is building, before looking at the next one
_TICK_SECONDS = 0.5
_FAREWELL_SECONDS = 5.0

Progress = Callable[[Shard, int, int], None]
"""Is told of a shard how many samples are done, and how many of them could not be read."""


def build_all(
    shards: Iterable[Shard], work: Work, *, processes: int, label: str, progress: Progress, tick: Callable[[], None]
) -> None:
    """Build shards; those that another run is building at the moment come last, and are waited for.

    Args:
        shards: What to build.
        work: How; picklable unless ``processes`` is 1.
        processes: 1 does the work in this process.
        label: What a message calls the whole.
        progress: Is called now and then, and for every finished shard.
        tick: Is called about twice a second, whatever happens.

    Raises:
        PrivsegError: What the work raised, or a worker process died; finished shards stay.
    """
    if processes == 1:
        _build_here(shards, work, progress, tick)
        return
    waiting = deque((shard, 0.0) for shard in shards)
    with _crew(work, processes, label) as workers:
        while waiting or any(worker.shard is not None for worker in workers):
            for worker in workers:
                if worker.shard is None and waiting:
                    worker.give(*waiting.popleft())
            busy = {worker.connection: worker for worker in workers if worker.shard is not None}
            for connection in multiprocessing.connection.wait(list(busy), timeout=_TICK_SECONDS):
                worker = busy[connection]  # type: ignore[index] # a connection, like all that was waited for
                turned_away = worker.listen(progress)
                if turned_away is not None:
                    waiting.append((turned_away, _PATIENCE_SECONDS))
            tick()


def _build_here(shards: Iterable[Shard], work: Work, progress: Progress, tick: Callable[[], None]) -> None:
    waiting = deque((shard, 0.0) for shard in shards)
    while waiting:
        shard, patience = waiting.popleft()

        def report(done: int, unreadable: int, shard: Shard = shard) -> None:
            progress(shard, done, unreadable)
            tick()

        if build(shard, work, report, patience=patience):
            report(len(shard.samples), shard.unreadable())
        else:
            waiting.append((shard, _PATIENCE_SECONDS))


class _Worker:
    """One process, and the shard it has at the moment."""

    def __init__(self, work: Work, label: str) -> None:
        # Spawned, because forking a process that runs threads (a scheduler, torch) can deadlock.
        context = multiprocessing.get_context("spawn")
        self.connection, theirs = context.Pipe()
        self.shard: Shard | None = None
        self.label = label
        self.process: SpawnProcess = context.Process(target=_serve, args=(theirs, work), daemon=True)
        self.process.start()
        theirs.close()  # so that the process's end is the connection's end

    def give(self, shard: Shard, patience: float) -> None:
        self.shard = shard
        try:
            self.connection.send((shard, patience))
        except (BrokenPipeError, ConnectionResetError):
            raise self._obituary() from None

    def listen(self, progress: Progress) -> Shard | None:
        """Take a message; the shard, if another run is building it."""
        assert self.shard is not None  # noqa: S101 - only busy workers are listened to
        shard = self.shard
        try:
            kind, *rest = self.connection.recv()
        except (EOFError, ConnectionResetError):
            raise self._obituary() from None
        if kind == "progress":
            progress(shard, *rest)
            return None
        self.shard = None
        if kind == "raised":
            raise rest[0]
        if kind == "finished":
            progress(shard, len(shard.samples), *rest)
            return None
        return shard

    def _obituary(self) -> PrivsegError:
        self.process.join(_FAREWELL_SECONDS)
        code = self.process.exitcode
        subject = f"{self.label}, shard {self.shard}"
        if code == -signal.SIGKILL:
            return UsageError(
                subject,
                "its worker process was killed, most likely because the machine ran out of memory",
                "lower ingest.processes or free memory, then run the same command again: finished shards are kept",
            )
        if code is None or code >= 0:
            return UsageError(
                subject,
                f"its worker process ended (exit code {code})",
                "do what its own message above says, then run the same command again: finished shards are kept",
            )
        return DataError(
            subject,
            f"its worker process died ({signal.Signals(-code).name})",
            "run the same command again: finished shards are kept; if it dies again, suspect a file of these samples",
        )


@contextlib.contextmanager
def _crew(work: Work, processes: int, label: str) -> Iterator[list[_Worker]]:
    workers: list[_Worker] = []
    try:
        for _ in range(processes):
            workers.append(_Worker(work, label))  # noqa: PERF401 - those started are stopped if the next one fails
        yield workers
    finally:
        for worker in workers:
            worker.connection.close()  # a worker that is still building notices, tidies up and leaves
        for worker in workers:
            worker.process.join(_FAREWELL_SECONDS)
            if worker.process.is_alive():
                worker.process.kill()
                worker.process.join()
            worker.process.close()


def _serve(connection: Connection[Any, Any], work: Work) -> None:
    """A worker's life: build what comes, until the other end closes."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent is interrupted too, and decides
    cv2.setNumThreads(1)

    def report(done: int, unreadable: int) -> None:
        try:
            connection.send(("progress", done, unreadable))
        except BrokenPipeError:
            raise SystemExit from None

    with contextlib.suppress(EOFError, BrokenPipeError, ConnectionResetError):
        while True:
            shard, patience = connection.recv()
            try:
                finished = build(shard, work, report, patience=patience)
                answer: tuple[Any, ...] = ("finished", shard.unreadable()) if finished else ("busy",)
            except PrivsegError as error:
                answer = ("raised", error)
            except Exception:  # a bug: the parent ends with the whole story
                answer = ("raised", RuntimeError(f"shard {shard}:\n{traceback.format_exc()}"))
            connection.send(answer)
