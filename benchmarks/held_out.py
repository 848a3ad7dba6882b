"""How well a served model finds people on pictures it has never seen, and on clips that somebody looks at.

    python benchmarks/held_out.py --data FOLDER [--model FILE --out FILE] [--sheets DIR]

Pictures: every fourth of Penn-Fudan (from the first by name), ``pairs/coco_person/val`` and every sixth of
``pairs/camvid/test``, scaled to a long side of 512 and padded to multiples of 32 as the client does. Figures are
printed and go to ``--out``: of the shipped model to ``benchmarks/results/held_out.json``, of another one nowhere unless
it is given. Contact sheets of the pictures and of the clips' frames, with what the model takes for a person tinted, go
to ``--sheets``.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
import onnxruntime
import openvino
from numpy.typing import NDArray

from privseg.training.metrics import BinaryConfusion
from privseg.training.person_metrics import HEIGHT_BUCKETS, PersonCounts

CHECKOUT = Path(__file__).resolve().parents[1]
SHIPPED = CHECKOUT / "model_repository/person_segmentation/1/model.onnx"
RESULT = CHECKOUT / "benchmarks/results/held_out.json"
LONG_SIDE = 512
Image = NDArray[np.uint8]
Pair = tuple[Path, Path]


def penn_fudan(data: Path) -> list[Pair]:
    """Every fourth picture, from the first by name."""
    folder = data / "pairs/pennfudan"
    images = sorted((folder / "images").glob("*.jpg"))[::4]
    return [(image, folder / f"masks/{image.stem}_mask.png") for image in images]


def coco_person(data: Path) -> list[Pair]:
    """The whole of val."""
    folder = data / "pairs/coco_person/val"
    return [(image, folder / f"masks/{image.stem}.png") for image in sorted((folder / "images").iterdir())]


def camvid(data: Path) -> list[Pair]:
    """Every sixth test picture: the frames between are nearly the same."""
    folder = data / "pairs/camvid"
    return [(image, folder / f"testannot/{image.stem}.png") for image in sorted((folder / "test").iterdir())[::6]]


SETS: dict[str, tuple[Callable[[Path], list[Pair]], Callable[[Image], Image]]] = {
    "pennfudan_every_fourth": (penn_fudan, lambda mask: (mask > 0).astype(np.uint8)),
    "coco_person_val": (coco_person, lambda mask: mask),
    "camvid_test_every_sixth": (
        camvid,
        lambda mask: np.where(mask == 11, 255, np.isin(mask, (9, 10))).astype(np.uint8),
    ),
}
CLIPS = (
    "vtest.avi",
    "one-by-one-person-detection.mp4",
    "pedestrian_survaillance.mp4",
    "intel_store-aisle-detection_preview.mp4",
    "intel_worker-zone-detection_preview.mp4",
    "intel_face-demographics-walking_preview.mp4",
    "sam2_juggle.mp4",
    "cdnet_highway_noperson.mp4",
)


def fit(picture: Image, method: int) -> Image:
    """Scale to a long side of 512."""
    factor = LONG_SIDE / max(picture.shape[:2])
    size = (round(picture.shape[1] * factor), round(picture.shape[0] * factor))
    return np.asarray(cv2.resize(picture, size, interpolation=method), dtype=np.uint8)


class Model:
    """A version's ``model.onnx`` in ONNX Runtime on two threads."""

    def __init__(self, path: Path) -> None:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 2
        self.session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])

    def __call__(self, image: Image) -> Image:
        """Person probability times 255 of an RGB picture of any size."""
        height, width = image.shape[:2]
        padded = np.zeros((-(-height // 32) * 32, -(-width // 32) * 32, 3), np.uint8)
        padded[:height, :width] = image
        return np.asarray(self.session.run(None, {"IMAGE": padded[None]})[0][0, :height, :width], dtype=np.uint8)


def read(image: Path, mask: Path, binary: Callable[[Image], Image]) -> tuple[Image, Image]:
    """Read a pair as RGB and 0 background, 1 human, 255 unlabelled, both scaled."""
    picture, labels = cv2.imread(str(image), cv2.IMREAD_COLOR), cv2.imread(str(mask), cv2.IMREAD_UNCHANGED)
    if picture is None or labels is None:
        raise SystemExit(f"held_out: {image} or {mask}: cannot be read. Next: check --data")
    # binarised first: the palette's values must not be mixed
    truth = fit(binary(labels if labels.ndim == 2 else labels[:, :, 0]), cv2.INTER_NEAREST)
    return np.ascontiguousarray(fit(picture, cv2.INTER_AREA)[:, :, ::-1]), truth


def frames(path: Path, count: int) -> Iterator[Image]:
    """Yield frames of a clip, evenly spaced, scaled."""
    with av.open(str(path)) as clip:
        decoded = [frame.to_ndarray(format="rgb24") for frame in clip.decode(video=0)]
    for index in np.linspace(0, len(decoded) - 1, count).round().astype(int):
        yield fit(decoded[index], cv2.INTER_AREA)


def overlay(image: Image, human: NDArray[np.bool_]) -> Image:
    """Tint what the model takes for a person orange."""
    mixed = image.astype(np.float32)
    mixed[human] = 0.4 * mixed[human] + 0.6 * np.array((255, 96, 0), np.float32)
    return np.asarray(mixed.round(), dtype=np.uint8)


def sheet(tiles: list[Image], columns: int, path: Path) -> None:
    """Write tiles side by side."""
    height, width = max(t.shape[0] for t in tiles), max(t.shape[1] for t in tiles)
    page = np.zeros((-(-len(tiles) // columns) * height, columns * width, 3), np.uint8)
    for index, tile in enumerate(tiles):
        top, left = index // columns * height, index % columns * width
        page[top : top + tile.shape[0], left : left + tile.shape[1]] = tile
    cv2.imwrite(str(path), page[:, :, ::-1])


def measure(model: Model, data: Path, threshold: float, sheets: Path | None) -> dict[str, Any]:
    """Measure the three sets of pictures."""
    figures: dict[str, Any] = {}
    for name, (listed, binary) in SETS.items():
        confusion, people, tiles = BinaryConfusion(), PersonCounts(), []
        pairs = listed(data)
        for image, mask in pairs:
            picture, truth = read(image, mask, binary)
            prediction = model(picture) >= threshold * 255
            confusion.update(prediction, truth)
            people.update(prediction, truth)
            tiles.append(overlay(picture, prediction))
        figures[name] = {
            "images": len(pairs),
            "iou_human": round(confusion.iou_human, 4),
            "recall": round(confusion.recall, 4),
            "precision": round(confusion.precision, 4),
            "people": {
                height: {"people": bucket.people, "missed": bucket.missed, "recall": bucket.recall}
                for height, bucket in ((name, getattr(people, name)) for name in (*HEIGHT_BUCKETS, "all"))
            },
        }
        print(f"{name}: {figures[name]}", file=sys.stderr, flush=True)
        if sheets:
            sheet([cv2.resize(t, None, fx=0.5, fy=0.5) for t in tiles[:40]], 8, sheets / f"{name}.png")
    return figures


def latencies(model: Model, path: Path) -> dict[str, dict[str, float]]:
    """Time one 512 x 512 picture: in ONNX Runtime, and in OpenVINO in the precision it chooses and in float32."""
    square = np.random.default_rng(0).integers(0, 256, (512, 512, 3), dtype=np.uint8)
    settings = {"PERFORMANCE_HINT": "LATENCY", "INFERENCE_NUM_THREADS": 2, "ENABLE_CPU_PINNING": False}
    chosen = openvino.Core().compile_model(str(path), "CPU", settings)
    single = openvino.Core().compile_model(str(path), "CPU", settings | {"INFERENCE_PRECISION_HINT": "f32"})
    engines: dict[str, Callable[[], Any]] = {
        "onnxruntime": lambda: model(square),
        "openvino": lambda: chosen(square[None]),
        "openvino_float32": lambda: single(square[None]),
    }
    figures = {}
    for name, run in engines.items():
        times = []
        for _ in range(35):
            start = time.perf_counter()
            run()
            times.append((time.perf_counter() - start) * 1000)
        p50, p95 = np.percentile(times[5:], (50, 95))
        figures[name] = {"p50": round(float(p50), 1), "p95": round(float(p95), 1)}
    return figures


def main() -> None:
    """Measure, and draw what was asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--model", type=Path, default=SHIPPED)
    parser.add_argument("--threshold", type=float, default=0.5)
    parser.add_argument("--sheets", type=Path)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    # the committed figures are the shipped model's, and only a run of that one may replace them unasked
    out: Path | None = options.out or (RESULT if options.model.resolve() == SHIPPED.resolve() else None)
    model = Model(options.model)
    if options.sheets:
        options.sheets.mkdir(parents=True, exist_ok=True)
    figures = measure(model, options.data, options.threshold, options.sheets)
    result = {
        "model_bytes": options.model.stat().st_size,
        "long_side": LONG_SIDE,
        "threshold": options.threshold,
        "sets": figures,
        "ms_512x512_two_threads": latencies(model, options.model),
        "load_average": round(os.getloadavg()[0], 2),
    }
    if out:
        out.parent.mkdir(parents=True, exist_ok=True)
        out.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    print(json.dumps(result, indent=2))
    if options.sheets:
        for clip in CLIPS:
            tiles = [overlay(f, model(f) >= options.threshold * 255) for f in frames(options.data / "video" / clip, 12)]
            sheet(tiles, 4, options.sheets / f"{Path(clip).stem}.png")


if __name__ == "__main__":
    main()
