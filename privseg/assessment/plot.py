"""Privacy against utility, one point a method and strength."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import matplotlib

matplotlib.use("Agg")
from matplotlib import pyplot as plt

__all__ = ["draw_plot"]

# Told apart by people with any colour vision (after Okabe and Ito).
_COLOURS: Final = {"irreversible": "#0072b2", "obfuscation": "#d55e00", "reversible with key": "#009e73"}
_MARKS: Final = {"irreversible": "o", "obfuscation": "s", "reversible with key": "D"}
_LINE: Final = 0.034  # of the height of the plot


def draw_plot(result: Mapping[str, Any], path: Path) -> None:
    """Write the plot as PNG: across, how often people are re-identified by appearance; upwards, what is still seen.

    Strengths of one method are joined by a line; they carry no label.
    """
    figure, axes = plt.subplots(figsize=(9.5, 6.5), dpi=110)
    rows = result["methods"]
    for name in dict.fromkeys(row["method"] for row in rows):
        own = sorted((row for row in rows if row["method"] == name), key=_across)
        axes.plot([_across(r) for r in own], [_up(r) for r in own], color="#b8b8b8", linewidth=1, zorder=1)
    for kind, colour in _COLOURS.items():
        points = [row for row in rows if row["privacy_class"] == kind]
        for chosen, size in ((True, 64), (False, 20)):
            part = [row for row in points if row["default"] is chosen]
            label = f"{kind}" if chosen and part else None
            axes.scatter(
                [_across(r) for r in part],
                [_up(r) for r in part],
                s=size,
                c=colour,
                marker=_MARKS[kind],
                label=label,
                zorder=2,
                edgecolors="white",
                linewidths=0.6,
            )
    axes.set_xscale("log")
    chance = 100 * result["chance"]
    axes.set_xlim(min([chance, *map(_across, rows)]) * 0.3, 130)  # room for a column of names on the left
    axes.set_ylim(-0.04, 1.06)
    axes.axvline(chance, color="#666666", linestyle=":", linewidth=1)
    axes.text(chance, 0.0, " chance", color="#555555", fontsize=8, rotation=90, va="bottom", ha="right")
    ticks = [tick for tick in (chance, 5, 10, 20, 50, 100) if tick >= chance]
    axes.set_xticks(ticks, [f"{tick:g} %" for tick in ticks])
    axes.minorticks_off()
    axes.set_xlabel("people re-identified by appearance (a recogniser trained on protected pictures); less is better")
    axes.set_ylabel("found, counted, followed, posture readable (mean); more is better")
    axes.grid(color="#eeeeee", zorder=0)
    axes.legend(loc="lower right", frameon=False)
    _label(axes, [row for row in rows if row["default"]], chance)
    figure.tight_layout()
    figure.savefig(path, format="png", metadata={"Software": None})
    plt.close(figure)


def _across(row: Mapping[str, Any]) -> float:
    return max(100 * float(row["parrot"]["appearance"]), 0.5)


def _up(row: Mapping[str, Any]) -> float:
    return float(row["utility"]["score"])


def _label(axes: Any, rows: Sequence[Mapping[str, Any]], chance: float) -> None:
    """Write the names in two columns, each at the height of its point as nearly as the others permit."""
    middle = math.sqrt(chance * 100)
    for side, place, align in (
        (rows_left := [r for r in rows if _across(r) < middle], 0.13, "right"),
        ([r for r in rows if r not in rows_left], 1.02, "left"),
    ):
        ordered = sorted(side, key=_up, reverse=True)
        for row, height in zip(ordered, _spread([_up(r) for r in ordered]), strict=True):
            axes.annotate(
                row["label"],
                (_across(row), _up(row)),
                xytext=(place, height),
                textcoords=axes.get_yaxis_transform(),
                ha=align,
                va="center",
                fontsize=8,
                annotation_clip=False,
                arrowprops={"arrowstyle": "-", "color": "#bbbbbb", "linewidth": 0.5, "shrinkB": 3},
                zorder=0,
            )


def _spread(heights: Sequence[float]) -> list[float]:
    """Falling heights with at least a line of type between them, as few moved as can be, the highest at most 1.03."""
    placed: list[float] = []
    for number, height in enumerate(heights):
        crowd = sum(abs(height - other) < _LINE for other in heights[number + 1 :])
        wanted = min(height + crowd * _LINE / 2, 1.03)
        placed.append(min(wanted, placed[-1] - _LINE) if placed else wanted)
    return placed
