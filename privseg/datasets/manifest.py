"""The manifest: one Parquet row an image, the only thing later stages know of a dataset.

========================== =====================================================================================
column                     meaning
========================== =====================================================================================
sample_id                  ``source/name``; the key, and the sort order
source                     key of the source in ``params.yaml``
image_path, mask_path      relative to the dataset's root, the folder that holds all sources; '' if unreadable
height, width              pixels of the written image and mask
original_height, -_width   pixels before resizing
is_human                   at least one pixel is human
human_ratio                human pixels / labelled pixels (0 and 1), 0..1
ignore_ratio               ignored pixels / content pixels, 0..1; padding is not content
components                 8-connected groups of human pixels at the written size
largest_component_ratio    pixels of the largest component / content pixels
min_component_height       pixels; height of the lowest component, 0 without people
phash                      64-bit perceptual hash (DCT) of the original image, 16 hex digits
split                      train, validation, test; '' until split, and for removed rows
status                     kept or removed
reason                     why removed, a code; '' for kept rows
sha256                     hex digest of the written image file followed by the mask file
pool                       train or test: where the source's own division puts the image
max_component_height       pixels; height of the tallest component, 0 without people
pixel_std                  standard deviation of grey levels (0..255) over the content
people                     components at least a fiftieth of the content high: an estimate of the number of people
tallest_ratio              height of the tallest component / height of the content, 0..1
borders_touched            borders of the content (0..4) that the largest component touches, or comes nearer to than a
                           hundredth of the content's longer side, where outlines drawn by hand end
truncated_ratio            human pixels of components that touch a border, in that sense / human pixels, 0..1
foot_x, foot_y             bottom centre of the largest component, as shares of the content's width and height; 0
                           without people
box_fill                   pixels of the largest component / area of its bounding box, 0..1
contour_contrast           mean difference in grey level (0..255) between the two sides of the people's outlines
surveillance_score         how much the picture looks like a surveillance camera's, 0..1; 0 until analysed and without
                           people (`privseg.datasets.score`)
suspect                    why the label may be wrong, codes joined by commas; '' if nothing is suspicious. Suspects are
                           listed, not removed
duplicate_of               sample_id of the picture that was kept instead of this one; '' if it is no duplicate
detail                     free text: file and fault of an unreadable sample; not part of the dataset's version
========================== =====================================================================================
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import os
import tempfile
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from privseg.errors import DataError, StorageError, UsageError

__all__ = [
    "MANIFEST_COLUMNS",
    "dataset_version",
    "empty_row",
    "manifest_fingerprint",
    "manifest_frame",
    "merge_manifests",
    "read_manifest",
    "write_atomic",
    "write_manifest",
]

_TYPES: dict[str, str] = {
    "sample_id": "str",
    "source": "str",
    "image_path": "str",
    "mask_path": "str",
    "height": "int64",
    "width": "int64",
    "original_height": "int64",
    "original_width": "int64",
    "is_human": "bool",
    "human_ratio": "float64",
    "ignore_ratio": "float64",
    "components": "int64",
    "largest_component_ratio": "float64",
    "min_component_height": "int64",
    "phash": "str",
    "split": "str",
    "status": "str",
    "reason": "str",
    "sha256": "str",
    "pool": "str",
    "max_component_height": "int64",
    "pixel_std": "float64",
    "people": "int64",
    "tallest_ratio": "float64",
    "borders_touched": "int64",
    "truncated_ratio": "float64",
    "foot_x": "float64",
    "foot_y": "float64",
    "box_fill": "float64",
    "contour_contrast": "float64",
    "surveillance_score": "float64",
    "suspect": "str",
    "duplicate_of": "str",
    "detail": "str",
}
_ARROW = {"str": pa.string(), "int64": pa.int64(), "float64": pa.float64(), "bool": pa.bool_()}
_SCHEMA = pa.schema([pa.field(name, _ARROW[kind], nullable=False) for name, kind in _TYPES.items()])
MANIFEST_COLUMNS: tuple[str, ...] = tuple(_TYPES)
_ROWS_AT_ONCE = 10_000


def empty_row(**values: Any) -> dict[str, Any]:
    """A kept row without content: '' 0, 0.0 and False, but for ``values``."""
    blank: dict[str, Any] = {"str": "", "int64": 0, "float64": 0.0, "bool": False}
    return {name: blank[kind] for name, kind in _TYPES.items()} | {"status": "kept"} | values


def manifest_frame(rows: Iterable[dict[str, Any]]) -> pd.DataFrame:
    """Build a manifest from plain rows; every column must be there, the order and types are put right."""
    return pd.DataFrame(list(rows), columns=list(MANIFEST_COLUMNS)).astype(_TYPES)


def write_manifest(path: Path, df: pd.DataFrame) -> None:
    """Write a manifest sorted by sample_id, atomically; the same content gives the same bytes.

    Raises:
        StorageError: The disk is full or the place cannot be written.
    """
    ordered = df[list(MANIFEST_COLUMNS)].astype(_TYPES).sort_values("sample_id", ignore_index=True)
    buffer = io.BytesIO()
    pq.write_table(pa.Table.from_pandas(ordered, schema=_SCHEMA, preserve_index=False), buffer, compression="zstd")
    write_atomic(path, buffer.getvalue())


def read_manifest(path: Path) -> pd.DataFrame:
    """Read a manifest.

    Raises:
        DataError: The file is missing, is no Parquet, lacks a column (named), or a column has another type.
    """
    if not path.is_file():
        raise DataError(path, "there is no manifest here", "run the ingest stage first: dvc repro")
    try:
        table = pq.ParquetFile(io.BytesIO(path.read_bytes())).read()
    except (OSError, pa.ArrowException) as error:
        raise DataError(path, f"is no readable Parquet file ({error})", "run the stage that writes it again") from None
    frame: pd.DataFrame = table.to_pandas()
    for field in _SCHEMA:
        if field.name not in table.column_names:
            raise DataError(path, f"the manifest has no column {field.name}", "run the stage that writes it again")
        found = table.schema.field(field.name).type
        fits = found == field.type or (pa.types.is_large_string(found) and pa.types.is_string(field.type))
        if not fits or frame[field.name].isna().any():
            raise DataError(path, f"column {field.name} is not all {field.type}", "run the stage that writes it again")
    return frame.astype(_TYPES)


def merge_manifests(paths: Sequence[Path]) -> pd.DataFrame:
    """Read several manifests into one, sorted by sample_id.

    Raises:
        UsageError: No path was given.
        DataError: A manifest cannot be read, or a sample is in two of them.
    """
    if not paths:
        raise UsageError("manifests", "none was given", "name at least one manifest.parquet")
    merged = pd.concat([read_manifest(path) for path in paths], ignore_index=True)
    merged = merged.sort_values("sample_id", ignore_index=True)
    repeated = merged.loc[merged["sample_id"].duplicated(), "sample_id"]
    if not repeated.empty:
        raise DataError(repeated.iloc[0], "is in more than one manifest", "give every source its own name")
    return merged


def manifest_fingerprint(df: pd.DataFrame) -> str:
    """Sha256 hex digest of the content: independent of row order, and of ``detail``, which names local paths."""
    columns = [name for name in MANIFEST_COLUMNS if name != "detail"]
    ordered = df[columns].astype({name: _TYPES[name] for name in columns}).sort_values("sample_id")
    digest = hashlib.sha256()
    for start in range(0, max(1, len(ordered)), _ROWS_AT_ONCE):  # the text of all rows at once would fill the memory
        part = ordered.iloc[start : start + _ROWS_AT_ONCE]
        text = part.to_csv(index=False, header=start == 0, float_format="%.17g", lineterminator="\n")
        digest.update(text.encode())
    return digest.hexdigest()


def dataset_version(df: pd.DataFrame) -> str:
    """The version that a model's record names: ``ds-`` and the first 12 digits of the fingerprint."""
    return f"ds-{manifest_fingerprint(df)[:12]}"


def write_atomic(path: Path, data: bytes) -> None:
    """Write ``data`` beside ``path`` and rename it into place, so that readers see all of it or the old file.

    Raises:
        StorageError: The disk is full or the place cannot be written; what was there before still is.
    """
    temporary: str | None = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, temporary = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
        with os.fdopen(handle, "wb") as file:
            os.fchmod(handle, 0o644)
            file.write(data)
        os.replace(temporary, path)  # noqa: PTH105 - the atomic one
    except OSError as error:
        if temporary is not None:
            with contextlib.suppress(OSError):
                Path(temporary).unlink()
        raise StorageError.from_os_error(path, error) from None
