"""Which figures the page and the terminal show, and how they are written: the same number reads the same on both."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

__all__ = ["ACCURACY", "COMPLEXITY", "MISSED", "NOTHING", "SUMMARY", "TRAINING", "Column", "best_rows", "verdict"]

NOTHING = "\N{EN DASH}"  # what was not measured
Row = Mapping[str, Any]


@dataclass(frozen=True)
class Column:
    """One figure of a candidate in ``results.json``.

    Attributes:
        heading: What it is called.
        path: The keys that lead to it.
        form: How Python formats it.
        scale: What it is multiplied with first.
        best: ``high``, ``low``, or empty where no value is better than another.
    """

    heading: str
    path: tuple[str, ...]
    form: str = ".3f"
    scale: float = 1.0
    best: str = "high"

    def value(self, row: Row) -> float | None:
        """The figure as it is; None where it was not measured."""
        found: Any = row
        for key in self.path:
            if not isinstance(found, Mapping) or found.get(key) is None:
                return None
            found = found[key]
        return float(found)

    def text(self, row: Row) -> str:
        """The figure as it is shown."""
        value = self.value(row)
        return NOTHING if value is None else f"{value * self.scale:{self.form}}"


def best_rows(column: Column, rows: Sequence[Row]) -> set[int]:
    """Positions of the rows whose figure reads best; none where all read alike or nothing is better than another."""
    texts = [column.text(row) for row in rows]
    values = [value for value in (column.value(row) for row in rows) if value is not None]
    if not column.best or len(set(texts)) < 2:
        return set()
    best = max(values) if column.best == "high" else min(values)
    shown = f"{best * column.scale:{column.form}}"
    return {position for position, text in enumerate(texts) if text == shown}


def verdict(results: Row) -> str:
    """Say in one sentence what serves from now on, and why."""
    winner, champion = results["winner"], results["champion"]
    if results["outcome"] == "promote":
        replaced = f" in place of version {champion['version']}" if champion else ""
        outcome = f"{winner} is to serve{replaced}"
    else:
        outcome = f"version {champion['version']} stays; {winner} is the best of the candidates"
    return f"{outcome}: {results['reason']}."


_HEIGHTS = ("small", "medium", "large")
_SCORE = Column("Score", ("score",))
_IOU = Column("IoU human", ("accuracy", "iou_human"))
_PRECISION = Column("Precision", ("accuracy", "precision"))
_RECALL = Column("Recall", ("accuracy", "recall"))
_PARAMETERS = Column("Parameters, M", ("complexity", "parameters"), ".2f", 1e-6, "low")

ACCURACY = (
    _SCORE,
    _IOU,
    _RECALL,
    _PRECISION,
    Column("Dice", ("accuracy", "dice")),
    Column("Boundary F", ("accuracy", "boundary_f")),
    Column("IoU background", ("accuracy", "iou_background")),
    Column("Mean IoU", ("accuracy", "mean_iou")),
    Column("Pixel accuracy", ("accuracy", "pixel_accuracy")),
)
MISSED = (
    *(
        Column(f"Missed, {height}", ("accuracy", "person_miss_rate", height, "rate"), ".1%", best="low")
        for height in ("all", *_HEIGHTS)
    ),
    *(Column(f"Recall, {height}", ("accuracy", "recall_by_height", height)) for height in _HEIGHTS),
)
COMPLEXITY = (
    _PARAMETERS,
    Column("GFLOPs, 512x512", ("complexity", "flops_by_shape", "512x512"), ".2f", 1e-9, "low"),
    Column("GFLOPs, 512x1024", ("complexity", "flops_by_shape", "512x1024"), ".2f", 1e-9, "low"),
    Column("ONNX file, MB", ("complexity", "model_bytes"), ".1f", 1e-6, "low"),
    Column("Peak memory, MB", ("complexity", "peak_memory_bytes"), ".0f", 1e-6, "low"),
)
TRAINING = tuple(
    Column(heading, ("training", key), ".0f", best="")
    for heading, key in (
        ("Iterations", "iterations"),
        ("Seconds", "seconds"),
        ("Batch", "batch_size"),
        ("Crop", "crop"),
    )
)
SUMMARY = (
    _SCORE,
    _IOU,
    _RECALL,
    _PRECISION,
    Column("Missed people", ("accuracy", "person_miss_rate", "all", "rate"), ".1%", best="low"),
    Column("p50, ms", ("speed", "p50_ms"), ".1f", best="low"),
    Column("FPS", ("speed", "fps"), ".1f"),
    _PARAMETERS,
)
