"""How long a model takes for a picture: every runtime, at every shape, one after the other."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch

from privseg.benchmark.runtimes import Engine, onnxruntime_engine, openvino_engine, pytorch_engine
from privseg.params import BenchmarkProfile, Params
from privseg.training.memory import is_out_of_memory

__all__ = ["BATCHES", "LEAST_RUNS", "Timing", "best_batch", "measure_speed", "time_engine"]

LEAST_RUNS = 3
BATCHES = (2, 4, 8, 16, 32, 64)
"""Pictures at once that are tried on a GPU, after one."""


@dataclass(frozen=True)
class Timing:
    """Time from pictures in memory to their person probability in memory.

    Attributes:
        runtime: ``pytorch``, ``onnxruntime`` or ``openvino``.
        device: ``cpu`` or ``cuda``; on a GPU pictures and answer lie in its memory.
        precision: Type of the numbers it computed with.
        height: Of a picture in pixels.
        width: Of a picture in pixels.
        batch: Pictures at once.
        threads: Threads of the processor it was allowed.
        runs: Timed runs.
        p50_ms: Median time of a run in milliseconds.
        p95_ms: 95th percentile of it.
        fps: Pictures a second at the median.
    """

    runtime: str
    device: str
    precision: str
    height: int
    width: int
    batch: int
    threads: int
    runs: int
    p50_ms: float
    p95_ms: float
    fps: float


def time_engine(
    engine: Engine,
    shape: tuple[int, int],
    effort: BenchmarkProfile,
    *,
    batch: int = 1,
    clock: Callable[[], float] = time.perf_counter,
) -> Timing:
    """Time a loaded model run by run, after a warm-up.

    Both warm-up and timed runs end early when they have taken ``effort.timed_seconds``, the latter with three runs at
    least.

    Args:
        engine: The model in its runtime.
        shape: Height and width in pixels, multiples of 32.
        effort: How many runs.
        batch: Pictures at once.
        clock: Gives seconds.
    """
    pictures = np.random.default_rng(0).integers(0, 256, (batch, *shape, 3), dtype=np.uint8)
    infer = engine.prepare(pictures)
    for _ in _runs(effort.warm_up_runs, 0, effort.timed_seconds, clock):
        infer()
    seconds = []
    for _ in _runs(effort.timed_runs, LEAST_RUNS, effort.timed_seconds, clock):
        start = clock()
        infer()
        seconds.append(clock() - start)
    median, high = (float(value) for value in np.percentile(seconds, [50, 95]))
    return Timing(
        engine.runtime,
        engine.device,
        engine.precision,
        *shape,
        batch=batch,
        threads=engine.threads,
        runs=len(seconds),
        p50_ms=median * 1000,
        p95_ms=high * 1000,
        fps=batch / median,
    )


def _runs(most: int, least: int, seconds: float, clock: Callable[[], float]) -> Iterator[int]:
    start = clock()
    for run in range(most):
        if run >= least and clock() - start >= seconds:
            return
        yield run


def best_batch(measure: Callable[[int], Timing]) -> list[Timing]:
    """Time a GPU with one picture at once, and with as many as give the most pictures a second.

    Args:
        measure: Times a batch of so many pictures; what says that memory is short ends the search.

    Returns:
        One timing, or two if more at once are faster; none if not even one picture fits.
    """
    timings: list[Timing] = []
    for batch in (1, *BATCHES):
        try:
            timings.append(measure(batch))
        except Exception as error:
            if not is_out_of_memory(error):
                raise
            torch.cuda.empty_cache()
            break
    fastest = max(timings, key=lambda timing: timing.fps, default=None)
    return timings[:1] if fastest is None or fastest is timings[0] else [timings[0], fastest]


def measure_speed(segmentor: Any, onnx: bytes, params: Params) -> list[Timing]:
    """Time a candidate at every shape in every runtime of the profile, and on the GPU where there is one.

    One after the other, with as many threads as PyTorch has.

    Args:
        segmentor: A ``PersonSegmentor`` on the CPU.
        onnx: The same as ONNX.
        params: The profile's effort.

    Returns:
        First, in any case, what the latency budget is held against: ``select.latency_runtime`` at the dataset's size.

    Raises:
        GateFailedError: A runtime refuses the model.
    """
    effort, threads = params.benchmark_profile, torch.get_num_threads()
    engines: dict[str, Callable[[], Engine]] = {
        "pytorch": lambda: pytorch_engine(segmentor),
        "onnxruntime": lambda: onnxruntime_engine(onnx, threads),
        "openvino": lambda: openvino_engine(onnx, threads),
    }
    shapes = list(dict.fromkeys([(params.image.size, params.image.size), *effort.shapes]))
    timings = []
    for runtime in dict.fromkeys([params.select.latency_runtime, *effort.runtimes]):
        engine = engines[runtime]()
        timings += [time_engine(engine, shape, effort) for shape in shapes]
    if torch.cuda.is_available():
        on_gpu = pytorch_engine(segmentor.to("cuda"), "cuda")
        for shape in shapes:
            timings += best_batch(partial(_time_batch, on_gpu, shape, effort))
        segmentor.to("cpu")
    return timings


def _time_batch(engine: Engine, shape: tuple[int, int], effort: BenchmarkProfile, batch: int) -> Timing:
    return time_engine(engine, shape, effort, batch=batch)
