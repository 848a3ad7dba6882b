"""Suspicions about labels: each has its limit, several are joined, nothing is removed."""

from __future__ import annotations

from typing import Any

import pandas as pd
import pytest

from privseg.datasets.manifest import empty_row, manifest_frame
from privseg.datasets.suspects import suspects
from privseg.params import CleanseParams

LIMITS = CleanseParams(
    suspect_box_fill=0.95, suspect_contour_contrast=3.0, suspect_components=40, near_duplicate_bits=4, min_pixel_std=3.0
)
GOOD = {
    "source": "a",
    "is_human": True,
    "human_ratio": 0.1,
    "largest_component_ratio": 0.08,
    "box_fill": 0.5,
    "contour_contrast": 20.0,
    "components": 2,
    "pixel_std": 50.0,
    "pool": "train",
}


def judged(*rows: dict[str, Any]) -> list[str]:
    df = manifest_frame(
        empty_row(sample_id=f"a/{number}", **{**GOOD, "phash": f"{number * 0x1111_1111_1111_1111:016x}", **row})
        for number, row in enumerate(rows)
    )
    return list(suspects(df, LIMITS))


@pytest.mark.parametrize(
    ("fields", "codes"),
    [
        ({}, ""),
        ({"box_fill": 0.95}, "box"),
        ({"box_fill": 0.94}, ""),
        ({"box_fill": 1.0, "largest_component_ratio": 0.009}, ""),
        ({"contour_contrast": 2.9}, "flat_contour"),
        ({"contour_contrast": 3.0}, ""),
        ({"components": 41}, "fragments"),
        ({"components": 40}, ""),
        ({"box_fill": 1.0, "contour_contrast": 0.0, "components": 99}, "box,flat_contour,fragments"),
        ({"is_human": False, "human_ratio": 0.0, "contour_contrast": 0.0, "components": 0, "box_fill": 0.0}, ""),
    ],
)
def test_codes_and_their_limits(fields: dict[str, Any], codes: str) -> None:
    assert judged(fields, {}) == [codes, ""]


@pytest.mark.parametrize(
    ("first", "second", "disagree"),
    [
        (0.10, 0.16, True),
        (0.10, 0.14, False),
        (0.004, 0.013, True),
        (0.002, 0.009, False),  # a handful of pixels either way
        (0.0, 0.02, True),
        (0.3, 0.3, False),
    ],
)
def test_copies_that_disagree_are_both_suspicious(first: float, second: float, disagree: bool) -> None:
    same = {"phash": "00000000000000ff"}
    nearly = {"phash": "00000000000000f0"}
    codes = judged({**same, "human_ratio": first}, {**nearly, "human_ratio": second}, {"human_ratio": 0.5})
    assert codes == (["copies_disagree"] * 2 if disagree else ["", ""]) + [""]


def test_blank_pictures_are_no_copies() -> None:
    blank = {"phash": "8000000000000000", "pixel_std": 1.0}
    assert judged({**blank, "human_ratio": 0.1}, {**blank, "human_ratio": 0.6}) == ["", ""]


def test_what_could_not_be_read_is_not_judged() -> None:
    broken = empty_row(sample_id="a/1", source="a", status="removed", reason="unreadable")
    df = manifest_frame([broken, empty_row(**{**GOOD, "sample_id": "a/2", "phash": "f" * 16, "components": 50})])
    found = suspects(df.set_axis([5, 2]), LIMITS)
    pd.testing.assert_series_equal(found, pd.Series(["", "fragments"], index=[5, 2], name="suspect", dtype="str"))
