"""The tables the dataset gate looks at: the manifest's rows, and facts read from the files they name."""

from __future__ import annotations

import hashlib
import math
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd

from privseg.datasets.analyze import SPLITS
from privseg.datasets.ingest import label_ratios
from privseg.datasets.sources.base import BACKGROUND, HUMAN, IGNORE, evenly_spaced, read_image, read_mask
from privseg.errors import DataError
from privseg.params import Params

__all__ = ["Tables", "build_tables"]

_DECODED = 200  # kept pairs whose pixels are checked; of all others the bytes are, by sha256
_PROGRESS_SECONDS = 2.0
_PIXEL_FACTS = ("decodes", "size_fits", "values_closed", "ratio_fits")


@dataclass(frozen=True)
class Tables:
    """What the checks run on.

    Attributes:
        frames: manifest (all rows), kept, removed, files (kept rows and whether their bytes are intact), pixels
            (decoded pairs) and summary (one row of counts).
        suspects: For a check on the summary, the sample ids to name when it fails.
        faults: What is wrong with a sample's files, by sample id; begins with the file.
    """

    frames: dict[str, pd.DataFrame]
    suspects: dict[str, list[str]] = field(default_factory=dict)
    faults: dict[str, str] = field(default_factory=dict)


def build_tables(params: Params, df: pd.DataFrame, root: Path) -> Tables:
    """Derive the tables; reads every kept file once, and decodes at most 200 pairs, evenly spaced by name."""
    df = df.sort_values("sample_id", ignore_index=True)
    removed = df[df["status"] == "removed"]
    kept = df[df["status"] == "kept"].copy()
    kept["splits_of_sha256"] = kept.groupby("sha256")["split"].transform("nunique")
    kept["splits_of_phash"] = kept.groupby("phash")["split"].transform("nunique")
    kept["pool_fits_split"] = (kept["pool"] == "test") == (kept["split"] == "test")
    unreadable = removed[removed["reason"] == "unreadable"]
    faults = dict(zip(unreadable["sample_id"], unreadable["detail"], strict=True))
    files, pixels = _inspect_files(params, kept, root, faults)
    emptied = sorted(set(df["source"]) - set(kept["source"]))
    suspects = {
        "unreadable": list(unreadable["sample_id"]),
        "removed_share": list(removed["sample_id"]),
        "sources_emptied": list(removed.loc[removed["source"].isin(emptied), "sample_id"]),
    }
    frames = {
        "manifest": df,
        "kept": kept,
        "removed": removed,
        "files": files,
        "pixels": pixels,
        "summary": _summary(df, kept, len(unreadable), len(emptied)),
    }
    return Tables(frames, suspects, faults)


class _Pair(NamedTuple):
    sample_id: str
    image_path: str
    mask_path: str
    sha256: str
    human_ratio: float


def _summary(df: pd.DataFrame, kept: pd.DataFrame, unreadable: int, emptied: int) -> pd.DataFrame:
    people = kept.loc[kept["is_human"], "human_ratio"]
    return pd.DataFrame(
        {
            "images": [len(kept)],
            **{f"{name}_images": [int((kept["split"] == name).sum())] for name in SPLITS},
            "human_share": [len(people) / max(1, len(kept))],
            "mean_human_ratio": [float(people.mean()) if len(people) else 0.0],
            "removed_share": [1 - len(kept) / max(1, len(df))],
            "unreadable": [unreadable],
            "sources_emptied": [emptied],
        }
    )


def _inspect_files(
    params: Params, kept: pd.DataFrame, root: Path, faults: dict[str, str]
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Tables of intact files and of pixel facts; what is wrong with a file is added to ``faults``."""
    columns = kept[list(_Pair._fields)]
    rows = [_Pair(*values) for values in columns.itertuples(index=False, name=None)]
    intact = []
    for row in _progress(rows):
        fault = _byte_fault(root, row)
        intact.append(fault is None)
        if fault is not None:
            faults[row.sample_id] = fault
    changed = [row for row, whole in zip(rows, intact, strict=True) if not whole][:_DECODED]
    pixels = []
    for row in dict.fromkeys([*evenly_spaced(rows, _DECODED), *changed]):
        facts, fault = _pixel_facts(root, row, params.image.size)
        pixels.append({"sample_id": row.sample_id, **facts})
        if fault is not None:
            faults[row.sample_id] = fault
    return (
        pd.DataFrame({"sample_id": [row.sample_id for row in rows], "intact": intact}),
        pd.DataFrame(pixels, columns=["sample_id", *_PIXEL_FACTS]),
    )


def _progress(rows: list[_Pair]) -> Iterator[_Pair]:
    last = time.monotonic()
    for done, row in enumerate(rows, start=1):
        yield row
        if time.monotonic() - last >= _PROGRESS_SECONDS:
            last = time.monotonic()
            print(f"validate: {done}/{len(rows)} files", file=sys.stderr, flush=True)


def _byte_fault(root: Path, row: _Pair) -> str | None:
    digest = hashlib.sha256()
    for name in (row.image_path, row.mask_path):
        try:
            digest.update((root / name).read_bytes())
        except OSError as error:
            return f"{root / name}: cannot be read ({error.strerror})"
    if digest.hexdigest() != row.sha256:
        return f"{root / row.image_path} or {root / row.mask_path}: changed after ingest"
    return None


def _pixel_facts(root: Path, row: _Pair, size: int) -> tuple[dict[str, bool], str | None]:
    """What holds for one pair, and the first fault; a fact that could not be looked at is not held against it."""
    facts = dict.fromkeys(_PIXEL_FACTS, True)
    mask_path = root / row.mask_path
    try:
        image, mask = read_image(root / row.image_path), read_mask(mask_path)
    except DataError as error:
        return facts | {"decodes": False}, f"{error.subject}: {error.fault}"
    if image.shape[:2] != (size, size) or mask.shape != (size, size):
        facts["size_fits"] = False
        return facts, f"{mask_path}: mask {mask.shape}, image {image.shape[:2]} pixels instead of {size}x{size}"
    strangers = sorted(set(np.unique(mask).tolist()) - {BACKGROUND, HUMAN, IGNORE})
    if strangers:
        return facts | {"values_closed": False}, f"{mask_path}: holds the value {strangers[0]}"
    ratio = label_ratios(mask)[0]
    if not math.isclose(ratio, row.human_ratio, abs_tol=1e-9):
        fault = f"{mask_path}: human_ratio is {ratio:.6f}, the manifest says {row.human_ratio:.6f}"
        return facts | {"ratio_fits": False}, fault
    return facts, None
