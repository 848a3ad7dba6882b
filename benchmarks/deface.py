"""Beside `deface` 1.5, the usual tool for faces in videos: how fast, and how much of people stays in sight.

    python benchmarks/deface.py [--data DIR] [--frames 795] [--rounds 3]        needs privseg[assess,serve]

Both take the same clip (vtest.avi) from file to file, in turns, on the same cores, with the same ONNX Runtime, as whole
processes with all their defaults: `deface CLIP -o OUT --backend onnxrt`, and `privseg anonymize CLIP OUT --local`. The
package of deface holds its model, so neither loads anything. `deface at 512x384` looks at pictures as small as privseg
does. Frames a second are those of the whole process, and those that each reports of itself, without its start.

What is covered is told exactly, without guessing what a codec changed, and in favour of deface:

- deface runs twice, with `solid` (the whole box around a face, more than its blurred ellipse) and with `none`, both
  encoded without loss: where the two differ, it covered.
- privseg covers with a colour that the clip has nowhere, and the covered frames are looked at before encoding.

Recall is over what privseg's model, asked about each frame alone, without margin or hold, calls people (above 0.5): its
own judgement, so also over everything that differs from the clip's median by much, which no model had a say in. A frame
leaks when less than half of such a moving thing is covered. deface promises faces only; this is what is left.
Results: benchmarks/results/deface.json, docs/images/deface.png (people of the model over the empty scene).
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import platform
import re
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
import numpy.typing as npt
from gateway import COVERED, MODEL, background, figures, things

from privseg.privacy.filters.registry import create_method
from privseg.privacy.frames import ProtectedFrame
from privseg.streaming.adaptive import Schedule
from privseg.streaming.camera import run_camera
from privseg.streaming.segmenter_local import LocalSegmenter
from privseg.streaming.source import VideoSource
from privseg.streaming.telemetry import Telemetry

ROOT = Path(__file__).resolve().parents[1]
RESULT = ROOT / "benchmarks" / "results" / "deface.json"
SHEET = ROOT / "docs" / "images" / "deface.png"
DEFACE = Path(sys.executable).with_name("deface")
# Every bit kept: the codec must not look like a cover.
LOSSLESS = {"codec": "libx264", "quality": None, "pixelformat": "yuv444p", "output_params": ["-qp", "0"]}
COLOUR = (255, 0, 255)
GOAL_SPEED, GOAL_RECALL = 3.0, 0.97
Mask = npt.NDArray[np.bool_]


def shortened(clip: Path, frames: int, out: Path) -> int:
    """Copy the clip's first packets as they are; returns how many."""
    with av.open(str(clip)) as taken, av.open(str(out), "w") as given:
        stream = given.add_stream_from_template(taken.streams.video[0])
        packets = (packet for packet in taken.demux(video=0) if packet.size)
        count = 0
        for packet in itertools.islice(packets, frames):
            packet.stream = stream
            given.mux(packet)
            count += 1
    return count


def commands(clip: Path, folder: Path) -> dict[str, list[str]]:
    """What is timed."""
    out, home = str(folder / "out.mp4"), str(folder / "home")
    privseg = [sys.executable, "-m", "privseg", "anonymize", str(clip), out, "--local", "--home", home, "--json"]
    deface = [str(DEFACE), str(clip), "-o", out, "--backend", "onnxrt"]
    return {
        **{f"privseg {schedule}": [*privseg, "--schedule", str(schedule)] for schedule in Schedule},
        "deface": deface,
        "deface at 512x384": [*deface, "--scale", "512x384"],
    }


def timed(command: list[str], frames: int) -> dict[str, float]:
    """Frames a second of one process, with and without its start, and its processor time a frame."""
    before, begun = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    done = subprocess.run(command, check=True, capture_output=True, text=True, stdin=subprocess.DEVNULL)
    seconds, after = time.perf_counter() - begun, resource.getrusage(resource.RUSAGE_CHILDREN)
    used = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    if "--json" in command:
        report = json.loads(done.stdout)
        if report["frames_out"] != frames or report["frames_blanked"]:
            raise RuntimeError(f"privseg wrote {report['frames_out']} frames, {report['frames_blanked']} blank")
        own = frames / report["seconds"]
    else:  # the last state of its progress bar: "… 795/795 [01:03<00:00, 12.55it/s]"
        rate, unit = re.findall(rf" {frames}/{frames} \[.*?, +([0-9.]+)(it/s|s/it)\]", done.stderr)[-1]
        own = float(rate) if unit == "it/s" else 1 / float(rate)
    return {"whole": frames / seconds, "without_start": own, "cpu_ms": used / frames * 1e3}


