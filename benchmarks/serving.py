"""What Triton and the client cost, compared within one run with the same model in this process.

    python benchmarks/serving.py [--rounds N] [--seconds S] [--windows N]

The shipped model behind a throw-away local Triton, ONNX Runtime with as many threads on both sides:

- round trips, one frame at a time, every way of asking in turn, at 512 x 512 and 1280 x 704;
- 1, 2, 4 and 8 cameras that ask for their next frame as soon as they may, in turn with the best batch in this process;
- processor time of the client a frame, where the model runs in another process.

Times are of this machine as busy as it was; compare the ratios. Results: ``benchmarks/results/serving.json``.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import re
import resource
import statistics
import sys
import tempfile
import threading
import time
import urllib.request
from pathlib import Path
from typing import Any

import numpy as np

from privseg.serving.artifact import MODEL_NAME
from privseg.serving.local_triton import LocalTriton, RunningTriton
from privseg.serving.shipped import seed
from privseg.streaming.backends import KINDS, BackendKind, open_backend
from privseg.streaming.process import keep_freed_memory
from privseg.streaming.segmenter import SegmenterBackend

RESULT = Path(__file__).resolve().parent / "results/serving.json"
SIZES = ((512, 512), (704, 1280))
CAMERAS = (1, 2, 4, 8)
DEADLINE = 60.0


def picture(height: int, width: int, number: int = 0) -> np.ndarray:
    """Noise will do: the model's time does not depend on what it sees."""
    return np.random.default_rng(number).integers(0, 256, (1, height, width, 3), dtype=np.uint8)


def backend(kind: BackendKind, server: RunningTriton, in_flight: int = 3) -> SegmenterBackend:
    """Open one way of asking."""
    version = Path(server.repository) / MODEL_NAME / "1"
    return open_backend(
        kind, url=server.grpc_url, directory=version, deadline_seconds=DEADLINE, max_in_flight=in_flight
    )


def round_trips(server: RunningTriton, height: int, width: int, rounds: int) -> dict[str, Any]:
    """Ask every way in turn, in another order each round.

    So what else the machine does, and what the one before left in the caches, hits all of them alike.
    """
    frame, seconds = picture(height, width), {kind: [] for kind in KINDS}
    backends = {kind: backend(kind, server) for kind in KINDS}
    order = random.Random(0)  # noqa: S311 - no secret
    try:
        for number in range(rounds + 3):  # three to warm up
            for kind, asked in order.sample(list(backends.items()), len(backends)):
                started = time.perf_counter()
                asked.submit(number, frame)
                asked.result(number)
                if number >= 3:
                    seconds[kind].append(time.perf_counter() - started)
    finally:
        for asked in backends.values():
            asked.close()
    medians = {kind: statistics.median(values) for kind, values in seconds.items()}
    return {
        "p50_ms": {kind: round(value * 1e3, 2) for kind, value in medians.items()},
        "ratio_to_local": {kind: round(value / medians["local"], 3) for kind, value in medians.items()},
    }


def client_cost(server: RunningTriton, kind: BackendKind, rounds: int) -> float:
    """Milliseconds of processor time a frame of 1280 x 704 that this process spends."""
    frame = picture(704, 1280)
    asked = backend(kind, server)
    try:
        for number in range(3):
            asked.submit(number, frame)
            asked.result(number)
        before = resource.getrusage(resource.RUSAGE_SELF)
        for number in range(3, rounds + 3):
            asked.submit(number, frame)
            asked.result(number)
        after = resource.getrusage(resource.RUSAGE_SELF)
    finally:
        asked.close()
    used = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return round(used / rounds * 1e3, 2)


class Ceiling:
    """The same model in this process, as fast as batches of any size make it."""

    def __init__(self, server: RunningTriton, threads: int) -> None:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        path = Path(server.repository) / MODEL_NAME / "1" / "model.onnx"
        self._session = onnxruntime.InferenceSession(path.read_bytes(), options, providers=["CPUExecutionProvider"])
        self.batch = 1

    def frames_per_second(self, seconds: float, batch: int | None = None) -> float:
        """Frames of 512 x 512 a second."""
        batch = batch or self.batch
        images = np.concatenate([picture(512, 512, number) for number in range(batch)])
        self._session.run(None, {"IMAGE": images})
        runs, started = 0, time.perf_counter()
        while time.perf_counter() - started < seconds:
            self._session.run(None, {"IMAGE": images})
            runs += 1
        return runs * batch / (time.perf_counter() - started)


