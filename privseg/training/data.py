"""The training images of a manifest, as mmsegmentation reads and augments them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from privseg.datasets.manifest import read_manifest
from privseg.errors import DataError
from privseg.training._mm import DATASETS, TRANSFORMS, BaseSegDataset, BaseTransform
from privseg.training.candidates import CLASSES
from privseg.training.configs import IGNORE

__all__ = ["PersonCrop", "PersonDataset", "UnreadableSampleError", "split_rows", "training_pipeline"]

HUMAN = CLASSES.index("human")


class UnreadableSampleError(Exception):
    """An image or mask could not be read.

    Takes one text, unlike the errors of ``privseg.errors``: a data loading process can hand on no other kind whole.
    """


def split_rows(manifest: Path, root: Path, split: str) -> pd.DataFrame:
    """Read the kept rows of one split, sorted by sample id.

    Args:
        manifest: The dataset's manifest (Parquet).
        root: Folder that ``image_path`` and ``mask_path`` are relative to.
        split: ``train``, ``validation`` or ``test``.

    Raises:
        DataError: The manifest cannot be used, the split is empty, or a file it names is missing.
    """
    table = read_manifest(manifest)
    rows = table[(table["split"] == split) & (table["status"] == "kept")].sort_values("sample_id")
    if rows.empty:
        raise DataError(manifest, f"has no kept image in its {split} split", "dvc repro split")
    for relative in (*rows["image_path"], *rows["mask_path"]):
        if not (root / relative).is_file():
            raise DataError(root / relative, "is named by the manifest but missing", "dvc repro ingest")
    return rows.reset_index(drop=True)


@TRANSFORMS.register_module()
class PersonCrop(BaseTransform):
    """Cut a square crop, more often than chance around a person.

    A camera's picture is mostly background: crops placed blindly would seldom show a person, and training time is
    short. The rest of the crops stays blind, so that background is learnt as well.

    Args:
        size: Height and width of the crop in pixels; a smaller picture is taken whole (and padded later).
        person_share: Share of the crops that must contain a randomly chosen human pixel, if there is one.
    """

    def __init__(self, size: int, person_share: float) -> None:
        self.size = size
        self.person_share = person_share

    def transform(self, results: dict[str, Any]) -> dict[str, Any]:
        """Crop ``img`` uint8 ``[H, W, 3]`` and ``gt_seg_map`` uint8 ``[H, W]`` alike."""
        labels = results["gt_seg_map"]
        low, high = np.zeros(2, int), np.maximum(np.array(labels.shape) - self.size, 0)
        if np.random.random() < self.person_share:  # noqa: NPY002 - mmengine seeds the global generator
            people = np.flatnonzero(labels == HUMAN)
            if people.size:
                pixel = np.array(np.unravel_index(np.random.choice(people), labels.shape))  # noqa: NPY002
                low, high = np.maximum(pixel - self.size + 1, low), np.minimum(pixel, high)
        top, left = np.random.randint(low, high + 1)  # noqa: NPY002
        window = np.s_[top : top + self.size, left : left + self.size]
        results["img"], results["gt_seg_map"] = results["img"][window], labels[window]
        results["img_shape"] = results["img"].shape[:2]
        return results


def training_pipeline(size: int, crop: int) -> list[dict[str, Any]]:
    """Random scale (0.35 to 1.6 of ``size``), crop, flip and colours, as mmsegmentation transforms.

    People in a camera's picture are small or large: the wide range of scales stands for that. Colours change last,
    on the crop alone, since that costs most.
    """
    return [
        {"type": "LoadImageFromFile"},
        {"type": "LoadAnnotations"},
        {"type": "RandomResize", "scale": (size, size), "ratio_range": (0.35, 1.6), "keep_ratio": True},
        {"type": "PersonCrop", "size": crop, "person_share": 0.5},
        {"type": "RandomFlip", "prob": 0.5},
        {"type": "PhotoMetricDistortion"},
        {"type": "PackSegInputs"},
    ]


@DATASETS.register_module()
class PersonDataset(BaseSegDataset):
    """The kept images of one split of a manifest.

    Args:
        manifest: The dataset's manifest (Parquet).
        root: Folder its paths are relative to.
        split: ``train``, ``validation`` or ``test``.
        pipeline: mmsegmentation transforms.
    """

    METAINFO = {"classes": CLASSES, "palette": [[0, 0, 0], [255, 255, 255]]}  # noqa: RUF012 - the parent's interface

    def __init__(self, manifest: Path, root: Path, split: str, pipeline: list[dict[str, Any]]) -> None:
        self.rows = split_rows(manifest, root, split)
        self.root = root
        super().__init__(pipeline=[TRANSFORMS.build(step) for step in pipeline], ignore_index=IGNORE)

    def load_data_list(self) -> list[dict[str, Any]]:
        """List the images and masks as mmsegmentation expects them."""
        return [
            {
                "img_path": str(self.root / image),
                "seg_map_path": str(self.root / mask),
                "label_map": None,
                "reduce_zero_label": False,
                "seg_fields": [],
            }
            for image, mask in zip(self.rows["image_path"], self.rows["mask_path"], strict=True)
        ]

    def prepare_data(self, idx: int) -> Any:
        """Read and augment one image.

        Raises:
            UnreadableSampleError: Its files cannot be decoded, or do not fit together.
        """
        try:
            return super().prepare_data(idx)
        except Exception as error:  # the decoders raise many kinds
            raise UnreadableSampleError(f"{self.get_data_info(idx)['img_path']} or its mask ({error})") from error
