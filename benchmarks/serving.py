"""What Triton and the client cost, compared within one run with the same model in this process.

    python benchmarks/serving.py [--rounds N] [--seconds S]

The shipped model behind a throw-away local Triton, ONNX Runtime with as many threads on both sides:

- round trips, one frame at a time, every way of asking in turn, at 512 x 512 and 1280 x 704;
- 1, 2, 4 and 8 cameras that ask for their next frame as soon as they may, against the best batch in this process;
- processor time of the client a frame, where the model runs in another process.

Times are of this machine as busy as it was; compare the ratios. Results: ``benchmarks/results/serving.json``.
"""

from __future__ import annotations

import argparse
import json
import os
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
    """Ask every way in turn, so that what else the machine does hits all of them alike."""
    frame, seconds = picture(height, width), {kind: [] for kind in KINDS}
    backends = {kind: backend(kind, server) for kind in KINDS}
    try:
        for number in range(rounds + 3):  # three to warm up
            for kind, asked in backends.items():
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


def ceiling(server: RunningTriton, seconds: float, threads: int) -> dict[str, float]:
    """Frames of 512 x 512 a second in this process, by batch size."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    path = Path(server.repository) / MODEL_NAME / "1" / "model.onnx"
    session = onnxruntime.InferenceSession(path.read_bytes(), options, providers=["CPUExecutionProvider"])
    found = {}
    for batch in (1, 2, 4):
        images = np.concatenate([picture(512, 512, number) for number in range(batch)])
        session.run(None, {"IMAGE": images})
        runs, started = 0, time.perf_counter()
        while time.perf_counter() - started < seconds:
            session.run(None, {"IMAGE": images})
            runs += 1
        found[str(batch)] = round(runs * batch / (time.perf_counter() - started), 2)
    return found


def cameras(server: RunningTriton, count: int, seconds: float) -> dict[str, Any]:
    """Closed loop: every camera keeps two frames in flight, in shared memory."""
    answered = [0] * count
    start, ended = threading.Barrier(count + 1), threading.Event()

    def play(place: int) -> None:
        asked, frame = backend("shared memory", server, in_flight=2), picture(512, 512, place)
        try:
            asked.submit(0, frame)
            asked.result(0)
            start.wait()
            asked.submit(1, frame)
            number = 1
            while not ended.is_set():
                asked.submit(number + 1, frame)
                asked.result(number)
                answered[place] += 1
                number += 1
            asked.result(number)
        finally:
            asked.close()

    threads = [threading.Thread(target=play, args=(place,)) for place in range(count)]
    for thread in threads:
        thread.start()
    start.wait()
    started = time.perf_counter()
    time.sleep(seconds)
    total, elapsed = sum(answered), time.perf_counter() - started
    ended.set()
    for thread in threads:
        thread.join()
    return {"frames_per_second": round(total / elapsed, 2), "fewest_of_a_camera": min(answered), "most": max(answered)}


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
    parser.add_argument("--seconds", type=float, default=20.0)
    options = parser.parse_args()
    load = os.getloadavg()[0]
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
            found["in_process_frames_per_second"] = ceiling(server, options.seconds / 2, threads)
            best = max(found["in_process_frames_per_second"].values())
            found["cameras"] = {}
            for count in CAMERAS:
                seen = cameras(server, count, options.seconds)
                seen["ratio_to_ceiling"] = round(seen["frames_per_second"] / best, 3)
                seen["queue_p99_ms"] = queue_p99_ms(server)
                found["cameras"][str(count)] = seen
                print(count, seen, file=sys.stderr, flush=True)
        finally:
            triton.kill()
    RESULT.write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")
    print(json.dumps(found, indent=2))


if __name__ == "__main__":
    main()
