"""What covering people costs: every method on 1920x1080, one core.

Ten standing people cover a tenth of the frame; one of them alone a hundredth; and so do ten small ones, who cost more
than the one, for every person has a price of its own.

Timed is `privseg.privacy.cover.cover`, which is all of it: finding the people, erasing what a method must not see, and
writing. `supervision`'s blur and pixelate annotators are timed on the same people in the same run, ours and theirs by
turns, twice: both from the frame's mask on (theirs with the fastest way to boxes that OpenCV has), and theirs from
given boxes on. They cover boxes with a kernel of fixed size; we cover outlines, sized by the person.

    pip install 'privseg[benchmark]'
    python benchmarks/filters.py [METHOD ...]         writes benchmarks/results/filters.json
"""

from __future__ import annotations

import json
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from privseg.benchmark.hardware import hardware
from privseg.datasets.sources.synthetic import render_scene
from privseg.privacy.cover import cover
from privseg.privacy.filters.registry import METHODS, create_method
from privseg.privacy.keys import SessionSecrets

ROOT = Path(__file__).resolve().parents[1]
SIZE = (1080, 1920)
PEOPLE = 10
FAST = {"blank", "silhouette", "pixelate", "blur", "false_colors", "scramble", "hash"}
FAST_MS, OTHERS_MS, MOST_RATIO, LEAST_SPEEDUP = 3.0, 12.0, 0.35, 2.0
RUNS = 40


def scene(share: float, people: int) -> tuple[np.ndarray, np.ndarray]:
    """A picture with texture, and a mask of so many standing figures that cover so much of it."""
    image = cv2.resize(render_scene(3, height=540, width=960)[0], SIZE[::-1], interpolation=cv2.INTER_CUBIC)
    mask = np.zeros(SIZE, np.uint8)
    height = (share * SIZE[0] * SIZE[1] / people / 0.285) ** 0.5
    for number in range(people):
        x, y = int((number + 0.5) * SIZE[1] / people), SIZE[0] // 2
        figure(mask, x, y, height)
    return np.ascontiguousarray(image), mask.view(np.bool_)


def figure(mask: np.ndarray, x: int, y: int, height: float) -> None:
    """Head, trunk, arms and legs around a point."""
    top, unit = y - height / 2, height / 100
    cv2.circle(mask, (x, round(top + 9 * unit)), round(9 * unit), 1, -1)
    cv2.ellipse(mask, (x, round(top + 38 * unit)), (round(15 * unit), round(24 * unit)), 0, 0, 360, 1, -1)
    for side in (-1, 1):
        parts = (((11, 20), (21, 52)), ((7, 52), (10, 95)))
        for (from_x, from_y), (to_x, to_y) in parts:
            ends = [
                (round(x + side * px * unit), round(top + py * unit)) for px, py in ((from_x, from_y), (to_x, to_y))
            ]
            cv2.line(mask, ends[0], ends[1], 1, max(round(10 * unit), 1))


class Case:
    """One method on one scene; every call covers a fresh copy, which is not timed."""

    def __init__(self, name: str, image: np.ndarray, mask: np.ndarray) -> None:
        self.method = create_method(name, secrets=SessionSecrets())
        self.image, self.mask, self.sequence = image, mask, 0

    def __call__(self) -> float:
        """Milliseconds of one frame."""
        pixels = self.image.copy()
        begun = time.perf_counter()
        cover(pixels, self.mask, self.method, camera="benchmark", sequence=self.sequence)
        self.sequence += 1
        return 1000 * (time.perf_counter() - begun)


def by_turns(cases: dict[str, Callable[[], float]], warm_up: int = 20) -> dict[str, dict[str, float]]:
    """Median and fastest of many runs, the cases one after the other in every round."""
    times: dict[str, list[float]] = {name: [] for name in cases}
    for turn in range(warm_up + RUNS):
        for name, case in cases.items():
            spent = case()
            if turn >= warm_up:
                times[name].append(spent)
    return {
        name: {"median_ms": round(statistics.median(spent), 3), "fastest_ms": round(min(spent), 3)}
        for name, spent in times.items()
    }


def boxes(mask: np.ndarray) -> np.ndarray:
    """Around every connected area, ``(n, 4)`` of left, top, right, bottom."""
    outlines, _ = cv2.findContours(mask.view(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE)
    found = np.array([cv2.boundingRect(outline) for outline in outlines], float)
    found[:, 2:] += found[:, :2]
    return found


def against_supervision(image: np.ndarray, mask: np.ndarray) -> dict[str, Any]:
    """Blur and pixelate, ours and theirs, on the same people."""
    import supervision

    def theirs(annotator: Any, given: np.ndarray | None) -> Callable[[], float]:
        def once() -> float:
            pixels = image.copy()
            begun = time.perf_counter()
            annotator.annotate(pixels, supervision.Detections(xyxy=boxes(mask) if given is None else given))
            return 1000 * (time.perf_counter() - begun)

        return once

    found: dict[str, Any] = {"supervision": supervision.__version__}
    pairs = {"blur": supervision.BlurAnnotator(), "pixelate": supervision.PixelateAnnotator()}
    for name, annotator in pairs.items():
        timed = by_turns(
            {
                "ours": Case(name, image, mask),
                "theirs": theirs(annotator, None),
                "theirs, boxes given": theirs(annotator, boxes(mask)),
            }
        )
        ours = timed["ours"]["median_ms"]
        found[name] = timed | {
            "times_faster": round(timed["theirs"]["median_ms"] / ours, 2),
            "times_faster_than_given_boxes": round(timed["theirs, boxes given"]["median_ms"] / ours, 2),
        }
    return found


def main() -> None:
    """Measure and write the results."""
    cv2.setNumThreads(1)
    names = sys.argv[1:] or list(METHODS)
    scenes = {"10 %": scene(0.10, PEOPLE), "1 %": scene(0.01, 1), "1 %, ten people": scene(0.01, PEOPLE)}
    rows: dict[str, Any] = {}
    for name in names:
        timed = by_turns({covered: Case(name, *drawn) for covered, drawn in scenes.items()})
        tenth = timed["10 %"]["median_ms"]
        ratio, small = (round(timed[share]["median_ms"] / tenth, 3) for share in ("1 %", "1 %, ten people"))
        limit = FAST_MS if name in FAST else OTHERS_MS
        held = tenth <= limit and ratio <= MOST_RATIO
        rows[name] = {**timed, "ratio": ratio, "ratio_ten_people": small, "limit_ms": limit, "holds": held}
        print(f"{name:14s} {tenth:7.2f} ms of {limit:g}  1 %: {timed['1 %']['median_ms']:6.2f} ms, "
              f"ratio {ratio:.2f}, ten people {small:.2f}  {'holds' if held else 'FAILS'}", flush=True)  # fmt: skip
    try:
        peer = against_supervision(*scenes["10 %"])
    except ImportError:
        raise SystemExit("supervision is not installed: pip install 'privseg[benchmark]'") from None
    for name in ("blur", "pixelate"):
        held = peer[name]["times_faster"] >= LEAST_SPEEDUP
        print(f"{name} against supervision {peer['supervision']}: {peer[name]['times_faster']} times faster, {held=}; "
              f"than with boxes given {peer[name]['times_faster_than_given_boxes']}")  # fmt: skip
    result = {
        "size": SIZE,
        "covered": {share: round(float(drawn[1].mean()), 4) for share, drawn in scenes.items()},
        "hardware": hardware(),
        "methods": rows,
        "against_supervision": peer,
    }
    if names == list(METHODS):
        out = ROOT / "benchmarks" / "results" / "filters.json"
        out.write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()
