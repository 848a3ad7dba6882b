"""How long a model takes for one picture."""

from __future__ import annotations

import platform
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

__all__ = ["Latency", "hardware", "measure_latency"]


@dataclass(frozen=True)
class Latency:
    """Time for one picture from bytes to probability, batch of one.

    Attributes:
        p50_ms: Median in milliseconds.
        p95_ms: 95th percentile in milliseconds.
        fps: Pictures a second at the median.
        runtime: What ran the model.
        size: Height and width of the picture in pixels.
        runs: Timed runs.
    """

    p50_ms: float
    p95_ms: float
    fps: float
    runtime: str
    size: int
    runs: int


def measure_latency(segmentor: Any, size: int, *, warm_up_runs: int, timed_runs: int) -> Latency:
    """Time a segmentor in PyTorch.

    Args:
        segmentor: A ``PersonSegmentor``.
        size: Height and width in pixels, a multiple of 32.
        warm_up_runs: Runs before the clock counts.
        timed_runs: Runs that are timed one by one.
    """
    image = torch.randint(0, 256, (1, size, size, 3), dtype=torch.uint8)
    milliseconds = []
    with torch.inference_mode():
        for run in range(warm_up_runs + timed_runs):
            start = time.perf_counter()
            segmentor(image)
            if run >= warm_up_runs:
                milliseconds.append((time.perf_counter() - start) * 1000)
    median, high = (float(value) for value in np.percentile(milliseconds, [50, 95]))
    return Latency(median, high, 1000 / median, runtime="pytorch", size=size, runs=timed_runs)


def hardware() -> dict[str, str | int]:
    """Say what the measurements ran on: latencies compare only on the same."""
    names = [
        line.partition(":")[2].strip()
        for line in _read(Path("/proc/cpuinfo")).splitlines()
        if line.startswith("model name")
    ]
    return {
        "cpu": names[0] if names else platform.processor() or platform.machine(),
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
    }


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except OSError:
        return ""
