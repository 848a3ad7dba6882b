"""How well a model in training finds people on the validation split."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray

from privseg.datasets.manifest import read_manifest
from privseg.errors import DataError
from privseg.training import _distributed
from privseg.training._distributed import Processes
from privseg.training.data import split_rows
from privseg.training.metrics import BinaryConfusion
from privseg.training.segmentor import PersonSegmentor

__all__ = ["Validation", "validation_rows"]

MAX_IMAGES = 64  # a look at them takes seconds, and is repeated
THRESHOLD = 128  # of 255: the class that is more likely


def validation_rows(manifest: Path, root: Path) -> pd.DataFrame | None:
    """Read the rows to validate on: all of the split, or evenly spaced ones of it; None if it is empty.

    Raises:
        DataError: The manifest cannot be used, or a file it names is missing.
    """
    table = read_manifest(manifest)
    if not ((table["split"] == "validation") & (table["status"] == "kept")).any():
        return None
    rows = split_rows(manifest, root, "validation")
    count = min(MAX_IMAGES, len(rows))
    return rows.iloc[np.arange(count) * len(rows) // count].reset_index(drop=True)


class Validation:
    """The intersection over union of human pixels, over the validation images that the processes share.

    Args:
        candidate: Name of the candidate.
        rows: Manifest rows.
        root: Folder their paths are relative to.
        processes: Each looks at its share of the images.
    """

    def __init__(self, candidate: str, rows: pd.DataFrame, root: Path, processes: Processes) -> None:
        self.candidate = candidate
        self.rows = rows
        self.root = root
        self.processes = processes

    def score(self, model: Any) -> float:
        """Measure a model as it would be served; the model itself stays as it is.

        Raises:
            DataError: An image or mask cannot be read.
        """
        segmentor = PersonSegmentor(self.candidate, copy.deepcopy(model)).to(self.processes.device).eval()
        confusion = BinaryConfusion()
        for row in self.rows.iloc[self.processes.rank :: self.processes.count].itertuples():
            image = _read(self.root / str(row.image_path), cv2.IMREAD_COLOR)[:, :, ::-1]
            truth = _read(self.root / str(row.mask_path), cv2.IMREAD_UNCHANGED)
            batch = torch.from_numpy(np.ascontiguousarray(image))[None].to(self.processes.device)
            with torch.inference_mode():
                probability = segmentor(batch)[0].cpu().numpy()
            confusion.update(probability >= THRESHOLD, truth)
        counts = _distributed.total(confusion.tp, confusion.fp, confusion.fn, confusion.tn)
        return BinaryConfusion(*counts).iou_human


def _read(path: Path, flags: int) -> NDArray[np.uint8]:
    pixels = cv2.imread(str(path), flags)
    if pixels is None:
        raise DataError(path, "cannot be read as an image", "restore it, in the workspace: dvc checkout --force")
    return np.asarray(pixels, dtype=np.uint8)
