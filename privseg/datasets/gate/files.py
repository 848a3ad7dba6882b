"""What the dataset gate learns from files: that they are there, that their bytes are right, what their pixels hold."""

from __future__ import annotations

import hashlib
import math
import os
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
import pandas as pd
from numpy.typing import NDArray

from privseg.datasets.sources.base import BACKGROUND, HUMAN, IGNORE, Mask, evenly_spaced, read_image, read_mask
from privseg.errors import DataError
from privseg.params import Params

__all__ = ["FileFacts", "inspect_files"]

_PROGRESS_SECONDS = 2.0
_DESCRIBED = 100  # rows without files that are described; a report names fewer
_NAME = r"[^/]*$"
_PIXEL_FACTS = ("decodes", "size_fits", "values_closed", "ratio_fits", "people_fit")


@dataclass(frozen=True)
class FileFacts:
    """What was found.

    Attributes:
        files: Every kept row: sample_id, present.
        hashed: Rows whose bytes were compared: sample_id, intact.
        pixels: Rows that were decoded: sample_id and a column for each thing that must hold.
        faults: The first fault found, by sample_id; begins with the file.
    """

    files: pd.DataFrame
    hashed: pd.DataFrame
    pixels: pd.DataFrame
    faults: dict[str, str]


class _Pair(NamedTuple):
    sample_id: str
    image_path: str
    mask_path: str
    sha256: str
    human_ratio: float
    components: int
    min_component_height: int
    max_component_height: int


def inspect_files(params: Params, kept: pd.DataFrame, root: Path) -> FileFacts:
    """Look at the files of kept rows.

    All must be there and not empty, which costs one listing a folder. Of ``gate.decoded_pairs``, evenly spaced by name,
    the pixels are looked at; of ``gate.hashed_files``, chosen by a hash of the name and others than the decoded ones as
    long as there are others, the bytes. Pairs whose bytes differ are decoded too, to say more about them.

    Args:
        params: ``gate`` and ``image`` are read.
        kept: Rows sorted by sample_id, with the manifest's columns and ``paths_inside``: where that is False, a row
            names files outside ``root``, which are not touched.
        root: Folder that the paths are relative to.
    """
    present, faults = _absent(kept, root)
    whole = kept.loc[present, list(_Pair._fields)]
    decoded = evenly_spaced(range(len(whole)), params.gate.decoded_pairs)
    hashed = _choose(whole["sample_id"], set(decoded), params.gate.hashed_files)
    changed = []
    pairs = _pairs(whole, hashed)
    for place, pair in zip(hashed, _progress(pairs, "files compared"), strict=True):
        fault = _byte_fault(root, pair)
        if fault is not None:
            faults[pair.sample_id] = fault
            changed.append(place)
    rows = []
    more = dict.fromkeys([*decoded, *changed[: params.gate.decoded_pairs]])
    for pair in _progress(_pairs(whole, list(more)), "pairs decoded"):
        facts, fault = _pixel_facts(root, pair, params.image.size)
        rows.append({"sample_id": pair.sample_id, **facts})
        if fault is not None:
            faults[pair.sample_id] = fault
    differ = {str(name) for name in whole["sample_id"].iloc[changed]}
    names = [pair.sample_id for pair in pairs]
    return FileFacts(
        files=pd.DataFrame({"sample_id": kept["sample_id"], "present": present}),
        hashed=pd.DataFrame({"sample_id": names, "intact": [name not in differ for name in names]}),
        pixels=pd.DataFrame(rows, columns=["sample_id", *_PIXEL_FACTS]),
        faults=faults,
    )


def _absent(kept: pd.DataFrame, root: Path) -> tuple[NDArray[np.bool_], dict[str, str]]:
    """Which rows have both files, bool ``(rows,)``, and what is wrong with the first of the others.

    A row has not if a file is missing or empty, or must not be touched.
    """
    inside = kept["paths_inside"].to_numpy()
    columns = {what: kept[f"{what}_path"] for what in ("image", "mask")}
    folders = {
        folder for paths in columns.values() for folder in paths[inside].str.replace(_NAME, "", regex=True).unique()
    }
    sizes = {path: size for folder in sorted(folders) for path, size in _listing(root, folder)}
    found = {what: paths.map(sizes).to_numpy(np.float64) for what, paths in columns.items()}  # NaN: there is none
    present = inside & (found["image"] > 0) & (found["mask"] > 0)
    faults = {}
    for place in np.flatnonzero(~present)[:_DESCRIBED]:
        image, mask = (paths.iloc[place] for paths in columns.values())
        if not inside[place]:
            fault = f"{image} or {mask}: leaves the dataset's folder, and was not read"
        else:
            what = next(what for what in columns if not found[what][place] > 0)
            state = "empty" if found[what][place] == 0 else "missing"
            fault = f"{root / columns[what].iloc[place]}: the {what} is {state}"
        faults[str(kept["sample_id"].iloc[place])] = fault
    return present, faults