def speeds(clip: Path, frames: int, rounds: int, folder: Path) -> dict[str, list[dict[str, float]]]:
    """Every run; all take their turn in each round."""
    runs: dict[str, list[dict[str, float]]] = {name: [] for name in commands(clip, folder)}
    for _ in range(rounds):
        for name, command in commands(clip, folder).items():
            runs[name].append({key: round(value, 2) for key, value in timed(command, frames).items()})
            print(name, runs[name][-1], file=sys.stderr)
    return runs


def compared(runs: dict[str, list[dict[str, float]]], judged: str, other: str) -> dict[str, float]:
    """How many times as fast, and as thrifty, one is: the median of the rounds, each with what else the machine did."""
    pairs = list(zip(runs[judged], runs[other], strict=True))
    return {
        **{key: round(statistics.median(a[key] / b[key] for a, b in pairs), 2) for key in ("whole", "without_start")},
        "whole_least": round(min(a["whole"] / b["whole"] for a, b in pairs), 2),
        "processor_time": round(statistics.median(b["cpu_ms"] / a["cpu_ms"] for a, b in pairs), 2),
    }


def decoded(clip: Path) -> Iterator[np.ndarray]:
    """The pictures of a clip, RGB."""
    with av.open(str(clip)) as container:
        for picture in container.decode(video=0):
            yield picture.to_ndarray(format="rgb24")


def covered_by_deface(clip: Path, folder: Path) -> Iterator[Mask]:
    """What deface covers of every frame."""
    outs = [folder / f"{way}.mp4" for way in ("solid", "none")]
    for out in outs:
        command = [DEFACE, clip, "-o", out, "--backend", "onnxrt", "--replacewith", out.stem]
        subprocess.run([*command, "--ffmpeg-config", json.dumps(LOSSLESS)], check=True, capture_output=True)
    for solid, none in zip(*map(decoded, outs), strict=True):
        yield (solid != none).any(axis=2)


class Covers:
    """A sink that keeps which pixels were covered, in bits."""

    def __init__(self) -> None:
        self.masks: list[npt.NDArray[np.uint8]] = []

    def write(self, frame: ProtectedFrame) -> None:
        """Look at one frame."""
        if frame.withheld is not None:
            raise RuntimeError(f"frame {frame.sequence} was withheld: {frame.withheld}")
        self.masks.append(np.packbits((frame.pixels == COLOUR).all(axis=2)))

    def close(self) -> None:
        """Nothing to finish."""

    def abort(self) -> None:
        """Nothing to finish."""


def covered_by_privseg(clip: Path, segmenter: LocalSegmenter) -> Iterator[Mask]:
    """What privseg covers of every frame; which frames it asks about follows from the pictures, so as when timed."""
    sink, method = Covers(), create_method("blank", {"color": "#{:02x}{:02x}{:02x}".format(*COLOUR)})
    report = run_camera(
        "clip", VideoSource(str(clip)), segmenter, method, lambda *_: sink, output="", telemetry=Telemetry(),
        schedule=Schedule.ADAPTIVE,
    )  # fmt: skip
    if report.error is not None:
        raise report.error
    shape = next(decoded(clip)).shape[:2]
    for bits in sink.masks:
        yield np.unpackbits(bits, count=shape[0] * shape[1]).reshape(shape).view(np.bool_)


class Judge:
    """Recall and leaks of one tool, frame by frame."""

    def __init__(self) -> None:
        self.people: list[float] = []
        self.moving: list[float] = []
        self.leaks = 0
        self.covered: list[float] = []

    def see(self, mask: Mask, person: Mask, moving: list[Mask]) -> None:
        """Judge one frame."""
        self.covered.append(float(mask.mean()))
        if person.any():
            self.people.append(share(mask, person))
        if moving:
            shares = [share(mask, thing) for thing in moving]
            self.moving.append(float(np.mean(shares)))
            self.leaks += min(shares) < COVERED

    def figures(self) -> dict[str, Any]:
        """What was seen."""
        return {
            "person_recall_mean": round(float(np.mean(self.people)), 4),
            "person_recall_p5": round(float(np.percentile(self.people, 5)), 4),
            "person_recall_min": round(min(self.people), 4),
            "moving_recall_mean": round(float(np.mean(self.moving)), 4),
            "frames_with_a_leak": round(self.leaks / len(self.moving), 4),
            "covered_share": round(float(np.mean(self.covered)), 4),
        }


