"""Telling a person how far a long transfer is: a bar on a terminal, a line now and then elsewhere."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator

from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn

__all__ = ["ProgressFunction", "Say", "readable", "reporting", "silent"]

Say = Callable[[str], None]
ProgressFunction = Callable[[str, int, int], None]
"""Takes what is being done, the bytes done, and the bytes to do; equal numbers end it."""

_LINE_EVERY = 10  # percent


def silent(what: str, done: int, total: int) -> None:
    """Show nothing."""


def readable(size: float) -> str:
    """Bytes in the unit a person would choose: ``18.0 GiB``."""
    for unit in ("bytes", "KiB", "MiB", "GiB"):
        if abs(size) < 1024:
            return f"{size:.0f} {unit}" if unit == "bytes" else f"{size:.1f} {unit}"
        size /= 1024
    return f"{size:.1f} TiB"


@contextlib.contextmanager
def reporting(console: Console | None = None) -> Iterator[tuple[Say, ProgressFunction]]:
    """Give the two functions by which `privseg.datasets.fetch.fetch` speaks to a person.

    Args:
        console: Where to; by default standard error, so that standard output stays free for a result.

    Yields:
        ``say``, which prints one line, and ``progress``: bars with bytes, speed and remaining time on a terminal, a
        line every tenth of the way elsewhere.
    """
    console = console or Console(stderr=True)
    if not console.is_terminal:
        say = _plain(console)
        yield say, _Lines(say)
        return
    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        DownloadColumn(binary_units=True),
        TransferSpeedColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console) as bars:
        yield _plain(console), _Bars(bars)


def _plain(console: Console) -> Say:
    def say(line: str) -> None:
        console.print(line, markup=False, highlight=False, soft_wrap=True)

    return say


class _Bars:
    def __init__(self, bars: Progress) -> None:
        self._bars = bars
        self._what: str | None = None

    def __call__(self, what: str, done: int, total: int) -> None:
        if what != self._what:
            self._what, self._task = what, self._bars.add_task(what, total=total, completed=done)
        self._bars.update(self._task, completed=done, total=total)
        if done >= total:
            self._what = None


class _Lines:
    def __init__(self, say: Say) -> None:
        self._say = say
        self._what: str | None = None

    def __call__(self, what: str, done: int, total: int) -> None:
        step = done * 100 // total // _LINE_EVERY if total else 100 // _LINE_EVERY
        if what != self._what:
            self._what, self._started, self._first, self._step = what, time.monotonic(), done, step
            self._say(f"{what}: {readable(total)}" + (f", {readable(done)} of it already here" if done else ""))
        elif step > self._step:
            self._step = step
            seconds = time.monotonic() - self._started
            speed = f", {readable((done - self._first) / seconds)}/s" if seconds > 0 else ""
            self._say(f"{what}: {step * _LINE_EVERY} % ({readable(done)}{speed})")
        if done >= total:
            self._what = None