class Cameras:
    """Closed loop: while they play, every camera keeps two frames in flight, in shared memory."""

    def __init__(self, server: RunningTriton, count: int) -> None:
        self._answered = [0] * count
        self._playing, self._ended = threading.Event(), threading.Event()
        self._idle = threading.Barrier(count + 1)
        self._threads = [threading.Thread(target=self._play, args=(server, place)) for place in range(count)]
        for thread in self._threads:
            thread.start()
        self._idle.wait()

    def _play(self, server: RunningTriton, place: int) -> None:
        asked, frame, number = backend("shared memory", server, in_flight=2), picture(512, 512, place), 0
        try:
            asked.submit(number, frame)
            asked.result(number)
            while True:
                self._idle.wait()
                self._playing.wait()
                if self._ended.is_set():
                    return
                asked.submit(number := number + 1, frame)
                while self._playing.is_set():
                    asked.submit(number := number + 1, frame)
                    asked.result(number - 1)
                    self._answered[place] += 1
                asked.result(number)
        finally:
            self._idle.abort()  # whatever ends one camera ends the measurement
            asked.close()

    def answered(self, seconds: float) -> list[int]:
        """Let them play; return the frames that each got, with the seconds it took as the last entry."""
        before = list(self._answered)
        self._playing.set()
        time.sleep(1)  # what the caches and the queue need to be what they are in the long run
        before, started = list(self._answered), time.perf_counter()
        time.sleep(seconds)
        after, elapsed = list(self._answered), time.perf_counter() - started
        self._playing.clear()
        self._idle.wait()
        return [*(last - first for first, last in zip(before, after, strict=True)), elapsed]

    def close(self) -> None:
        """End them."""
        self._ended.set()
        self._playing.set()
        for thread in self._threads:
            thread.join()


def cameras(server: RunningTriton, count: int, alone: Ceiling, seconds: float, windows: int) -> dict[str, Any]:
    """Cameras and the ceiling in turn, so that what else the machine does hits both alike."""
    rates, ratios, each = [], [], [0] * count
    playing = Cameras(server, count)
    try:
        before = alone.frames_per_second(seconds)
        for _ in range(windows):
            *frames, elapsed = playing.answered(seconds)
            after = alone.frames_per_second(seconds)
            rates.append(sum(frames) / elapsed)
            ratios.append(2 * rates[-1] / (before + after))
            each = [old + new for old, new in zip(each, frames, strict=True)]
            before = after
    finally:
        playing.close()
    return {
        "frames_per_second": round(statistics.median(rates), 2),
        "ratio_to_ceiling": round(statistics.median(ratios), 3),
        "ratios": [round(ratio, 3) for ratio in ratios],
        "fewest_of_a_camera": min(each),
        "most": max(each),
    }


def queue_p99_ms(server: RunningTriton) -> float | None:
    """99th percentile of the time requests waited in Triton's queue, over the last minute."""
    with urllib.request.urlopen(server.metrics_url) as response:  # noqa: S310 - loopback
        text = response.read().decode()
    found = re.search(r'nv_inference_queue_summary_us\{[^}]*quantile="0\.99"[^}]*\} ([\d.e+]+)', text)
    return round(float(found[1]) / 1e3, 2) if found else None


def main() -> None:
    """Measure and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=60)
    parser.add_argument("--seconds", type=float, default=4.0, help="of one window")
    parser.add_argument("--windows", type=int, default=6, help="of cameras, between windows of this process alone")
    options = parser.parse_args()
    load = os.getloadavg()[0]
    keep_freed_memory()  # as the gateway does
    with tempfile.TemporaryDirectory() as folder:
        repository = Path(folder) / "model_repository"
        seed(repository)
        triton = LocalTriton(
            repository, Path(folder) / "triton", extra_arguments=("--metrics-config=summary_latencies=true",)
        )
        server = triton.start()
        try:
            threads = min(os.cpu_count() or 1, 8)
            found: dict[str, Any] = {"machine": {"cores": os.cpu_count(), "load_before": load}, "round_trips": {}}
            for height, width in SIZES:
                found["round_trips"][f"{width}x{height}"] = round_trips(server, height, width, options.rounds)
                print(json.dumps(found["round_trips"], indent=2), file=sys.stderr, flush=True)
            found["client_cpu_ms_1280x704"] = {
                kind: client_cost(server, kind, options.rounds) for kind in KINDS if kind != "local"
            }
            alone = Ceiling(server, threads)
            tried = {batch: [] for batch in (1, 2, 4)}
            for _ in range(options.windows):
                for batch, rates in tried.items():
                    rates.append(alone.frames_per_second(options.seconds / 2, batch))
            best = {batch: statistics.median(rates) for batch, rates in tried.items()}
            found["in_process_frames_per_second"] = {batch: round(rate, 2) for batch, rate in best.items()}
            alone.batch = max(best, key=lambda batch: best[batch])
            found["cameras"] = {}
            for count in CAMERAS:
                seen = cameras(server, count, alone, options.seconds, options.windows)
                seen["queue_p99_ms"] = queue_p99_ms(server)
                found["cameras"][str(count)] = seen
                print(count, seen, file=sys.stderr, flush=True)
        finally:
            triton.kill()
    RESULT.write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")
    print(json.dumps(found, indent=2))


if __name__ == "__main__":
    main()
