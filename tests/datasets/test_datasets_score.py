"""The surveillance score: its bounds, its directions, and an example worked out by hand."""

from __future__ import annotations

from typing import Any

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from privseg.datasets.score import WEIGHTS, score_terms, surveillance_score

UNHURRIED = settings(deadline=None, max_examples=50)  # the first call of a process may be slow
SHARE = st.floats(0.0, 1.0)
MEASURES = {
    "people": st.integers(1, 40),
    "tallest_ratio": st.floats(0.02, 1.0),
    "borders_touched": st.integers(0, 4),
    "truncated_ratio": SHARE,
    "foot_x": SHARE,
    "foot_y": SHARE,
    "largest_component_ratio": SHARE,
}
PEOPLE = st.fixed_dictionaries(MEASURES)
CAMERA = {
    "people": 3,
    "tallest_ratio": 0.25,
    "borders_touched": 0,
    "truncated_ratio": 0.1,
    "foot_x": 0.75,
    "foot_y": 0.6,
    "largest_component_ratio": 0.05,
}
PORTRAIT = {
    "people": 1,
    "tallest_ratio": 0.9,
    "borders_touched": 2,
    "truncated_ratio": 1.0,
    "foot_x": 0.5,
    "foot_y": 1.0,
    "largest_component_ratio": 0.45,
}


def frame(*rows: dict[str, Any], is_human: bool = True) -> pd.DataFrame:
    return pd.DataFrame([{"is_human": is_human, **row} for row in rows])


def test_worked_out_by_hand() -> None:
    camera, portrait = surveillance_score(frame(CAMERA, PORTRAIT))
    # low 1, whole 0.9, small 1 - 0.05/0.5 = 0.9, clear 1, grounded 1, several 1 - 1/8, aside 2 * 0.25
    assert camera == pytest.approx(0.3 * 1 + 0.2 * 0.9 + 0.15 * 0.9 + 0.1 * 1 + 0.1 * 1 + 0.1 * 0.875 + 0.05 * 0.5)
    # low (1 - 0.9) / 0.5, whole 0, small 1 - 0.45/0.5, clear 1 - 2/3, grounded 0, several 1/2, aside 0
    assert portrait == pytest.approx(0.3 * 0.2 + 0.2 * 0 + 0.15 * 0.1 + 0.1 / 3 + 0.1 * 0 + 0.1 * 0.5 + 0.05 * 0)


def test_weights_are_shares_of_one() -> None:
    assert sum(WEIGHTS.values()) == pytest.approx(1.0)
    assert list(score_terms(frame(CAMERA))) == list(WEIGHTS)


@UNHURRIED
@given(PEOPLE)
def test_between_nothing_and_one_and_above_zero_with_people(row: dict[str, Any]) -> None:
    score = surveillance_score(frame(row)).iloc[0]
    assert 0.0 < score <= 1.0


@UNHURRIED
@given(PEOPLE)
def test_zero_without_people(row: dict[str, Any]) -> None:
    assert surveillance_score(frame(row, is_human=False)).iloc[0] == 0.0


def test_people_too_low_to_be_counted_still_score() -> None:
    speck = PORTRAIT | {"people": 0, "tallest_ratio": 0.019, "borders_touched": 4, "largest_component_ratio": 0.6}
    assert surveillance_score(frame(speck)).iloc[0] > 0.0


@pytest.mark.parametrize(
    ("column", "rises"),
    [
        ("people", True),
        ("tallest_ratio", False),
        ("borders_touched", False),
        ("truncated_ratio", False),
        ("foot_y", False),
        ("largest_component_ratio", False),
    ],
)
@UNHURRIED
@given(data=st.data())
def test_one_direction_a_measure(column: str, rises: bool, data: st.DataObject) -> None:
    row = data.draw(PEOPLE)
    less, more = sorted(data.draw(st.tuples(MEASURES[column], MEASURES[column])))
    low, high = surveillance_score(frame(row | {column: less}, row | {column: more}))
    assert low <= high + 1e-12 if rises else low >= high - 1e-12


@UNHURRIED
@given(PEOPLE, SHARE, SHARE)
def test_farther_from_the_middle_scores_no_less(row: dict[str, Any], left: float, right: float) -> None:
    near, far = sorted((left, right), key=lambda foot: abs(foot - 0.5))
    low, high = surveillance_score(frame(row | {"foot_x": near}, row | {"foot_x": far}))
    assert low <= high + 1e-12


@pytest.mark.parametrize(
    ("column", "better", "worse"),
    [
        ("people", 2, 1),
        ("tallest_ratio", 0.6, 0.9),
        ("borders_touched", 0, 1),
        ("truncated_ratio", 0.0, 0.5),
        ("foot_y", 0.95, 0.98),
        ("foot_x", 0.9, 0.6),
        ("largest_component_ratio", 0.1, 0.3),
    ],
)
def test_every_measure_counts(column: str, better: float, worse: float) -> None:
    high, low = surveillance_score(frame(CAMERA | {column: better}, CAMERA | {column: worse}))
    assert high > low


def test_rows_keep_their_labels() -> None:
    df = frame(CAMERA, PORTRAIT).set_axis([7, 3])
    assert list(surveillance_score(df).index) == [7, 3]
    assert surveillance_score(df.iloc[:0]).empty
