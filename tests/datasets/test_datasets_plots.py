"""Histograms and heat maps count everyone once, before and after; what is drawn can be read by a browser and by DVC."""

from __future__ import annotations

import io
import xml.etree.ElementTree as ET
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from privseg.datasets.manifest import empty_row, manifest_frame
from privseg.datasets.reports.bins import Distributions, count
from privseg.datasets.reports.plots import heat_map_svg, heat_peak, histogram_csv, histogram_svg, nice_step, write_plots
from privseg.datasets.reports.png import colour_cells, heat_map_png

WIDTH, HEIGHT = 200, 100  # pixels of the content

box = st.tuples(st.integers(0, 150), st.integers(0, 60), st.integers(1, 50), st.integers(1, 40))
picture = st.fixed_dictionaries(
    {
        "boxes": st.lists(box, max_size=15),
        "human_ratio": st.floats(0, 1),
        "surveillance_score": st.floats(0, 1),
        "kept": st.booleans(),
    }
)


def people_frame(boxes: list[list[tuple[int, int, int, int]]]) -> pd.DataFrame:
    rows = [(number, *one, HEIGHT, WIDTH) for number, some in enumerate(boxes) for one in some]
    columns = ["row", "left", "top", "width", "height", "content_height", "content_width"]
    return pd.DataFrame(rows, columns=columns).astype("int64")


def counted(pictures: list[dict[str, Any]], *, final: bool = True) -> tuple[pd.DataFrame, Distributions]:
    df = manifest_frame(
        empty_row(
            sample_id=f"a/{number}",
            is_human=bool(one["boxes"]),
            people=sum(height * 50 >= HEIGHT for *_, height in one["boxes"]),
            human_ratio=one["human_ratio"] if one["boxes"] else 0.0,
            surveillance_score=one["surveillance_score"] if one["boxes"] else 0.0,
            status="kept" if one["kept"] else "removed",
        )
        for number, one in enumerate(pictures)
    )
    after = df[df["status"] == "kept"] if final else None
    return df, count(people_frame([one["boxes"] for one in pictures]), df, after)


def one_person(left: int, top: int, width: int, height: int) -> Distributions:
    picture = {"boxes": [(left, top, width, height)], "human_ratio": 0.1, "surveillance_score": 0.5, "kept": True}
    return counted([picture])[1]


@given(st.lists(picture, max_size=12))
@settings(max_examples=50, deadline=None)
def test_everyone_is_counted_once_and_cleansing_only_takes_away(pictures: list[dict[str, Any]]) -> None:
    df, found = counted(pictures)
    expected = {
        "human_share": df["is_human"],
        "person_height": df["people"],
        "people": pd.Series(1, index=df.index),
        "score": df["is_human"],
    }
    for histogram in found.histograms:
        assert histogram.after is not None
        assert histogram.before.sum() == expected[histogram.name].sum()
        assert histogram.after.sum() == expected[histogram.name][df["status"] == "kept"].sum()
        assert (histogram.before >= histogram.after).all()
    assert found.feet.after is not None
    assert found.feet.before.sum() == df["people"].sum()
    assert (found.feet.before >= found.feet.after).all()
    assert found.specks == sum(len(one["boxes"]) for one in pictures) - df["people"].sum()


@pytest.mark.parametrize(
    ("box", "cell"),
    [
        pytest.param((90, 60, 20, 40), (23, 16), id="bottom centre"),
        pytest.param((0, 0, 10, 10), (2, 0), id="top left"),
        pytest.param((190, 40, 10, 10), (12, 31), id="right"),
    ],
)
def test_a_person_stands_at_the_middle_of_the_lower_edge(box: tuple[int, int, int, int], cell: tuple[int, int]) -> None:
    assert np.argwhere(one_person(*box).feet.before).tolist() == [list(cell)]


