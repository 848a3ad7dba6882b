"""The surveillance score: how much a picture looks like a surveillance camera's, 0..1, from the manifest alone.

There is no agreed measure of it. What is known: such a camera hangs above people's heads and overlooks an area, so that
people are low in its picture, whole, several, anywhere in it, and stand on ground that is in view. A photographer does
the opposite: one person, in the middle, filling the picture, cut off at its edges. The score is the weighted mean of
seven terms, each from 0 (a portrait) to 1 (a camera's view), simple enough to be worked out by hand.

The height at which a term ends follows the Home Office's CCTV Operational Requirements Manual 28/09 (2009): people who
are 5 % as high as the screen can be watched, at 10 % detected, at 25 % observed, at 50 % recognised, at 100 %
identified. Cameras that overlook a place show people below the height at which recognising begins.
"""

from __future__ import annotations

import pandas as pd

__all__ = ["WEIGHTS", "score_terms", "surveillance_score"]

WEIGHTS: dict[str, float] = {
    "low": 0.30,
    "whole": 0.20,
    "small": 0.15,
    "clear": 0.10,
    "grounded": 0.10,
    "several": 0.10,
    "aside": 0.05,
}
"""What each term counts for; together 1."""

_RECOGNISED, _IDENTIFIED = 0.5, 1.0  # of the picture's height
_PORTRAIT_SHARE = 0.5  # of the picture's pixels
_PORTRAIT_BORDERS = 3
_FEET_IN_VIEW, _FEET_CUT = 0.95, 0.99  # of the picture's height, from the top


def score_terms(df: pd.DataFrame) -> pd.DataFrame:
    """The terms of the score, a column each, 0..1, rows as in ``df``.

    ============ =================================================================================================
    low          1 while the tallest person is at most half as high as the picture; falls to 0 at its whole height
    whole        1 - truncated_ratio: share of the human pixels that belong to people no border cuts
    small        1 without the largest person, falling to 0 where it covers half of the picture
    clear        1 where the largest person touches no border, 2/3 at one, 1/3 at two, 0 at three and four
    grounded     1 while the largest person's feet are above 95 % of the way down; falls to 0 at 99 %: cut off
    several      1 - 2 ** -people: 0, 1/2, 3/4, 7/8, …
    aside        how far the largest person's feet are from the middle, from 0 there to 1 at the left or right border
    ============ =================================================================================================

    Where there are no people the terms mean nothing.

    Args:
        df: Manifest rows.
    """
    terms = {
        "low": (_IDENTIFIED - df["tallest_ratio"]) / (_IDENTIFIED - _RECOGNISED),
        "whole": 1 - df["truncated_ratio"],
        "small": 1 - df["largest_component_ratio"] / _PORTRAIT_SHARE,
        "clear": 1 - df["borders_touched"] / _PORTRAIT_BORDERS,
        "grounded": (_FEET_CUT - df["foot_y"]) / (_FEET_CUT - _FEET_IN_VIEW),
        "several": 1 - 0.5 ** df["people"],
        "aside": 2 * (df["foot_x"] - 0.5).abs(),
    }
    return pd.DataFrame(terms, index=df.index).clip(0.0, 1.0)


def surveillance_score(df: pd.DataFrame) -> pd.Series[float]:
    """The weighted mean of `score_terms`, row by row: float64 in 0..1, exactly 0.0 where ``is_human`` is false.

    Wherever there are people it is above 0: a person too low to be counted is low, and any other is counted.

    Args:
        df: Manifest rows; the columns that `score_terms` reads, and ``is_human``.
    """
    terms = score_terms(df)
    score = sum((terms[name] * weight for name, weight in WEIGHTS.items()), start=pd.Series(0.0, index=df.index))
    return score.where(df["is_human"], 0.0).clip(0.0, 1.0).rename("surveillance_score")
