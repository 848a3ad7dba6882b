"""Distributions of a dataset, counted: histograms, and the grid of where people stand; before and after cleansing."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from privseg.datasets.features import PERSON_FRACTION

__all__ = ["Distributions", "HeatMap", "Histogram", "count"]

Counts = npt.NDArray[np.int64]
LOWEST_PERSON = 1 / PERSON_FRACTION
"""Height of the lowest person, as a share of the picture's: as the manifest's column ``people`` counts."""
MOST_PEOPLE = 12
GRID = (24, 32)  # rows, columns


@dataclass(frozen=True)
class Histogram:
    """One histogram.

    Attributes:
        name: Name of its file.
        title: What is counted.
        x_label: The quantity on the horizontal axis.
        y_label: What a bar counts.
        edges: float64 ``(bins + 1,)``; a bin holds its lower edge, the last one both.
        before: int64 ``(bins,)``: counts before cleansing.
        after: The same after it; None where nothing has been removed yet.
        whole: A bin is one whole number, its lower edge; the last one is that and all above.
    """

    name: str
    title: str
    x_label: str
    y_label: str
    edges: npt.NDArray[np.float64]
    before: Counts
    after: Counts | None
    whole: bool = False

    @property
    def positions(self) -> list[float]:
        """Where the bins stand on the axis: their middles, or their whole numbers."""
        if self.whole:
            return [float(edge) for edge in self.edges[:-1]]
        return [round(float(middle), 6) for middle in (self.edges[:-1] + self.edges[1:]) / 2]


@dataclass(frozen=True)
class HeatMap:
    """Where people stand: int64 ``(24, 32)``, row 0 the top of the picture; a cell counts the feet in it."""

    before: Counts
    after: Counts | None


@dataclass(frozen=True)
class Distributions:
    """All that is plotted.

    Attributes:
        histograms: Of human share, person height, people a picture and surveillance score.
        feet: Where people stand.
        specks: Components too low to count as a person.
    """

    histograms: tuple[Histogram, ...]
    feet: HeatMap
    specks: int


def count(people: pd.DataFrame, before: pd.DataFrame, after: pd.DataFrame | None = None) -> Distributions:
    """Count the distributions.

    Args:
        people: Components of human pixels: ``row``, the label of the picture's row, and in pixels relative to the
            content ``left``, ``top``, ``width``, ``height``, ``content_height`` and ``content_width``.
        before: The ingested rows.
        after: Those of them that were kept, by the same labels; None before cleansing.
    """
    persons = people[people["height"] >= LOWEST_PERSON * people["content_height"]]
    share = persons["height"].to_numpy() / persons["content_height"].to_numpy()
    stays = None if after is None else persons["row"].isin(after.index).to_numpy()
    label = "human pixels / labelled pixels"
    histograms = (
        _pictures("human_share", "Human share", label, 40, "human_ratio", before, after),
        _histogram(
            "person_height",
            "Person height",
            "height of a person / height of the picture",
            "people",
            np.linspace(0, 1, 41),
            share,
            None if stays is None else share[stays],
        ),
        _histogram(
            "people",
            "People in a picture",
            f"people ({MOST_PEOPLE}: or more)",
            "pictures",
            np.arange(MOST_PEOPLE + 2, dtype=np.float64),
            before["people"].clip(upper=MOST_PEOPLE).to_numpy(),
            None if after is None else after["people"].clip(upper=MOST_PEOPLE).to_numpy(),
            whole=True,
        ),
        _pictures("score", "Surveillance score", "surveillance_score", 20, "surveillance_score", before, after),
    )
    x = (persons["left"] + persons["width"] / 2).to_numpy() / persons["content_width"].to_numpy()
    y = (persons["top"] + persons["height"]).to_numpy() / persons["content_height"].to_numpy()
    feet = HeatMap(_grid(x, y), None if stays is None else _grid(x[stays], y[stays]))
    return Distributions(histograms, feet, int(len(people) - len(persons)))


def _pictures(
    name: str, title: str, x_label: str, bins: int, column: str, before: pd.DataFrame, after: pd.DataFrame | None
) -> Histogram:
    """A histogram over the pictures with people of a column that lies in 0..1."""
    old = before.loc[before["is_human"], column].to_numpy()
    new = None if after is None else after.loc[after["is_human"], column].to_numpy()
    return _histogram(name, title, x_label, "pictures with people", np.linspace(0, 1, bins + 1), old, new)


def _histogram(
    name: str,
    title: str,
    x_label: str,
    y_label: str,
    edges: npt.NDArray[np.float64],
    before: npt.NDArray[Any],
    after: npt.NDArray[Any] | None,
    *,
    whole: bool = False,
) -> Histogram:
    kept = None if after is None else _counts(after, edges)
    return Histogram(name, title, x_label, y_label, edges, _counts(before, edges), kept, whole)


def _counts(values: npt.NDArray[Any], edges: npt.NDArray[np.float64]) -> Counts:
    return np.histogram(values, edges)[0].astype(np.int64)


def _grid(x: npt.NDArray[np.float64], y: npt.NDArray[np.float64]) -> Counts:
    return np.histogram2d(y, x, bins=GRID, range=((0, 1), (0, 1)))[0].astype(np.int64)
