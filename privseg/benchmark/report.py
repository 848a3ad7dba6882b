"""Write the comparison of all candidates: a page for people, a file for programs, tables for DVC."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from privseg.benchmark.evaluate import PICTURES
from privseg.benchmark.page import Gallery, render_page
from privseg.benchmark.results import RESULTS_FILE, gather_results, write_results, write_tables
from privseg.benchmark.select import read_result
from privseg.datasets.manifest import write_atomic

__all__ = ["report"]

TABLES = "comparison"


def report(results: list[Path], selection: dict[str, Any], out_html: Path) -> dict[str, Any]:
    """Write the benchmark page, and beside it what it says in figures: for programs, and for DVC's plots and metrics.

    Args:
        results: Files that ``evaluate`` or ``write_failed`` wrote; each one's pictures lie beside it.
        selection: What ``select`` gave.
        out_html: The page to write; nothing it shows lies outside it. ``results.json`` goes beside it, and the folder
            ``comparison`` with tables (see `privseg.benchmark.results.write_tables`).

    Returns:
        What ``results.json`` holds; see `privseg.benchmark.results.gather_results`.

    Raises:
        UsageError: No results.
        DataError: A result cannot be used, or the selection is of other candidates.
        StorageError: A file cannot be written.
    """
    merged = gather_results(results, selection)
    folders = {read_result(path)["candidate"]: path.parent / PICTURES for path in results}
    page = render_page(merged, _gallery(folders, [row["candidate"] for row in merged["candidates"]]))
    write_results(merged, out_html.with_name(RESULTS_FILE))
    write_tables(merged, out_html.with_name(TABLES))
    write_atomic(out_html, page.encode())
    return merged


def _gallery(folders: dict[str, Path], names: list[str]) -> Gallery:
    """Pictures by row; input and truth are every candidate's, and taken from the first."""
    first = folders[names[0]]
    numbers = sorted(int(path.name.partition("_")[0]) for path in first.glob("*_input.jpg"))
    rows = {"Picture": (first, "input"), "True people": (first, "truth")}
    rows |= {name: (folders[name], "predicted") for name in names}
    return {
        title: [_read(folder / f"{number}_{kind}.jpg") for number in numbers] for title, (folder, kind) in rows.items()
    }


def _read(path: Path) -> bytes | None:
    try:
        return path.read_bytes()
    except OSError:
        return None
