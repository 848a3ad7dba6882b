"""Measure one trained candidate: accuracy, complexity and speed in one file."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from privseg.benchmark.accuracy import accuracy_figures, evenly_spaced, measure_accuracy
from privseg.benchmark.complexity import FLOPS_CONVENTION, measure_complexity
from privseg.benchmark.speed import hardware, measure_latency
from privseg.datasets.manifest import write_atomic
from privseg.errors import StorageError
from privseg.params import Params
from privseg.training.configs import IGNORE
from privseg.training.data import split_rows
from privseg.training.segmentor import load_segmentor

__all__ = ["SAMPLES", "evaluate", "overlay"]

SAMPLES = 4
TINT = np.array((255, 96, 0), dtype=np.float32)  # RGB, an orange seen on skin, cloth and street alike


def evaluate(params: Params, candidate_dir: Path, manifest: Path, root: Path, out_file: Path) -> dict[str, Any]:
    """Measure a candidate on the test split and write the result as JSON.

    Beside it, in the folder of its name without suffix, go pictures of the first test images with people: as they
    are, with the true mask and with the candidate's. What is not labelled is not judged, and not tinted either.

    Args:
        params: The active profile's effort, the threshold and the size of the images.
        candidate_dir: What ``train`` wrote.
        manifest: The dataset's manifest (Parquet).
        root: Folder its paths are relative to.
        out_file: The JSON file to write.

    Returns:
        What was written.

    Raises:
        DataError: The checkpoint, manifest or an image cannot be used, or the test split is empty.
        StorageError: The result cannot be written.
    """
    profile, size = params.benchmark_profile, params.image.size
    segmentor = load_segmentor(candidate_dir)
    rows = evenly_spaced(split_rows(manifest, root, "test"), profile.max_test_images)
    shown = [int(index) for index in np.flatnonzero(rows["is_human"])[:SAMPLES]]
    pictures: dict[str, NDArray[np.uint8]] = {}

    def keep(index: int, image: NDArray[np.uint8], truth: NDArray[np.uint8], prediction: NDArray[np.bool_]) -> None:
        if index in shown:
            number = shown.index(index) + 1
            pictures[f"{number}_input.jpg"] = image
            pictures[f"{number}_truth.jpg"] = overlay(image, truth == 1)
            pictures[f"{number}_predicted.jpg"] = overlay(image, prediction & (truth != IGNORE))

    confusion = measure_accuracy(segmentor, rows, root, params.benchmark.threshold, keep)
    latency = measure_latency(segmentor, size, warm_up_runs=profile.warm_up_runs, timed_runs=profile.timed_runs)
    result = {
        "candidate": segmentor.candidate,
        "accuracy": accuracy_figures(confusion, params.select.beta),
        "complexity": asdict(measure_complexity(segmentor, size)) | {"flops_convention": FLOPS_CONVENTION},
        "speed": asdict(latency),
        "images": len(rows),
        "people_images": int(rows["is_human"].sum()),
        "threshold": params.benchmark.threshold,
        "hardware": hardware(),
    }
    folder = out_file.with_suffix("")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for stale in folder.glob("*.jpg"):
            stale.unlink()
        for name, picture in pictures.items():
            _, data = cv2.imencode(".jpg", picture[:, :, ::-1], [cv2.IMWRITE_JPEG_QUALITY, 85])
            (folder / name).write_bytes(data.tobytes())
    except OSError as error:
        raise StorageError.from_os_error(folder, error) from error
    write_atomic(out_file, (json.dumps(result, indent=2) + "\n").encode())
    return result


def overlay(image: NDArray[np.uint8], human: NDArray[np.bool_]) -> NDArray[np.uint8]:
    """Tint the human pixels of an image.

    Args:
        image: uint8 ``[H, W, 3]``, RGB.
        human: bool ``[H, W]``.

    Returns:
        uint8 ``[H, W, 3]``, RGB.
    """
    mixed = image.astype(np.float32)
    mixed[human] = 0.4 * mixed[human] + 0.6 * TINT
    return mixed.round().astype(np.uint8)
