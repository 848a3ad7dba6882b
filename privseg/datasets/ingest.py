"""Ingest one source: every pair becomes a JPEG, a binary PNG mask and a manifest row.

Beside the destination a hidden folder is filled and then renamed into place, so that a failed run leaves an
earlier ingest as it was.
"""

from __future__ import annotations

import functools
import hashlib
import io
import multiprocessing
import os
import shutil
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import cv2
import imagehash
import numpy as np
import pandas as pd
import PIL.Image

from privseg.datasets.manifest import empty_row, manifest_frame, write_manifest
from privseg.datasets.sources.base import BACKGROUND, HUMAN, IGNORE, Image, Mask, Sample
from privseg.datasets.sources.registry import open_source
from privseg.errors import DataError, StorageError, UsageError
from privseg.params import ImageParams, Params

__all__ = ["Fitted", "fit", "ingest", "label_ratios"]

_POOL_PAYS_FROM = 32  # samples; below, starting processes takes longer than the work
_PROGRESS_SECONDS = 2.0


@dataclass(frozen=True)
class Fitted:
    """A pair at the ingested size.

    Attributes:
        image: RGB uint8 ``(size, size, 3)``; padding is black.
        mask: uint8 ``(size, size)`` of 0, 1, 255; padding is 255.
        content: Rows and columns the picture itself covers.
    """

    image: Image
    mask: Mask
    content: tuple[slice, slice]


def fit(image: Image, mask: Mask, *, size: int, resize: Literal["letterbox", "stretch"] = "letterbox") -> Fitted:
    """Bring a pair to ``size`` × ``size`` pixels.

    Letterbox scales both sides by one factor and centres the picture; stretch fills the square.

    Args:
        image: RGB uint8 ``(H, W, 3)``.
        mask: uint8 ``(H, W)`` of 0, 1, 255.
        size: Height and width of the result in pixels.
        resize: The policy.
    """
    height, width = mask.shape
    scale = size / max(height, width)
    new_height, new_width = size, size
    if resize == "letterbox":
        new_height, new_width = max(1, round(height * scale)), max(1, round(width * scale))
    shrinks = new_height * new_width < height * width
    top, left = (size - new_height) // 2, (size - new_width) // 2
    content = slice(top, top + new_height), slice(left, left + new_width)
    out_image = np.zeros((size, size, 3), np.uint8)
    out_mask = np.full((size, size), IGNORE, np.uint8)
    out_image[content] = cv2.resize(
        image, (new_width, new_height), interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR
    )
    # The exact variant samples at pixel centres, as area and linear do; the plain one shifts masks by up to a pixel.
    out_mask[content] = cv2.resize(mask, (new_width, new_height), interpolation=cv2.INTER_NEAREST_EXACT)
    return Fitted(out_image, out_mask, content)


def label_ratios(mask: Mask) -> tuple[float, float]:
    """Human share of the labelled pixels, and ignored share of all pixels, of a uint8 ``(H, W)`` mask; both 0..1."""
    background, human, ignored = (int(np.count_nonzero(mask == value)) for value in (BACKGROUND, HUMAN, IGNORE))
    return human / max(1, background + human), ignored / mask.size


def ingest(params: Params, source: str, out_dir: Path, *, processes: int | None = None) -> pd.DataFrame:
    """Ingest a source into ``out_dir``: ``images/*.jpg``, ``masks/*.png`` and ``manifest.parquet``.

    A sample that cannot be read becomes a removed row with reason ``unreadable``; the others go on. Memory is
    bounded by the pairs in work.

    Args:
        params: The whole parameters; ``params.sources[source]`` is read.
        source: Key of the source.
        out_dir: Destination; its last part is the source's name, its parent the dataset's root.
        processes: Worker processes; 2 by default, or the processor's count if that is less.

    Returns:
        The manifest, sorted by sample_id.

    Raises:
        UsageError: The source is not in the parameters, or ``out_dir`` does not end in its name.
        DataError: The source's folder is wrong or empty.
        StorageError: The disk is full or the place cannot be written; an earlier ingest is left as it was.
    """
    if source not in params.sources:
        raise UsageError(source, "is no source in params.yaml", f"choose one of {', '.join(params.sources)}")
    if out_dir.name != source:
        raise UsageError(out_dir, f"does not end in the source's name {source}", f"write to {out_dir / source}")
    opened = open_source(
        source, params.sources[source], raw_root=Path(params.raw_root), size=params.image.size, seed=params.seed
    )
    samples = list(opened.samples())
    partial, previous = (out_dir.parent / f".{source}.{what}" for what in ("partial", "previous"))
    try:
        _prepare(out_dir, partial, previous)
        work = functools.partial(_ingest_sample, source=source, folder=partial, image_params=params.image)
        rows = list(_progress(source, len(samples), _run(work, samples, processes)))
        df = manifest_frame(rows)
        write_manifest(partial / "manifest.parquet", df)
        _publish(partial, out_dir, previous)
    except OSError as error:
        raise StorageError.from_os_error(out_dir, error) from None
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return df


