"""How well a model finds people on the test split."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray

from privseg.errors import DataError
from privseg.training.boundary import BoundaryCounts
from privseg.training.metrics import BinaryConfusion
from privseg.training.person_metrics import HEIGHT_BUCKETS, LARGE_ABOVE, SMALL_BELOW, PersonCounts

__all__ = [
    "Accuracy",
    "accuracy_figures",
    "evenly_spaced",
    "measure_accuracy",
    "read_sample",
    "torch_predictor",
]

PROGRESS_EVERY = 5.0  # seconds
PIXEL_COUNTS = ("tp", "fp", "fn", "tn")
Image = NDArray[np.uint8]
Predict = Callable[[Image], Image]
OnSample = Callable[[int, Image, Image, NDArray[np.bool_]], None]


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
    source = Path(image_path).parts[0]  # a manifest's paths start with it
    again = f"in the workspace: dvc repro --force --single-item ingest@{source}, then privseg run"
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


@dataclass(frozen=True)
class Accuracy:
    """What was counted over all images.

    Attributes:
        people: People found and missed.
        boundary: Outline pixels met and not.
        per_image: A row an image, in the order of measuring: its ``sample_id`` and its counts of labelled pixels
            ``tp``, ``fp``, ``fn`` and ``tn``, as a paired bootstrap needs them.
    """

    people: PersonCounts
    boundary: BoundaryCounts
    per_image: pd.DataFrame

    @property
    def confusion(self) -> BinaryConfusion:
        """The pixel counts of all images together."""
        return BinaryConfusion(**{name: int(self.per_image[name].sum()) for name in PIXEL_COUNTS})


def torch_predictor(segmentor: Any, device: str = "cpu") -> Predict:
    """Let a ``PersonSegmentor``, in evaluation mode on ``device``, predict one image at a time."""

    def predict(image: Image) -> Image:
        with torch.inference_mode():
            probability: Image = segmentor(torch.from_numpy(image)[None].to(device))[0].cpu().numpy()
        return probability

    return predict


def measure_accuracy(
    predict: Predict,
    rows: pd.DataFrame,
    root: Path,
    threshold: float,
    on_sample: OnSample | None = None,
    *,
    label: str,
) -> Accuracy:
    """Segment every row's image and count, with a line of progress every five seconds.

    Args:
        predict: Takes an image, uint8 ``[H, W, 3]`` RGB, and gives the person probability times 255, uint8
            ``[H, W]``: a PyTorch model (``torch_predictor``), a session of a published version, or saved masks.
        rows: Manifest rows.
        root: Folder their paths are relative to.
        threshold: Person probability (0 to 1) at which a pixel counts as human.
        on_sample: Called with index, image, truth and prediction (true: human) of each.
        label: What is under way, at the start of each line of progress.

    Raises:
        DataError: An image or mask cannot be used.
        ValueError: ``predict`` gives another shape or type of array.
    """
    people, boundary, per_image = PersonCounts(), BoundaryCounts(), []
    last_line = start = time.monotonic()
    for index, row in enumerate(rows.itertuples()):
        image, truth = read_sample(root, str(row.image_path), str(row.mask_path))
        probability = predict(image)
        if probability.dtype != np.uint8:
            raise ValueError(f"prediction is of type {probability.dtype}, not uint8")
        prediction = probability >= threshold * 255
        confusion = BinaryConfusion()
        for counts in (confusion, people, boundary):
            counts.update(prediction, truth)
        per_image.append({"sample_id": str(row.sample_id), **asdict(confusion)})
        if on_sample:
            on_sample(index, image, truth, prediction)
        now, done = time.monotonic(), index + 1
        if done == len(rows) or now - last_line >= PROGRESS_EVERY:
            last_line = now
            left = (now - start) / done * (len(rows) - done)
            print(f"{label}: {done}/{len(rows)} images, {left:.0f} s left", file=sys.stderr, flush=True)
    return Accuracy(people, boundary, pd.DataFrame(per_image, columns=["sample_id", *PIXEL_COUNTS]))


def accuracy_figures(accuracy: Accuracy, beta: float) -> dict[str, Any]:
    """Name the metrics as the benchmark's files do.

    All are shares from 0 to 1, but for ``beta``, the numbers of people and, in ``person_height_buckets``, the heights
    in pixels that part small from medium and medium from large people. A rate or recall of people is None where there
    are none.
    """
    confusion, people = accuracy.confusion, accuracy.people
    buckets = {name: getattr(people, name) for name in HEIGHT_BUCKETS}
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
        "boundary_f": accuracy.boundary.f_measure,
        "person_miss_rate": {
            name: {"people": bucket.people, "missed": bucket.missed, "rate": bucket.miss_rate}
            for name, bucket in {"all": people.all, **buckets}.items()
        },
        "recall_by_height": {name: bucket.recall for name, bucket in buckets.items()},
        "person_height_buckets": {"small_below": SMALL_BELOW, "large_above": LARGE_ABOVE},
    }
