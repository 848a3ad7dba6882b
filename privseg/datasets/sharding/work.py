"""What worker processes do with a shard: ingest its pairs, or look which of them show people.

Results are lines of JSON, which a worker writes without pandas; floats survive exactly.
"""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image

from privseg.datasets.features import components, features, people_rows
from privseg.datasets.fit import Resize, fit, label_ratios
from privseg.datasets.sharding.build import Batch
from privseg.datasets.sources.base import HUMAN, Image, Mask, Sample, file_stem
from privseg.errors import DataError

__all__ = ["IdentifyWork", "IngestWork", "read_rows"]

_ROWS = "rows.jsonl"


@dataclass(frozen=True)
class IngestWork:
    """Writes ``images/*.jpg`` and ``masks/*.png`` of a shard, and its rows of manifest and people."""

    source: str
    size: int
    resize: Resize

    def __call__(self, batch: Batch) -> None:
        """Do it; the rows hold the manifest's columns that differ from an empty row's."""
        for kind in ("images", "masks"):
            (batch.folder / kind).mkdir()
        with (batch.folder / _ROWS).open("x", encoding="utf-8") as file:
            for sample in batch:
                row = {"sample_id": f"{self.source}/{sample.name}", "source": self.source, "pool": sample.pool}
                try:
                    image, mask = sample.load()
                except DataError as error:
                    batch.unreadable += 1
                    row |= {"status": "removed", "reason": "unreadable", "detail": f"{error.subject}: {error.fault}"}
                    result: dict[str, Any] = {"row": row, "people": []}
                else:
                    result = self._pair(sample, row, image, mask, batch.folder)
                file.write(json.dumps(result) + "\n")

    def _pair(self, sample: Sample, row: dict[str, Any], image: Image, mask: Mask, folder: Path) -> dict[str, Any]:
        fitted = fit(image, mask, size=self.size, resize=self.resize)
        stem = file_stem(sample.name)
        image_file, mask_file = f"images/{stem}.jpg", f"masks/{stem}.png"
        image_bytes = _encode(fitted.image, "JPEG", quality=95, subsampling=0)  # 0: 4:4:4, full colour resolution
        mask_bytes = _encode(fitted.mask, "PNG")
        digest = hashlib.sha256(image_bytes)
        digest.update(mask_bytes)
        for name, data in ((image_file, image_bytes), (mask_file, mask_bytes)):
            with open(f"{folder}/{name}", "xb") as file:  # noqa: PTH123 - pathlib takes as long as the system call
                file.write(data)
        people = components(fitted)
        row |= {
            "image_path": f"{self.source}/{image_file}",
            "mask_path": f"{self.source}/{mask_file}",
            "original_height": mask.shape[0],
            "original_width": mask.shape[1],
            "sha256": digest.hexdigest(),
            **features(fitted, people),
        }
        return {"row": row, "people": people_rows(row["sample_id"], fitted, people)}


@dataclass(frozen=True)
class IdentifyWork:
    """Reads the masks of a shard, never the images, and writes a row for each."""

    def __call__(self, batch: Batch) -> None:
        """Do it; the rows are those of ``identified.parquet``."""
        with (batch.folder / _ROWS).open("x", encoding="utf-8") as file:
            for sample in batch:
                row: dict[str, Any] = {"name": sample.name, "pool": sample.pool}
                try:
                    mask = sample.load_mask()
                except DataError as error:
                    batch.unreadable += 1
                    row |= {"is_human": False, "human_ratio": 0.0, "height": 0, "width": 0}
                    row["fault"] = f"{error.subject}: {error.fault}"
                else:
                    row |= {"is_human": bool(np.any(mask == HUMAN)), "human_ratio": label_ratios(mask)[0]}
                    row |= {"height": mask.shape[0], "width": mask.shape[1], "fault": ""}
                file.write(json.dumps(row) + "\n")


def read_rows(shard: Path) -> Iterator[dict[str, Any]]:
    """What a work wrote for the samples of a finished shard, in their order."""
    with (shard / _ROWS).open(encoding="utf-8") as file:
        for line in file:
            yield json.loads(line)


def _encode(pixels: Image | Mask, kind: str, **options: int) -> bytes:
    buffer = io.BytesIO()
    PIL.Image.fromarray(pixels).save(buffer, kind, **options)  # no EXIF: the array carries none
    return buffer.getvalue()
