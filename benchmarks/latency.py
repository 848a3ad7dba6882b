"""What one live 720p camera costs beside the model: latency added to each frame, and processor time a frame.

    python benchmarks/latency.py [--data DIR] [--seconds 20]

A real clip, scaled to 1280 x 720 and played at its own pace, goes through the gateway's pipeline with the shipped model
in this process, once with each schedule. Every figure is about frames as the gateway's recording gets them.

- Added latency: from the decoder's first touch of a frame to its last byte in the file, less the time from asking the
  model to its answer; `added_and_queued_ms` takes off the model's own run about that frame only, so that waiting behind
  another frame's run counts. With `adaptive` no frame waits for the model at all, so nothing is taken off. The camera
  sends 25 frames a second, the model may use every core, as it does in use.
- Processor time: all that the process uses, threads of the decoder and the encoder included, less the model's, a frame.
  The model runs on one core here, in one thread, whose own clock says what it used. The camera is slower with
  `every-frame` (`--slow`), so that no frame is dropped: a dropped one was decoded, and would count half.

`stage_ms` is wall time a frame in each stage (segment: asking to answer), which on busy cores is more than processor
time; `threads_ms` is processor time by thread, where `native` are those of FFmpeg, x264 and OpenCV.
Results: benchmarks/results/latency.json.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import platform
import tempfile
import threading
import time
from collections import deque
from collections.abc import Iterator
from datetime import UTC, datetime
from fractions import Fraction
from importlib.metadata import version
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
import numpy.typing as npt

from privseg.privacy.filters.registry import create_method
from privseg.privacy.frames import ProtectedFrame, RawFrame
from privseg.streaming.adaptive import Schedule
from privseg.streaming.camera import run_camera
from privseg.streaming.process import keep_freed_memory, one_thread_an_operation
from privseg.streaming.segmenter_local import LocalSegmenter
from privseg.streaming.sinks import H264FileSink
from privseg.streaming.source import VideoSource
from privseg.streaming.telemetry import Telemetry

ROOT = Path(__file__).resolve().parent
MODEL = ROOT.parent / "model_repository" / "person_segmentation" / "1"
RESULT = ROOT / "results" / "latency.json"
CLIPS = ("vtest.avi", "one-by-one-person-detection.mp4")
WIDTH, HEIGHT, RATE = 1280, 720, 25
# Frames that start threads and fill caches: left out of latencies and of processor times.
WARM_UP = 25
GOAL_ADDED_MS, GOAL_CPU_MS = 1000 / RATE, 12.0


def scaled(clip: Path, out: Path, rate: int, count: int) -> None:
    """Write the clip's middle at 16:9 as a camera would send it: 720p, ``rate`` frames a second, nothing held back."""
    options = {"preset": "veryfast", "crf": "23", "tune": "zerolatency", "g": str(2 * rate)}
    with av.open(str(clip)) as taken, av.open(str(out), "w") as given:
        stream = given.add_stream("libx264", rate=rate, options=options)
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, "yuv420p"
        for picture in itertools.islice(taken.decode(video=0), count):
            pixels = picture.to_ndarray(format="rgb24")
            height, width = pixels.shape[:2]
            rows = min(height, width * HEIGHT // WIDTH)
            middle = pixels[(height - rows) // 2 :][:rows]
            large = cv2.resize(middle, (WIDTH, HEIGHT), interpolation=cv2.INTER_CUBIC)
            given.mux(stream.encode(av.VideoFrame.from_ndarray(large, format="rgb24")))
        given.mux(stream.encode(None))


class Camera(VideoSource):
    """A file played at its own pace, which remembers what decoding each frame took."""

    def __init__(self, clip: Path) -> None:
        super().__init__(str(clip), realtime=True)
        self.decoding: dict[int, float] = {}

    def frames(self) -> Iterator[RawFrame]:
        """As the source's own."""
        for frame in super().frames():
            self.decoding[frame.sequence] = frame.decode_seconds
            yield frame


class TimedModel(LocalSegmenter):
    """The model in this process, which remembers what each run took, by the clock and on the processor.

    The latter is exact with one thread only: then ONNX Runtime runs in the thread that calls it.
    """

    def __init__(self, threads: int) -> None:
        super().__init__(MODEL, threads=threads)
        #: seconds of every frame's run, and from asking to the answer
        self.took: dict[int, float] = {}
        self.answered: dict[int, float] = {}
        self.used = 0.0
        self._unwatched, self._session = self._session, self
        # Frames are computed in the order in which they were asked about.
        self._next: deque[tuple[int, float]] = deque()

    def submit(self, sequence: int, image: npt.NDArray[np.uint8]) -> None:
        """As the model's own."""
        self._next.append((sequence, time.perf_counter()))
        super().submit(sequence, image)

    def run(self, *args: Any) -> Any:
        """In the place of the session's own."""
        begun, used = time.perf_counter(), time.thread_time()
        answer = self._unwatched.run(*args)
        self.used += time.thread_time() - used
        sequence, asked = self._next.popleft()
        self.took[sequence], self.answered[sequence] = time.perf_counter() - begun, time.perf_counter() - asked
        return answer


class Recording:
    """The gateway's recording, which remembers when each frame was in it, and what was used up to the last one."""

    def __init__(self, file: H264FileSink, model: TimedModel) -> None:
        self._file, self._model, self._threads = file, model, Threads()
        self.latency: dict[int, float] = {}
        #: frames written, seconds of the process, of the model, and of each thread: once warm, and at the last frame
        self.marks: list[tuple[int, float, float, dict[str, float]]] = []

    def write(self, frame: ProtectedFrame) -> None:
        """Hand on and look at the clocks."""
        self._file.write(frame)
        self.latency[frame.sequence] = time.monotonic() - frame.captured
        if len(self.latency) % WARM_UP == 0:
            mark = (len(self.latency), time.process_time(), self._model.used, self._threads.used())
            self.marks = [*self.marks[:1], mark]

    def close(self) -> None:
        """Finish the file."""
        self._file.close()

    def abort(self) -> None:
        """Give the file up."""
        self._file.abort()


class Threads:
    """Processor seconds of every thread, by its name in Python; one that has ended keeps what it was last seen with."""

    def __init__(self) -> None:
        self._seen: dict[int, tuple[str, float]] = {}

    def used(self) -> dict[str, float]:
        """Look, and add up."""
        names = {thread.native_id: thread.name.rstrip("_-0123456789") for thread in threading.enumerate()}
        ticks = os.sysconf("SC_CLK_TCK")
        for task in Path("/proc/self/task").iterdir():
            try:
                fields = (task / "stat").read_text().rpartition(")")[2].split()
            except OSError:  # it has ended between being listed and being looked at
                continue
            self._seen[int(task.name)] = names.get(int(task.name), "native"), int(fields[11]) + int(fields[12])
        total = dict[str, float]()
        for name, used in self._seen.values():
            total[name] = total.get(name, 0.0) + used / ticks
        return total


def stages(telemetry: Telemetry, frames: int) -> dict[str, float]:
    """Milliseconds of wall time a frame in every stage."""
    samples = [each for metric in telemetry.registry.collect() for each in metric.samples]
    sums = [each for each in samples if each.name == "privseg_stage_seconds_sum"]
    return {each.labels["stage"]: round(each.value / frames * 1e3, 2) for each in sums}


def played(clip: Path, schedule: Schedule, threads: int, folder: Path) -> dict[str, Any]:
    """One camera, live, to the clip's end."""
    camera, telemetry, sinks = Camera(clip), Telemetry(), list[Recording]()
    with TimedModel(threads) as model:

        def open_sink(width: int, height: int, rate: Fraction, aspect: Fraction) -> Recording:
            file = H264FileSink(folder / "out.mp4", rate, (width, height), recording=True, pixel_aspect=aspect)
            sinks.append(Recording(file, model))
            return sinks[0]

        report = run_camera(
            "camera", camera, model, create_method("blank"), open_sink, output="", telemetry=telemetry,
            schedule=schedule,
        )  # fmt: skip
    if report.error is not None:
        raise report.error
    (sink,) = sinks
    (first, process, inference, by_thread), last = sink.marks
    frames = last[0] - first
    waits = schedule is Schedule.EVERY_FRAME
    glass = {number: took + camera.decoding[number] for number, took in sink.latency.items() if number >= WARM_UP}
    added, queued = (
        [took - each.get(number, 0.0) * waits for number, took in glass.items()]
        for each in (model.answered, model.took)
    )
    return {
        "frames_in": report.frames_in,
        "frames_out": report.frames_out,
        "dropped": report.frames_dropped,
        "withheld": report.frames_blanked,
        "asked": len(model.took),
        "inference_ms": quantiles(list(model.took.values())),
        "glass_to_glass_ms": quantiles(list(glass.values())),
        "added_ms": quantiles(added),
        "added_and_queued_ms": quantiles(queued),
        "cpu_ms": round((last[1] - process - last[2] + inference) / frames * 1e3, 2),
        "cpu_of_model_ms": round((last[2] - inference) / frames * 1e3, 2),
        "stage_ms": stages(telemetry, report.frames_out),
        "threads_ms": {
            name: round((used - by_thread.get(name, 0.0)) / frames * 1e3, 2) for name, used in sorted(last[3].items())
        },
    }


def quantiles(seconds: list[float]) -> dict[str, float]:
    """Milliseconds."""
    return {f"p{share}": round(float(np.percentile(seconds, share)) * 1e3, 2) for share in (50, 95, 99)}


FRAMES = ("frames_in", "frames_out", "dropped", "withheld", "asked")
LATENCY = ("inference_ms", "glass_to_glass_ms", "added_ms", "added_and_queued_ms")
CPU = ("cpu_ms", "cpu_of_model_ms", "stage_ms", "threads_ms")


def measured(clip: Path, seconds: float, slow: int, cores: int, folder: Path) -> dict[str, Any]:
    """Both schedules on one clip."""
    result: dict[str, Any] = {}
    for schedule in Schedule:
        moving = folder / "in.mp4"
        scaled(clip, moving, RATE, int(seconds * RATE))
        latency = played(moving, schedule, cores, folder)
        rate = RATE if schedule is Schedule.ADAPTIVE else slow
        scaled(clip, moving, rate, int(seconds * rate))
        used = played(moving, schedule, 1, folder)
        result[str(schedule)] = {
            "latency": {
                "frames_a_second": RATE,
                **{key: latency[key] for key in (*FRAMES, *LATENCY)},
                "added_p99_of_frame_interval": round(latency["added_ms"]["p99"] / GOAL_ADDED_MS, 3),
            },
            # Latency here too: what it is where the model keeps up.
            "processor": {"frames_a_second": rate, **{key: used[key] for key in (*FRAMES, *CPU, *LATENCY)}},
        }
    return result


def main() -> None:
    """Measure and write."""
    one_thread_an_operation()  # as the gateway does
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=os.environ.get("PRIVSEG_DATA"), help="folder with video/vtest.avi")
    parser.add_argument("--seconds", type=float, default=20, help="of camera time each run takes")
    parser.add_argument("--slow", type=int, default=10, help="frames a second that even one core keeps up with")
    chosen = parser.parse_args()
    if chosen.data is None:
        parser.error("name the folder of the data: --data, or PRIVSEG_DATA")
    keep_freed_memory()
    cores = len(os.sched_getaffinity(0))
    with tempfile.TemporaryDirectory() as folder:
        clips = {
            name: measured(chosen.data / "video" / name, chosen.seconds, chosen.slow, cores, Path(folder))
            for name in CLIPS
        }
    runs = [run for clip in clips.values() for run in clip.values()]
    result = {
        "measured": datetime.now(UTC).date().isoformat(),
        "camera": f"{WIDTH}x{HEIGHT}",
        "cores": cores,
        "versions": {"python": platform.python_version()}
        | {name: version(name) for name in ("av", "numpy", "onnxruntime", "opencv-python")},
        "clips": clips,
        "goals": {
            "added_p99_at_most_40_ms": all(run["latency"]["added_ms"]["p99"] <= GOAL_ADDED_MS for run in runs),
            "cpu_at_most_12_ms_a_frame": all(run["processor"]["cpu_ms"] <= GOAL_CPU_MS for run in runs),
        },
    }
    RESULT.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    print(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
