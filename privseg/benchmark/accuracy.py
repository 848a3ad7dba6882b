"""How well a model finds people on the test split."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray

from privseg.errors import DataError
from privseg.training.metrics import BinaryConfusion

__all__ = ["accuracy_figures", "evenly_spaced", "measure_accuracy", "read_sample"]

PROGRESS_EVERY = 5.0  # seconds
Image = NDArray[np.uint8]


def evenly_spaced(rows: pd.DataFrame, limit: int) -> pd.DataFrame:
    """Take at most ``limit`` rows, evenly spaced: every source keeps its share, and each run takes the same."""
    if len(rows) <= limit:
        return rows
    return rows.iloc[np.arange(limit) * len(rows) // limit].reset_index(drop=True)


def read_sample(root: Path, image_path: str, mask_path: str) -> tuple[Image, Image]:
    """Read one test image and its mask.

    Returns:
        uint8 ``[H, W, 3]`` RGB and uint8 ``[H, W]`` (0 background, 1 human, 255 not labelled).

    Raises:
        DataError: One of them cannot be decoded, their sizes differ, or the size is no multiple of 32.
    """
    again = "dvc repro --force ingest"
    image = _decode(root / image_path, cv2.IMREAD_COLOR, again)
    mask = _decode(root / mask_path, cv2.IMREAD_UNCHANGED, again)
    if mask.ndim != 2 or image.shape[:2] != mask.shape:
        raise DataError(root / mask_path, f"has shape {mask.shape}, its image {image.shape}", again)
    if any(side % 32 for side in mask.shape):
        raise DataError(root / image_path, f"is {mask.shape[1]}x{mask.shape[0]}, no multiple of 32", again)
    return np.ascontiguousarray(image[:, :, ::-1]), mask


def _decode(path: Path, flags: int, next_step: str) -> Image:
    pixels = cv2.imread(str(path), flags)
    if pixels is None:
        raise DataError(path, "cannot be read as an image", next_step)
    return np.asarray(pixels, dtype=np.uint8)


def measure_accuracy(
    segmentor: Any,
    rows: pd.DataFrame,
    root: Path,
    threshold: float,
    on_sample: Callable[[int, Image, Image, NDArray[np.bool_]], None] | None = None,
) -> BinaryConfusion:
    """Segment every row's image and count its pixels, with a line of progress every five seconds.

    Args:
        segmentor: A ``PersonSegmentor``.
        rows: Manifest rows.
        root: Folder their paths are relative to.
        threshold: Person probability (0 to 1) at which a pixel counts as human.
        on_sample: Called with index, image, truth and prediction (true: human) of each.

    Raises:
        DataError: An image or mask cannot be used.
    """
    confusion, start = BinaryConfusion(), time.monotonic()
    last_line = start
    for index, row in enumerate(rows.itertuples()):
        image, truth = read_sample(root, str(row.image_path), str(row.mask_path))
        with torch.inference_mode():
            probability = segmentor(torch.from_numpy(image)[None])[0].numpy()
        prediction = probability >= threshold * 255
        confusion.update(prediction, truth)
        if on_sample:
            on_sample(index, image, truth, prediction)
        now, done = time.monotonic(), index + 1
        if done == len(rows) or now - last_line >= PROGRESS_EVERY:
            last_line = now
            left = (now - start) / done * (len(rows) - done)
            line = f"evaluate {segmentor.candidate}: {done}/{len(rows)} images, {left:.0f} s left"
            print(line, file=sys.stderr, flush=True)
    return confusion


def accuracy_figures(confusion: BinaryConfusion, beta: float) -> dict[str, float]:
    """Name the metrics as the benchmark's files do."""
    return {
        "iou_human": confusion.iou_human,
        "iou_background": confusion.iou_background,
        "mean_iou": confusion.mean_iou,
        "dice": confusion.dice,
        "pixel_accuracy": confusion.pixel_accuracy,
        "precision": confusion.precision,
        "recall": confusion.recall,
        "f_beta": confusion.f_beta(beta),
        "beta": beta,
    }
