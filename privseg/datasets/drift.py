"""Drift: how far the people of this dataset version differ from those of the version before it.

Two distributions are watched, over the kept pictures with people: their human share, and the height of their tallest
person against the picture's. A model trained on one and used on the other meets people of sizes it never saw.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from privseg.errors import DataError

__all__ = ["BINS", "Baseline", "Drift", "bins_of", "chance_psi", "compare", "distribution", "psi", "read_baseline"]

BINS: Final[dict[str, tuple[float, ...]]] = {
    # The study's sets have means near 0.1 and a long tail: edges grow so that every bin is in use.
    "human_ratio": (0.0, 0.0025, 0.005, 0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 0.64, 1.0),
    "tallest_ratio": (0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0),
}
"""Bin edges by manifest column. They are fixed, so that versions made years apart can be compared."""

# Share given to every bin, so that an empty one does not make the logarithm infinite. Simulated: with smaller floors
# sets of 20 to 40 pictures exceed what `chance_psi` allows in more than 1 of 100 draws.
_FLOOR: Final = 0.005
_QUANTILE: Final = 3.0902  # of the normal distribution at 99.9 %


@dataclass(frozen=True)
class Baseline:
    """What is known of the previous version.

    Attributes:
        dataset_version: Its name.
        counts: Pictures by bin, by measure; bins are those of `BINS`.
    """

    dataset_version: str
    counts: dict[str, list[int]]


@dataclass(frozen=True)
class Drift:
    """One measure, compared.

    Attributes:
        psi: Population stability index; 0.0 where one side shows no people, which other checks are about.
        chance: What two samples of these sizes from one population rarely exceed (`chance_psi`).
        previous: Pictures by bin in the previous version.
        current: Pictures by bin in this one.
    """

    psi: float
    chance: float
    previous: list[int]
    current: list[int]


def distribution(df: pd.DataFrame) -> dict[str, Any]:
    """Count the kept pictures with people by bin.

    Args:
        df: A manifest.

    Returns:
        JSON-ready: ``{"kept": ..., "with_people": ..., <measure>: {"edges": [...], "counts": [...]}}``, measures and
        edges being those of `BINS`. A value on an edge belongs to the bin above it, 1.0 to the last; one outside 0..1
        to the nearest bin.
    """
    kept = df[df["status"] == "kept"]
    people = kept[kept["is_human"]]
    return {
        "kept": len(kept),
        "with_people": len(people),
        **{
            measure: {
                "edges": list(edges),
                "counts": np.bincount(bins_of(people, measure), minlength=len(edges) - 1).tolist(),
            }
            for measure, edges in BINS.items()
        },
    }


def bins_of(df: pd.DataFrame, measure: str) -> NDArray[np.intp]:
    """The bin of every row, int64 ``(rows,)``, 0 and up."""
    edges = BINS[measure]
    return np.clip(np.searchsorted(edges, df[measure].to_numpy(), side="right") - 1, 0, len(edges) - 2)


def psi(expected_counts: Sequence[int], actual_counts: Sequence[int]) -> float:
    """Population stability index between two histograms with the same bins.

    ``sum((a - e) * ln(a / e))`` over the bins' shares, the symmetric Kullback-Leibler divergence (Jeffreys). The usual
    reading, after Siddiqi, *Credit Risk Scorecards* (2006): below 0.1 no shift, 0.1 to 0.25 a slight one, above it a
    great one. Every bin is given half a percent, so that an empty one gives a finite value.

    Args:
        expected_counts: Of the reference, one a bin, not all 0.
        actual_counts: Of what is compared with it, not all 0.

    Returns:
        0.0 for equal shares, else above it; the same when the two are swapped, or scaled.
    """
    expected, actual = _shares(expected_counts), _shares(actual_counts)
    return float(((actual - expected) * np.log(actual / expected)).sum())


def chance_psi(expected_counts: Sequence[int], actual_counts: Sequence[int]) -> float:
    """The index that two samples of these sizes from one population rarely exceed.

    At most once in 1000 draws from a hundred pictures on, and once in 100 with 20.

    Without drift the index, divided by ``1/n + 1/m``, follows a chi-squared distribution with one degree of freedom
    less than bins (Yurdakul and Naranjo, *Statistical properties of the population stability index*, Journal of Risk
    Model Validation, 2020). Small datasets exceed the usual thresholds by chance alone; this is by how much. The
    quantile is Wilson and Hilferty's approximation. Bins empty on both sides do not count.
    """
    expected, actual = np.asarray(expected_counts), np.asarray(actual_counts)
    degrees = int(((expected + actual) > 0).sum()) - 1
    if degrees < 1:
        return 0.0
    spread = 2 / (9 * degrees)
    quantile = degrees * (1 - spread + _QUANTILE * math.sqrt(spread)) ** 3
    return float(quantile * (1 / expected.sum() + 1 / actual.sum()))


def compare(baseline: Baseline, current: dict[str, Any]) -> dict[str, Drift]:
    """Compare what `distribution` gave with a baseline; by measure."""
    result = {}
    for measure in BINS:
        before, now = baseline.counts[measure], current[measure]["counts"]
        empty = not any(before) or not any(now)
        result[measure] = Drift(
            0.0 if empty else psi(before, now), 0.0 if empty else chance_psi(before, now), before, now
        )
    return result


def read_baseline(path: Path) -> Baseline:
    """Read ``{"dataset_version": ..., "distribution": {...}}``, the latter as `distribution` makes it; more is ignored.

    Raises:
        DataError: The file is missing or no such JSON, or its bins are not those of `BINS`.
    """
    next_step = "restore the previous version's distribution.json, or validate without a baseline"
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise DataError(path, f"cannot be read as the baseline of the drift check ({error})", next_step) from None
    try:
        version, found = data["dataset_version"], data["distribution"]
        counts = {measure: found[measure]["counts"] for measure in BINS}
        edges = {measure: tuple(found[measure]["edges"]) for measure in BINS}
    except (KeyError, TypeError) as error:
        fault = f"is no baseline of the drift check ({type(error).__name__}: {error})"
        raise DataError(path, fault, next_step) from None
    for measure, expected in BINS.items():
        if edges[measure] != expected:
            raise DataError(path, f"counts {measure} in other bins than this version of privseg", next_step)
        if not _are_counts(counts[measure], len(expected) - 1):
            raise DataError(path, f"holds no {len(expected) - 1} counts of {measure}", next_step)
    if not isinstance(version, str):
        raise DataError(path, "does not say its dataset_version as text", next_step)
    return Baseline(version, counts)


def _are_counts(values: Any, length: int) -> bool:
    if not isinstance(values, list) or len(values) != length:
        return False
    return all(type(value) is int and value >= 0 for value in values)


def _shares(counts: Sequence[int]) -> NDArray[np.float64]:
    values = np.asarray(counts, np.float64)
    shares: NDArray[np.float64] = (values / values.sum() + _FLOOR) / (1 + _FLOOR * len(values))
    return shares
