"""The training images of a manifest, as mmsegmentation reads and augments them."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from privseg.datasets.manifest import read_manifest
from privseg.errors import DataError
from privseg.params import AugmentParams, Params
from privseg.training._mm import DATASETS, TRANSFORMS, BaseSegDataset
from privseg.training.augment import CameraLook, PersonCrop
from privseg.training.candidates import CLASSES
from privseg.training.configs import IGNORE
from privseg.training.copy_paste import CopyPaste
from privseg.training.memory import is_out_of_memory

__all__ = [
    "PersonDataset",
    "UnreadableSampleError",
    "drawn_sources",
    "people_files",
    "split_rows",
    "training_pipeline",
]

FIFTHS = 5


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


def training_pipeline(
    crop: int, augment: AugmentParams, people: Sequence[tuple[str, str]] = (), *, edges: bool = False
) -> list[dict[str, Any]]:
    """List the mmsegmentation transforms of training: cut and scale, paste people, flip, the look of a camera.

    Args:
        crop: Height and width in pixels of a training crop.
        augment: Shares and scales.
        people: Image and mask files to cut people out of (`people_files`); none: nothing is pasted.
        edges: Add the map of outlines that PIDNet's boundary loss needs.
    """
    return [
        {"type": "LoadImageFromFile"},
        {"type": "LoadAnnotations"},
        {
            "type": PersonCrop.__name__,
            "size": crop,
            "person_share": augment.person_share,
            "min_scale": augment.min_scale,
            "max_scale": augment.max_scale,
        },
        {"type": CopyPaste.__name__, "people": people, "share": augment.copy_paste},
        {"type": "RandomFlip", "prob": 0.5},
        {
            "type": CameraLook.__name__,
            "photometric": augment.photometric,
            "night": augment.night,
            "blur": augment.blur,
            "low_resolution": augment.low_resolution,
            "compression": augment.compression,
            "grey": augment.grey,
        },
        *([{"type": "GenerateEdge", "edge_width": 4}] if edges else []),
        {"type": "PackSegInputs"},
    ]


def drawn_sources(params: Params) -> list[str]:
    """List the sources whose pictures are drawn, not photographed, by name."""
    return sorted(name for name, source in params.sources.items() if source.kind == "synthetic")


def people_files(root: Path, rows: pd.DataFrame, drawn: Collection[str] = ()) -> list[tuple[str, str]]:
    """List the image and mask files of the manifest rows that show people to cut out.

    Args:
        root: Folder that the paths are relative to.
        rows: Rows of the manifest.
        drawn: Sources whose people are drawn: cut out only where there are no others, they would look pasted.
    """
    rows = rows[rows["is_human"]]
    photographed = rows[~rows["source"].isin(drawn)]
    rows = rows if photographed.empty else photographed
    return [(str(root / a), str(root / b)) for a, b in zip(rows["image_path"], rows["mask_path"], strict=True)]


@DATASETS.register_module()
class PersonDataset(BaseSegDataset):
    """The kept images of one split of a manifest.

    Args:
        manifest: The dataset's manifest (Parquet).
        root: Folder its paths are relative to.
        split: ``train``, ``validation`` or ``test``.
        pipeline: mmsegmentation transforms.
        weights: How often a source's pictures are drawn relative to the others', rounded to fifths; 1 where not named.
        no_human_weight: How often pictures without people are drawn relative to the others of their source.
    """

    METAINFO = {"classes": CLASSES, "palette": [[0, 0, 0], [255, 255, 255]]}  # noqa: RUF012 - the parent's interface

    def __init__(
        self,
        manifest: Path,
        root: Path,
        split: str,
        pipeline: list[dict[str, Any]],
        weights: Mapping[str, float] | None = None,
        no_human_weight: float = 1.0,
    ) -> None:
        self.rows = split_rows(manifest, root, split)
        self.weights = weights or {}
        self.no_human_weight = no_human_weight
        self.root = root
        super().__init__(pipeline=[TRANSFORMS.build(step) for step in pipeline], ignore_index=IGNORE)

    def load_data_list(self) -> list[dict[str, Any]]:
        """List the images and masks as mmsegmentation expects them, each as often as its source's weight says."""
        rows = self.rows
        if self.weights or self.no_human_weight != 1.0:
            weights = rows["source"].map(lambda source: self.weights.get(source, 1.0))
            weights = weights.where(rows["is_human"], weights * self.no_human_weight)
            rows = rows.loc[rows.index.repeat((FIFTHS * weights).round().clip(lower=1).astype(int))]
        return [
            {
                "img_path": str(self.root / image),
                "seg_map_path": str(self.root / mask),
                "label_map": None,
                "reduce_zero_label": False,
                "seg_fields": [],
            }
            for image, mask in zip(rows["image_path"], rows["mask_path"], strict=True)
        ]

    def prepare_data(self, idx: int) -> Any:
        """Read and augment one image.

        Raises:
            UnreadableSampleError: Its files cannot be decoded, or do not fit together.
            MemoryError: There is no memory to read them into.
        """
        try:
            return super().prepare_data(idx)
        except Exception as error:  # the decoders raise many kinds
            if is_out_of_memory(error):
                # of the one kind that a data loading process can hand on whole
                raise MemoryError(str(error)) from error
            raise UnreadableSampleError(f"{self.get_data_info(idx)['img_path']} or its mask ({error})") from error