def share(mask: Mask, of: Mask) -> float:
    """How much of an area is covered."""
    return float(np.count_nonzero(mask & of) / np.count_nonzero(of))


def recalls(clip: Path, frames: int, scene: np.ndarray, folder: Path) -> dict[str, Any]:
    """What both tools cover of people, and the contact sheet."""
    shown = {frames // 6, frames // 2, frames * 5 // 6}
    tools = {"privseg adaptive": Judge(), "deface": Judge()}
    columns, left = list[np.ndarray](), list[float]()
    with LocalSegmenter(MODEL) as segmenter:
        masks = zip(covered_by_privseg(clip, segmenter), covered_by_deface(clip, folder), strict=True)
        for number, (picture, pair) in enumerate(zip(decoded(clip), masks, strict=True)):
            if (picture == COLOUR).all(axis=2).any():
                raise RuntimeError("the clip has the colour that was to mark what is covered")
            person, moving = figures([picture], segmenter)[0][0], things(picture, scene)
            for judge, mask in zip(tools.values(), pair, strict=True):
                judge.see(mask, person, moving)
            if (person & ~pair[1]).any():
                left.append(share(pair[0], person & ~pair[1]))
            if number in shown:
                columns.append(np.vstack([drawn(scene, person, mask) for mask in reversed(pair)]))
    cv2.imwrite(str(SHEET), np.hstack(columns)[..., ::-1], [cv2.IMWRITE_PNG_COMPRESSION, 9])
    return {name: judge.figures() for name, judge in tools.items()} | {
        "of_people_that_deface_left_in_sight_privseg_covers": round(float(np.mean(left)), 4),
        "frames_in_which_deface_left_people_in_sight": len(left),
    }


def drawn(scene: np.ndarray, person: Mask, mask: Mask) -> np.ndarray:
    """The empty scene, dim: people still in sight red, people covered green, what else is covered lighter."""
    half = scene[::2, ::2] // 16 * 8 + 24
    seen, hidden = person[::2, ::2], mask[::2, ::2]
    half[hidden & ~seen] += 70
    half[seen & hidden] = 60, 170, 90
    half[seen & ~hidden] = 225, 40, 40
    return half


def main() -> None:
    """Measure and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=os.environ.get("PRIVSEG_DATA"), help="folder with video/vtest.avi")
    parser.add_argument("--frames", type=int, default=795, help="from the clip's start")
    parser.add_argument("--rounds", type=int, default=3)
    chosen = parser.parse_args()
    if chosen.data is None:
        parser.error("name the folder of the data: --data, or PRIVSEG_DATA")
    packages = ("deface", "onnxruntime", "onnx", "opencv-python", "imageio-ffmpeg", "av", "numpy")
    try:
        versions = {"python": platform.python_version()} | {name: version(name) for name in packages}
    except PackageNotFoundError as error:
        parser.error(f"{error.name} is not installed: pip install 'privseg[assess,serve]'")
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        clip = folder / "clip.avi"
        whole = chosen.data / "video" / "vtest.avi"
        frames = shortened(whole, chosen.frames, clip)
        # Of the whole clip however few frames are taken: somebody who stands for seconds is no scenery.
        scene = background(list(itertools.islice(decoded(whole), 0, None, 20)))
        recall = recalls(clip, frames, scene, folder)
        runs = speeds(clip, frames, chosen.rounds, folder)
    ratio = {other: compared(runs, "privseg adaptive", other) for other in runs if other != "privseg adaptive"}
    left = recall["of_people_that_deface_left_in_sight_privseg_covers"]
    result = {
        "measured": datetime.now(UTC).date().isoformat(),
        "clip": {"name": "vtest.avi", "frames": frames},
        "cores": len(os.sched_getaffinity(0)),
        "rounds": chosen.rounds,
        "versions": versions,
        "frames_a_second": {
            name: {key: statistics.median(run[key] for run in each) for key in each[0]} for name, each in runs.items()
        },
        "runs": runs,
        "privseg_adaptive_times_as_fast_as": ratio,
        "recall": recall,
        "goals": {
            "at_least_3_times_as_fast_as_deface": ratio["deface"]["whole"] >= GOAL_SPEED,
            "recall_at_least_0.97": recall["privseg adaptive"]["person_recall_mean"] >= GOAL_RECALL,
            "recall_at_least_0.97_where_deface_leaves_bodies": left >= GOAL_RECALL,
        },
    }
    RESULT.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    print(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