def _listing(root: Path, parent: str) -> Iterator[tuple[str, int]]:
    """Relative path and size in bytes of the files in a folder; nothing where there is none."""
    try:
        with os.scandir(root / parent) as entries:
            for entry in entries:
                try:
                    if entry.is_file():  # follows links: a cache may hold the files
                        yield parent + entry.name, entry.stat().st_size
                except OSError:  # it went away, or is a loop of links: as good as missing
                    continue
    except OSError:
        return


def _choose(names: pd.Series[str], decoded: set[int], count: int) -> list[int]:
    """Places of the pairs to hash, in order: by a hash of the name, those that are decoded last."""
    keys = pd.util.hash_array(names.to_numpy(dtype=object))
    ranked = np.lexsort((keys, np.isin(np.arange(len(names)), list(decoded))))
    return sorted(int(place) for place in ranked[:count])


def _pairs(whole: pd.DataFrame, places: list[int]) -> list[_Pair]:
    return [_Pair(*values) for values in whole.iloc[places].itertuples(index=False, name=None)]


def _progress(pairs: list[_Pair], what: str) -> Iterator[_Pair]:
    last = time.monotonic()
    for done, pair in enumerate(pairs, start=1):
        yield pair
        if time.monotonic() - last >= _PROGRESS_SECONDS:
            last = time.monotonic()
            print(f"validate: {done}/{len(pairs)} {what}", file=sys.stderr, flush=True)


def _byte_fault(root: Path, pair: _Pair) -> str | None:
    digest = hashlib.sha256()
    for name in (pair.image_path, pair.mask_path):
        try:
            digest.update((root / name).read_bytes())
        except OSError as error:
            return f"{root / name}: cannot be read ({error.strerror})"
    if digest.hexdigest() != pair.sha256:
        return f"{root / pair.image_path} or {root / pair.mask_path}: changed after ingest"
    return None


def _pixel_facts(root: Path, pair: _Pair, size: int) -> tuple[dict[str, bool], str | None]:
    """What holds for one pair, and the first fault; a fact that could not be looked at is not held against it."""
    facts = dict.fromkeys(_PIXEL_FACTS, True)
    mask_path = root / pair.mask_path
    try:
        image, mask = read_image(root / pair.image_path), read_mask(mask_path)
    except DataError as error:
        return facts | {"decodes": False}, f"{error.subject}: {error.fault}"
    if image.shape[:2] != (size, size) or mask.shape != (size, size):
        facts["size_fits"] = False
        return facts, f"{mask_path}: mask {mask.shape}, image {image.shape[:2]} pixels instead of {size}x{size}"
    strangers = sorted(set(np.unique(mask).tolist()) - {BACKGROUND, HUMAN, IGNORE})
    if strangers:
        return facts | {"values_closed": False}, f"{mask_path}: holds the value {strangers[0]}"
    human = int(np.count_nonzero(mask == HUMAN))
    ratio = human / max(1, int(np.count_nonzero(mask != IGNORE)))
    if not math.isclose(ratio, pair.human_ratio, abs_tol=1e-9):
        fault = f"{mask_path}: human_ratio is {ratio:.6f}, the manifest says {pair.human_ratio:.6f}"
        return facts | {"ratio_fits": False}, fault
    found = _people(mask)
    for name, value in found.items():
        if value != getattr(pair, name):
            fault = f"{mask_path}: {name} is {value}, the manifest says {getattr(pair, name)}"
            return facts | {"people_fit": False}, fault
    return facts, None


def _people(mask: Mask) -> dict[str, int]:
    """The 8-connected components of human pixels; padding is 255 and so never part of one."""
    count, _, stats, _ = cv2.connectedComponentsWithStats((mask == HUMAN).astype(np.uint8), connectivity=8)
    heights = stats[1:, cv2.CC_STAT_HEIGHT]  # row 0 is the background
    return {
        "components": count - 1,
        "min_component_height": int(heights.min()) if count > 1 else 0,
        "max_component_height": int(heights.max(initial=0)),
    }
