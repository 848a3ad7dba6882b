"""What the schedules cost and what they leak: frames a second, recall and leaks on fixed-camera clips, file to file.

    python benchmarks/gateway.py --data DIR [--frames 300] [--rounds 3]

Both schedules and the bare model see the same frames of the same clips in the same run, in turns, on the same cores.
Writes benchmarks/results/gateway.json. Recall is over the pixels that the model calls people (threshold 0.5, without
margin, every frame); a leak is a moving thing, found by background subtraction, of which less than half is covered.
"""

from __future__ import annotations

import argparse
import itertools
import json
import statistics
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np

from privseg.privacy.cover import covered_copy
from privseg.privacy.filters.registry import create_method
from privseg.privacy.frames import ProtectedFrame
from privseg.streaming.adaptive import Schedule
from privseg.streaming.anonymize import anonymize
from privseg.streaming.camera import run_camera
from privseg.streaming.segmenter_local import LocalSegmenter
from privseg.streaming.source import VideoSource
from privseg.streaming.telemetry import Telemetry

ROOT = Path(__file__).resolve().parent
MODEL = ROOT.parent / "model_repository" / "person_segmentation" / "1"
RESULT = ROOT / "results" / "gateway.json"
LONG_SIDE = 512
# Background subtraction: levels of 255 in any channel, and the least share of the picture that is somebody.
DIFFERENT, LEAST, COVERED = 40, 0.0015, 0.5


class Covers:
    """A sink that keeps which pixels were covered; the method is one flat colour."""

    def __init__(self, method: Any) -> None:
        sheet = covered_copy(np.full((64, 64, 3), 7, np.uint8), np.ones((64, 64), np.bool_), method)
        self._colour = sheet[32, 32]
        self.masks: list[np.ndarray] = []
        self.withheld = 0

    def write(self, frame: ProtectedFrame) -> None:
        """Keep what one frame covers; a slate covers all."""
        self.withheld += frame.withheld is not None
        self.masks.append((frame.pixels == self._colour).all(axis=2) | (frame.withheld is not None))

    def close(self) -> None:
        """Nothing to finish."""

    def abort(self) -> None:
        """Nothing to finish."""


def raw_pictures(clip: Path, count: int) -> list[np.ndarray]:
    """The first pictures of a clip."""
    with av.open(str(clip)) as container:
        pictures = itertools.islice(container.decode(video=0), count)
        return [picture.to_ndarray(format="rgb24") for picture in pictures]


def figures(pictures: list[np.ndarray], segmenter: LocalSegmenter) -> tuple[list[np.ndarray], float]:
    """What the model calls people in every frame, and how many frames a second it alone takes."""
    height, width = pictures[0].shape[:2]
    scale = LONG_SIDE / max(height, width)
    size = tuple(max(round(side * scale / 32), 1) * 32 for side in (width, height))
    found, spent = [], 0.0
    for number, picture in enumerate(pictures):
        image = cv2.resize(picture, size, interpolation=cv2.INTER_AREA)[np.newaxis]
        begun = time.perf_counter()
        segmenter.submit(number, image)
        answer = segmenter.result(number)
        spent += time.perf_counter() - begun
        found.append(cv2.resize(answer.probability, (width, height)) >= 128)
    return found, len(pictures) / spent


