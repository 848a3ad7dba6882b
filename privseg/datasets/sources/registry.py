"""From a source's ``kind`` in ``params.yaml`` to its reader."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from privseg.datasets.sources.ade20k import Ade20kSource
from privseg.datasets.sources.base import Source
from privseg.datasets.sources.cocostuff164k import CocoStuffSource
from privseg.datasets.sources.pairs import PairsSource
from privseg.datasets.sources.voc import VocSource
from privseg.errors import DataError
from privseg.params import SourceParams

__all__ = ["open_source"]

_NATIVE: dict[str, Callable[[str, Path, int | None], Source]] = {
    "voc": VocSource,
    "cocostuff164k": CocoStuffSource,
    "ade20k": Ade20kSource,
}


def open_source(name: str, params: SourceParams, *, raw_root: Path, size: int, seed: int) -> Source:
    """Open a source.

    Args:
        name: Its key in ``params.yaml``.
        params: Its section.
        raw_root: Folder that ``params.path`` is relative to.
        size: Height and width, in pixels, of rendered scenes.
        seed: Seed of rendered scenes.

    Raises:
        DataError: The source's folder does not exist.
    """
    if params.kind == "synthetic":
        from privseg.datasets.sources.synthetic import SyntheticSource  # the renderer is needed by this kind alone

        return SyntheticSource(name, params, size=size, seed=seed)
    root = raw_root / params.path
    if not root.is_dir():
        raise DataError(root, f"is no folder, but source {name} ({params.kind}) points there", "correct its path")
    if params.kind == "pairs":
        return PairsSource(name, root, params)
    return _NATIVE[params.kind](name, root, params.limit)
