"""What covering people costs: every method on 1920x1080 with a tenth and a hundredth of the pixels covered, one core.

Timed is `privseg.privacy.cover.cover`, which is all of it: finding the people, erasing what a method must not see, and
writing. `supervision`'s blur and pixelate annotators are timed on the same people in the same run, ours and theirs by
turns; they cover boxes, we cover outlines.

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
from privseg.privacy.people import find_people

ROOT = Path(__file__).resolve().parents[1]
SIZE = (1080, 1920)
PEOPLE = 6
FAST = {"blank", "silhouette", "pixelate", "blur", "false_colors", "scramble", "hash"}
FAST_MS, OTHERS_MS, MOST_RATIO, LEAST_SPEEDUP = 3.0, 12.0, 0.35, 2.0
RUNS = 40


def scene(share: float) -> tuple[np.ndarray, np.ndarray]:
    """A picture with texture, and a mask of six standing figures that covers so much of it."""
    image = cv2.resize(render_scene(3, height=540, width=960)[0], SIZE[::-1], interpolation=cv2.INTER_CUBIC)
    mask = np.zeros(SIZE, np.uint8)
    height = (share * SIZE[0] * SIZE[1] / PEOPLE / 0.285) ** 0.5
    for number in range(PEOPLE):
        x, y = int((number + 0.5) * SIZE[1] / PEOPLE), SIZE[0] // 2
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


def against_supervision(image: np.ndarray, mask: np.ndarray) -> dict[str, Any]:
    """Blur and pixelate, ours and theirs, on the same people."""
    import supervision

    boxes = [(p.left, p.top, p.left + p.width, p.top + p.height) for p, _ in find_people(mask)]
    detections = supervision.Detections(xyxy=np.array(boxes, float))

    def theirs(annotator: Any) -> Callable[[], float]:
        def once() -> float:
            pixels = image.copy()
            begun = time.perf_counter()
            annotator.annotate(pixels, detections)
            return 1000 * (time.perf_counter() - begun)

        return once

    found: dict[str, Any] = {"supervision": supervision.__version__}
    pairs = {"blur": supervision.BlurAnnotator(), "pixelate": supervision.PixelateAnnotator()}
    for name, annotator in pairs.items():
        timed = by_turns({"ours": Case(name, image, mask), "theirs": theirs(annotator)})
        found[name] = timed | {"times_faster": round(timed["theirs"]["median_ms"] / timed["ours"]["median_ms"], 2)}
    return found


def main() -> None:
    """Measure and write the results."""
    cv2.setNumThreads(1)
    names = sys.argv[1:] or list(METHODS)
    tenth, hundredth = scene(0.10), scene(0.01)
    rows: dict[str, Any] = {}
    for name in names:
        timed = by_turns({"10 %": Case(name, *tenth), "1 %": Case(name, *hundredth)})
        ratio = round(timed["1 %"]["median_ms"] / timed["10 %"]["median_ms"], 3)
        limit = FAST_MS if name in FAST else OTHERS_MS
        held = timed["10 %"]["median_ms"] <= limit and ratio <= MOST_RATIO
        rows[name] = {**timed, "ratio": ratio, "limit_ms": limit, "holds": held}
        print(f"{name:14s} {timed['10 %']['median_ms']:7.2f} ms  1 %: {timed['1 %']['median_ms']:6.2f} ms  "
              f"ratio {ratio:.2f}  limit {limit:g} ms  {'holds' if held else 'FAILS'}", flush=True)  # fmt: skip
    try:
        peer = against_supervision(*tenth)
    except ImportError:
        raise SystemExit("supervision is not installed: pip install 'privseg[benchmark]'") from None
    for name in ("blur", "pixelate"):
        held = peer[name]["times_faster"] >= LEAST_SPEEDUP
        print(f"{name} against supervision {peer['supervision']}: {peer[name]['times_faster']} times faster, {held=}")
    result = {
        "size": SIZE,
        "people": PEOPLE,
        "covered": {"10 %": round(float(tenth[1].mean()), 4), "1 %": round(float(hundredth[1].mean()), 4)},
        "hardware": hardware(),
        "methods": rows,
        "against_supervision": peer,
    }
    if names == list(METHODS):
        out = ROOT / "benchmarks" / "results" / "filters.json"
        out.write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()