def test_histograms_put_values_where_they_belong() -> None:
    shares = {one.name: one for one in one_person(0, 0, 10, 30).histograms}
    height = shares["person_height"]
    position = int(np.argmax(height.before))
    assert height.edges[position] <= 0.3 < height.edges[position + 1]
    assert shares["people"].before.tolist() == [0, 1, *[0] * 11]
    crowd = {"boxes": [(0, 0, 5, 40)] * 30, "human_ratio": 1.0, "surveillance_score": 1.0, "kept": True}
    found = {one.name: one for one in counted([crowd])[1].histograms}
    assert found["people"].before[-1] == found["human_share"].before[-1] == found["score"].before[-1] == 1


@pytest.mark.parametrize("pictures", [0, 3])
def test_drawings_are_well_formed_and_say_their_numbers(pictures: int) -> None:
    one = {"boxes": [(0, 0, 9, 50)], "human_ratio": 0.3, "surveillance_score": 0.7, "kept": True}
    gone = {**one, "kept": False}
    _, found = counted([one] * pictures + [gone] * pictures)
    for histogram in found.histograms:
        root = ET.fromstring(histogram_svg(histogram))  # noqa: S314 - our own text
        said = [element.text for element in root.iter("title")]
        assert len(said) == np.count_nonzero(histogram.before)
        assert all(text is not None and text.endswith("6 before, 3 after") for text in said)
        bars = {kind: [bar for bar in root.iter("rect") if bar.get("class") == kind] for kind in ("before", "after")}
        heights = {kind: [float(bar.attrib["height"]) for bar in found] for kind, found in bars.items()}
        for old, new in zip(heights["before"], heights["after"], strict=True):
            assert new == pytest.approx(old / 2, abs=0.01)
    feet = found.feet
    assert feet.after is not None
    assert "data:image/png" in ET.tostring(ET.fromstring(heat_map_svg(feet.after, heat_peak(feet))), "unicode")  # noqa: S314


def test_colours_rise_with_the_share_and_share_one_scale() -> None:
    counts = np.zeros((24, 32), np.int64)
    counts[3, 4], counts[5, 6] = 1, 3
    bright = colour_cells(counts, 0.75).astype(int).sum(axis=-1)
    assert bright[5, 6] > bright[3, 4] > bright[0, 0]
    dimmer = colour_cells(counts, 1.0).astype(int).sum(axis=-1)  # on the scale of a denser map
    assert dimmer[5, 6] < bright[5, 6]


def test_files_for_dvc(tmp_path: Path) -> None:
    one = {"boxes": [(0, 0, 9, 50)], "human_ratio": 0.3, "surveillance_score": 0.7, "kept": True}
    _, found = counted([one])
    write_plots(found, tmp_path)
    for histogram in found.histograms:
        table = pd.read_csv(tmp_path / f"{histogram.name}.csv")
        assert list(table.columns) == ["bin", "before", "after"]
        assert table["before"].sum() == 1
        assert table["bin"].is_monotonic_increasing
    alone = heat_map_png(counted([one], final=False)[1].feet)
    with Image.open(tmp_path / "feet.png") as both, Image.open(io.BytesIO(alone)) as before:
        assert both.width > 1.5 * before.width  # before and after, side by side
        assert both.height == before.height


def test_before_cleansing_there_is_no_after() -> None:
    one = {"boxes": [(0, 0, 9, 50)], "human_ratio": 0.3, "surveillance_score": 0.7, "kept": True}
    _, found = counted([one], final=False)
    assert found.feet.after is None
    assert list(histogram_csv(found.histograms[0]).columns) == ["bin", "before"]
    assert 'class="after"' not in histogram_svg(found.histograms[0])


@given(st.integers(0, 10**7))
def test_ticks_are_few_and_round(largest: int) -> None:
    step = nice_step(largest)
    assert step >= 1
    assert str(step).rstrip("0") in ("1", "2", "5")
    assert largest / step <= 5
