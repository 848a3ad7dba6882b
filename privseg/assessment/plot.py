"""Privacy against utility, one point a method and strength."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import matplotlib

matplotlib.use("Agg")
from matplotlib import pyplot as plt
from matplotlib.transforms import Bbox

__all__ = ["draw_plot"]

# Told apart by people with any colour vision (after Okabe and Ito).
_COLOURS: Final = {"irreversible": "#0072b2", "obfuscation": "#d55e00", "reversible with key": "#009e73"}
_MARKS: Final = {"irreversible": "o", "obfuscation": "s", "reversible with key": "D"}
_OFFSETS: Final = [(8 * side, 11 * step) for step in (0, 1, -1, 2, -2, 3, -3, 4, -4, 6, -6, 8, -8) for side in (1, -1)]


def draw_plot(result: Mapping[str, Any], path: Path) -> None:
    """Write the plot as PNG: across, how often people are re-identified by appearance; upwards, what is still seen.

    Strengths of one method are joined by a line; they carry no label.
    """
    figure, axes = plt.subplots(figsize=(9, 6), dpi=110)
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
    axes.set_xlim(chance * 0.6, 130)
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
    _label(figure, axes, [row for row in rows if row["default"]])
    figure.tight_layout()
    figure.savefig(path, format="png", metadata={"Software": None})
    plt.close(figure)


def _across(row: Mapping[str, Any]) -> float:
    return max(100 * float(row["parrot"]["appearance"]), 0.5)


def _up(row: Mapping[str, Any]) -> float:
    return float(row["utility"]["score"])


def _label(figure: Any, axes: Any, rows: Sequence[Mapping[str, Any]]) -> None:
    """Write every name beside its point, where it covers no other name; names far away get a thin line."""
    taken: list[Bbox] = []
    renderer = figure.canvas.get_renderer()
    for row in sorted(rows, key=lambda row: (-_up(row), _across(row))):
        for across, up in _OFFSETS:
            note = axes.annotate(
                row["label"],
                (_across(row), _up(row)),
                xytext=(across, up),
                textcoords="offset points",
                ha="left" if across > 0 else "right",
                va="center",
                fontsize=8,
                arrowprops={"arrowstyle": "-", "color": "#999999", "linewidth": 0.5} if abs(up) > 11 else None,
            )
            box = note.get_window_extent(renderer).expanded(1.02, 1.05)
            if not any(box.overlaps(other) for other in taken) or (across, up) == _OFFSETS[-1]:
                taken.append(box)
                break
            note.remove()
