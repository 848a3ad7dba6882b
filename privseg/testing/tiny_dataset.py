"""A dataset of a few drawn pictures, in the layout that training and benchmark read."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np

from privseg.datasets.manifest import empty_row, manifest_frame, write_manifest

__all__ = ["make_tiny_dataset"]

IGNORED_ROWS = 8


def make_tiny_dataset(
    folder: Path, *, size: int = 96, splits: tuple[str, ...] = ("train",) * 8 + ("test",) * 4, seed: int = 0
) -> tuple[Path, Path]:
    """Draw bright standing figures on dark noise; every fourth picture of a split shows nobody.

    The lowest eight rows of each mask are 255 (not labelled), as letterbox padding is.

    Args:
        folder: Where the files go.
        size: Height and width in pixels.
        splits: The split of each picture.
        seed: Of the drawing.

    Returns:
        The manifest and the folder its paths are relative to.
    """
    generator = np.random.default_rng(seed)
    root = folder / "data"
    root.mkdir(parents=True, exist_ok=True)
    rows = []
    for index, split in enumerate(splits):
        image = generator.integers(0, 60, (size, size, 3), dtype=np.uint8)
        mask = np.zeros((size, size), dtype=np.uint8)
        if index % 4 != 3:
            x, y = (int(value) for value in generator.integers(size // 4, size // 2, 2))
            figure = ((x, y), (size // 10, size // 4), 0, 0, 360)
            cv2.ellipse(image, *figure, (200, 180, 220), -1)
            cv2.ellipse(mask, *figure, 1, -1)
        mask[-IGNORED_ROWS:] = 255
        name = f"{split}_{index:03d}"
        cv2.imwrite(str(root / f"{name}.png"), image)
        cv2.imwrite(str(root / f"{name}_mask.png"), mask)
        human = np.count_nonzero(mask == 1)
        rows.append(
            empty_row(
                sample_id=f"tiny/{name}",
                source="tiny",
                image_path=f"{name}.png",
                mask_path=f"{name}_mask.png",
                height=size,
                width=size,
                original_height=size,
                original_width=size,
                is_human=human > 0,
                human_ratio=human / (mask != 255).sum(),
                ignore_ratio=float((mask == 255).mean()),
                components=int(human > 0),
                largest_component_ratio=human / mask.size,
                min_component_height=size // 2 if human else 0,
                max_component_height=size // 2 if human else 0,
                phash=f"{index:016x}",
                split=split,
                sha256=f"{index:064x}",
                pool="test" if split == "test" else "train",
                pixel_std=float(image.std()),
            )
        )
    manifest = folder / "manifest.parquet"
    write_manifest(manifest, manifest_frame(rows))
    return manifest, root
