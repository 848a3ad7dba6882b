"""Suspects: labels that may be wrong. They are listed for a person to look at, never removed."""

from __future__ import annotations

from collections.abc import Callable

import pandas as pd

from privseg.datasets.near_duplicates import near_duplicates, preferred_order
from privseg.params import CleanseParams

__all__ = ["SUSPICIONS", "copies_disagree", "suspects"]

Suspicion = Callable[["pd.DataFrame", CleanseParams], "pd.Series[bool]"]

_LARGE = 0.01  # of the picture: a smaller person may well look like a box
_DIFFERENCE, _FACTOR = 0.05, 3.0  # human shares of two copies that differ by more cannot both be right
_NOTICEABLE = 0.01  # of two shares the larger one must reach it for their factor to mean anything


def box(df: pd.DataFrame, limits: CleanseParams) -> pd.Series[bool]:
    """The largest person is large and fills its bounding box: somebody drew a rectangle."""
    large = df["largest_component_ratio"] >= _LARGE
    return df["is_human"] & large & (df["box_fill"] >= limits.suspect_box_fill)


def flat_contour(df: pd.DataFrame, limits: CleanseParams) -> pd.Series[bool]:
    """The outlines run where the picture shows no edge: the mask is shifted, or of another picture."""
    return df["is_human"] & (df["contour_contrast"] < limits.suspect_contour_contrast)


def fragments(df: pd.DataFrame, limits: CleanseParams) -> pd.Series[bool]:
    """The label falls into more pieces than there can be people."""
    return df["components"] > limits.suspect_components


def copies_disagree(df: pd.DataFrame, limits: CleanseParams) -> pd.Series[bool]:
    """Pictures that look the same, and of which one shows markedly more people than the other.

    Every copy is compared with the picture that stands for it (`near_duplicates`); of a pair that disagrees both are
    suspicious, for nobody knows which label is wrong. Blank pictures all look the same and are left out.
    """
    looks = preferred_order(df[(df["phash"] != "") & (df["pixel_std"] >= limits.min_pixel_std)])
    keeper = near_duplicates(looks["phash"], limits.near_duplicate_bits)
    ratio = looks["human_ratio"].to_numpy()
    low, high = pd.Series(ratio).clip(upper=ratio[keeper]), pd.Series(ratio).clip(lower=ratio[keeper])
    apart = ((high - low > _DIFFERENCE) | ((high >= _NOTICEABLE) & (high > _FACTOR * low))).to_numpy()
    found = pd.Series(False, index=df.index)
    found[looks.index[apart]] = True
    found[looks.index[keeper[apart]]] = True
    return found


SUSPICIONS: tuple[Suspicion, ...] = (box, flat_contour, fragments, copies_disagree)
"""In order; a suspicion's name is its code."""


def suspects(df: pd.DataFrame, limits: CleanseParams) -> pd.Series[str]:
    """Codes of everything that is suspicious about a row's label, joined by commas; '' where nothing is.

    Rows that could not be read are not judged.

    Args:
        df: Manifest rows of all sources, with unique labels in the index.
        limits: The thresholds.

    Raises:
        DataError: A row that was read has no perceptual hash.
    """
    read = df[df["reason"] != "unreadable"]
    codes = pd.Series("", index=df.index, dtype="str", name="suspect")
    for suspicion in SUSPICIONS:
        found = read.index[suspicion(read, limits)]
        codes[found] = (codes[found] + "," + suspicion.__name__).str.lstrip(",")
    return codes
