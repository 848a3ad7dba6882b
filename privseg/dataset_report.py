"""The newest version of the dataset in numbers, and where its pages lie."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from privseg.dataset_checkout import manifest_file
from privseg.dataset_store import dataset_outputs, read_yaml
from privseg.dataset_versions import list_versions, outputs_at
from privseg.errors import DataError, UsageError

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["newest_report"]

_PAGES = {
    "dataset": "reports/dataset/index.html",
    "cleansing": "reports/cleansing/index.html",
    "validation": "reports/validation/validation.html",
}
_COLUMNS = ("source", "split", "status", "is_human", "human_ratio")


def newest_report(workspace: Path) -> dict[str, Any]:
    """Describe the newest version.

    Returns:
        JSON-ready: ``version``, a `privseg.dataset_versions.Version`; ``sources``, by name and for ``all`` of them
        ``images``, ``removed``, ``kept``, kept images by split, ``with_people`` and ``mean_human_ratio`` of the kept;
        ``pages``, paths of the pages about this very version: those in the workspace, unless a later run replaced them,
        else those of a checkout in its usual place.

    Raises:
        UsageError: There is no version yet.
        DataError: The version's manifest is missing or cannot be read.
        ServerUnavailableError: It is on a server only, and that does not answer.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    newest = list_versions(workspace, limit=1)
    if not newest:
        raise UsageError(workspace, "has no dataset version yet", "privseg run, which records one")
    version = newest[0]
    file = manifest_file(workspace, version.name)
    try:
        df: pd.DataFrame = pq.read_table(file, columns=list(_COLUMNS)).to_pandas()
    except (OSError, pa.ArrowException) as error:
        raise DataError(file, f"is no readable manifest of {version.name} ({error})", f"rm {file}") from None
    return {
        "version": version.to_dict(),
        "sources": {str(name): _row(rows) for name, rows in df.groupby("source", sort=True)} | {"all": _row(df)},
        "pages": _pages(workspace, version.name),
    }


def _row(df: pd.DataFrame) -> dict[str, Any]:
    from privseg.datasets.split import SPLITS

    kept = df[df["status"] == "kept"]
    return {
        "images": len(df),
        "removed": len(df) - len(kept),
        "kept": len(kept),
        **{split: int((kept["split"] == split).sum()) for split in SPLITS},
        "with_people": int(kept["is_human"].sum()),
        "mean_human_ratio": round(float(kept["human_ratio"].mean()), 6) if len(kept) else None,
    }


def _pages(workspace: Path, version: str) -> dict[str, str]:
    recorded = outputs_at(workspace, version)
    names = ("dvc.yaml", "dvc.lock", "params.yaml")
    texts = [(workspace / name).read_text(encoding="utf-8") if (workspace / name).is_file() else "{}" for name in names]
    present = dataset_outputs(*(read_yaml(text, name) for text, name in zip(texts, names, strict=True)))
    found = {}
    for name, page in _PAGES.items():
        folder = str(Path(page).parent)
        same = folder in recorded and recorded.get(folder) == present.get(folder)
        places = [workspace] if same else []
        for place in [*places, workspace.parent / "datasets" / version]:
            if (place / page).is_file():
                found[name] = str(place / page)
                break
    return found