def background(pictures: list[np.ndarray]) -> np.ndarray:
    """The scene without whoever passes through: the median of about forty of its pictures."""
    return np.median(np.stack(pictures[:: max(len(pictures) // 40, 1)]), axis=0).astype(np.uint8)


def things(picture: np.ndarray, scene: np.ndarray) -> list[np.ndarray]:
    """Each thing of a picture that differs from its scene."""
    differs = (cv2.absdiff(picture, scene).max(axis=2) > DIFFERENT).astype(np.uint8)
    kernel = np.ones((5, 5), np.uint8)
    count, labels, stats, _ = cv2.connectedComponentsWithStats(cv2.morphologyEx(differs, cv2.MORPH_OPEN, kernel))
    least = LEAST * differs.size
    return [labels == n for n in range(1, count) if stats[n, cv2.CC_STAT_AREA] >= least]


def moving(pictures: list[np.ndarray]) -> list[list[np.ndarray]]:
    """Of every frame, each thing that differs from the scene's own median."""
    scene = background(pictures)
    return [things(picture, scene) for picture in pictures]


def covered(clip: Path, schedule: Schedule, count: int, segmenter: LocalSegmenter) -> Covers:
    """What one schedule covers of every frame."""
    method = create_method("blank")
    sink = Covers(method)
    run_camera(
        "clip", VideoSource(str(clip)), segmenter, method, lambda *_: sink, output="", telemetry=Telemetry(),
        schedule=schedule, max_frames=count,
    )  # fmt: skip
    return sink


def judged(sink: Covers, people: list[np.ndarray], things: list[list[np.ndarray]]) -> dict[str, Any]:
    """Recall and leaks of one schedule."""
    recalls = [
        np.count_nonzero(mask & figure) / np.count_nonzero(figure)
        for mask, figure in zip(sink.masks, people, strict=True)
        if figure.any()
    ]
    shares = [[np.count_nonzero(mask & thing) / np.count_nonzero(thing) for thing in each]
              for mask, each in zip(sink.masks, things, strict=True) if each]  # fmt: skip
    return {
        "frames": len(sink.masks),
        "withheld": sink.withheld,
        "recall_mean": round(float(np.mean(recalls)), 4),
        "recall_p5": round(float(np.percentile(recalls, 5)), 4),
        "recall_min": round(float(min(recalls)), 4),
        "covered_share": round(float(np.mean([mask.mean() for mask in sink.masks])), 4),
        "frames_with_motion": len(shares),
        "leak_frames": sum(bool(min(each) < COVERED) for each in shares),
        "moving_recall": round(float(np.mean([np.mean(each) for each in shares])), 4) if shares else None,
    }


def speed(clip: Path, schedule: Schedule, count: int, segmenter: LocalSegmenter, folder: Path) -> float:
    """Frames a second, file to file."""
    report = anonymize(
        str(clip), folder / "out.mp4", method=create_method("blank"), segmenter=segmenter, schedule=schedule,
        max_frames=count,
    )  # fmt: skip
    return report.frames_out / report.seconds


def measured(clip: Path, count: int, rounds: int) -> dict[str, Any]:
    """Everything about one clip."""
    pictures = raw_pictures(clip, count)
    with LocalSegmenter(MODEL) as segmenter, tempfile.TemporaryDirectory() as folder:
        people, _ = figures(pictures, segmenter)
        things = moving(pictures)
        leaks = {
            str(schedule): judged(covered(clip, schedule, len(pictures), segmenter), people, things)
            for schedule in Schedule
        }
        rates: dict[str, list[float]] = {"bare model": [], **{str(schedule): [] for schedule in Schedule}}
        for _ in range(rounds):
            rates["bare model"].append(figures(pictures[:100], segmenter)[1])
            for schedule in Schedule:
                rates[str(schedule)].append(speed(clip, schedule, len(pictures), segmenter, Path(folder)))
    height, width = pictures[0].shape[:2]
    frames_a_second = {name: round(statistics.median(each), 2) for name, each in rates.items()}
    return {
        "size": [width, height],
        "frames": len(pictures),
        "frames_a_second": frames_a_second,
        "every_frame_of_bare_model": round(frames_a_second["every-frame"] / frames_a_second["bare model"], 3),
        "adaptive_of_every_frame": round(frames_a_second["adaptive"] / frames_a_second["every-frame"], 2),
        "leaks": leaks,
    }


def main() -> None:
    """Measure and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder with video/vtest.avi and video/*store-aisle*")
    parser.add_argument("--frames", type=int, default=300)
    parser.add_argument("--rounds", type=int, default=3)
    chosen = parser.parse_args()
    clips = [path for name in ("vtest", "store-aisle") for path in sorted(chosen.data.glob(f"video/*{name}*"))[:1]]
    result: dict[str, Any] = {"measured": datetime.now(UTC).date().isoformat()}
    result["clips"] = {clip.name: measured(clip, chosen.frames, chosen.rounds) for clip in clips}
    RESULT.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    print(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
