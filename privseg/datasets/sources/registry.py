"""From a source's ``kind`` in ``params.yaml`` to its reader: a kind is the name of a module in this folder.

A module says with ``READER`` or ``RENDERER`` how its source is made. It is imported when its kind is opened, so that
what only one of them needs (a renderer, a JSON parser) is loaded for it alone.
"""

from __future__ import annotations

import importlib
import pkgutil
from pathlib import Path
from typing import cast

import privseg.datasets.sources as package
from privseg.datasets.sources.base import Source
from privseg.errors import DataError, UsageError
from privseg.params import SourceParams

__all__ = ["KINDS", "check_kind", "open_source"]

_OTHERS = {"base", "registry"}
KINDS = frozenset(
    module.name
    for module in pkgutil.iter_modules(package.__path__)
    if module.name not in _OTHERS and not module.name.startswith("_")
)


def check_kind(name: str, params: SourceParams) -> None:
    """Refuse a source of a kind that does not exist.

    Raises:
        UsageError: It names the source, the kind, and the kinds there are.
    """
    if params.kind not in KINDS:
        known = ", ".join(sorted(KINDS))
        raise UsageError(f"source {name}", f"is of the unknown kind {params.kind}", f"use one of {known}")


def open_source(name: str, params: SourceParams, *, raw_root: Path, size: int, seed: int) -> Source:
    """Open a source.

    Args:
        name: Its key in ``params.yaml``.
        params: Its section.
        raw_root: Folder that ``params.path`` is relative to.
        size: Height and width, in pixels, of rendered scenes.
        seed: Seed of rendered scenes.

    Raises:
        UsageError: There is no such kind.
        DataError: The source's folder does not exist.
    """
    check_kind(name, params)
    module = importlib.import_module(f"{package.__name__}.{params.kind}")
    if hasattr(module, "RENDERER"):  # of scenes: no folder, but a size and a seed
        return cast("Source", module.RENDERER(name, params, size=size, seed=seed))
    root = raw_root / params.path
    if not root.is_dir():
        raise DataError(root, f"is no folder, but source {name} ({params.kind}) points there", "correct its path")
    return cast("Source", module.READER(name, root, params))