def _prepare(out_dir: Path, partial: Path, previous: Path) -> None:
    if previous.exists() and not out_dir.exists():  # an earlier run died between its two renames
        previous.rename(out_dir)
    for leftover in (partial, previous):
        if leftover.exists():
            shutil.rmtree(leftover)
    for folder in ("images", "masks"):
        (partial / folder).mkdir(parents=True)


def _publish(partial: Path, out_dir: Path, previous: Path) -> None:
    if out_dir.exists():
        out_dir.rename(previous)
    partial.rename(out_dir)
    shutil.rmtree(previous, ignore_errors=True)


def _run(
    work: functools.partial[dict[str, Any]], samples: list[Sample], processes: int | None
) -> Iterator[dict[str, Any]]:
    workers = processes or min(2, os.cpu_count() or 1)
    if workers == 1 or len(samples) < _POOL_PAYS_FROM:
        yield from map(work, samples)
        return
    # Spawned, because forking a process that runs threads (a scheduler, torch) can deadlock.
    spawn = multiprocessing.get_context("spawn")
    pool = ProcessPoolExecutor(workers, spawn, initializer=cv2.setNumThreads, initargs=(1,))
    try:
        yield from pool.map(work, samples, chunksize=4)
    finally:
        pool.shutdown(cancel_futures=True)


def _progress(source: str, total: int, rows: Iterator[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    unreadable, last = 0, time.monotonic()
    for done, row in enumerate(rows, start=1):
        unreadable += row["reason"] == "unreadable"
        if done == total or time.monotonic() - last >= _PROGRESS_SECONDS:
            last = time.monotonic()
            print(f"ingest {source}: {done}/{total} images, {unreadable} unreadable", file=sys.stderr, flush=True)
        yield row


def _ingest_sample(sample: Sample, *, source: str, folder: Path, image_params: ImageParams) -> dict[str, Any]:
    row = empty_row(sample_id=f"{source}/{sample.name}", source=source, pool=sample.pool)
    try:
        image, mask = sample.load()
    except DataError as error:
        return row | {"status": "removed", "reason": "unreadable", "detail": f"{error.subject}: {error.fault}"}
    fitted = fit(image, mask, size=image_params.size, resize=image_params.resize)
    image_file, mask_file = f"images/{sample.name}.jpg", f"masks/{sample.name}.png"
    image_bytes = _encode(fitted.image, "JPEG", quality=95, subsampling=0)  # 0: 4:4:4, full colour resolution
    mask_bytes = _encode(fitted.mask, "PNG")
    (folder / image_file).write_bytes(image_bytes)
    (folder / mask_file).write_bytes(mask_bytes)
    return row | {
        "image_path": f"{source}/{image_file}",
        "mask_path": f"{source}/{mask_file}",
        "original_height": mask.shape[0],
        "original_width": mask.shape[1],
        "phash": str(imagehash.phash(PIL.Image.fromarray(image))),
        "sha256": hashlib.sha256(image_bytes + mask_bytes).hexdigest(),
        **_features(fitted),
    }


def _features(fitted: Fitted) -> dict[str, Any]:
    """The manifest's measurements of a fitted pair; padding counts for none of them."""
    mask, image = fitted.mask[fitted.content], fitted.image[fitted.content]
    human_ratio, ignore_ratio = label_ratios(mask)
    _, _, stats, _ = cv2.connectedComponentsWithStats((mask == HUMAN).astype(np.uint8), connectivity=8)
    people = stats[1:]  # row 0 is the background
    heights, areas = people[:, cv2.CC_STAT_HEIGHT], people[:, cv2.CC_STAT_AREA]
    return {
        "height": fitted.mask.shape[0],
        "width": fitted.mask.shape[1],
        "is_human": len(people) > 0,
        "human_ratio": human_ratio,
        "ignore_ratio": ignore_ratio,
        "components": len(people),
        "largest_component_ratio": float(areas.max(initial=0)) / mask.size,
        "min_component_height": int(heights.min()) if len(people) else 0,
        "max_component_height": int(heights.max(initial=0)),
        "pixel_std": float(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY).std()),
    }


def _encode(pixels: Image | Mask, kind: str, **options: int) -> bytes:
    buffer = io.BytesIO()
    PIL.Image.fromarray(pixels).save(buffer, kind, **options)  # no EXIF: the array carries none
    return buffer.getvalue()
