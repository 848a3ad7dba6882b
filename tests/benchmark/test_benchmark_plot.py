from __future__ import annotations

import itertools
import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from privseg.benchmark.labels import Box, Circle, place_labels
from privseg.benchmark.plot import Frame, Point, bubble_plot, pareto_front
from privseg.benchmark.study import STUDY

WIDE = Frame("pictures a second", "human IoU")
NARROW = Frame("pictures a second", "human IoU", width=370, height=520, largest=20, type_size=11)
models = st.lists(
    st.tuples(st.floats(0.3, 200), st.floats(0, 1), st.integers(1_000_000, 70_000_000)), min_size=1, max_size=20
)


def points(values):
    return [Point(f"candidate_number_{n:02d}", *value) for n, value in enumerate(values)]


def beats(a, b):
    return a.x >= b.x and a.y >= b.y and (a.x, a.y) != (b.x, b.y)


@given(st.lists(st.tuples(st.integers(1, 6), st.integers(0, 6)), min_size=1, max_size=12))
def test_front_is_what_no_other_point_beats(values):
    found = points([(x, y / 6, 1) for x, y in values])
    front = pareto_front(found)
    assert {p.name for p in front} == {p.name for p in found if not any(beats(other, p) for other in found)}
    assert [p.x for p in front] == sorted(p.x for p in front)


@settings(max_examples=25, deadline=None)
@given(models, st.sampled_from([WIDE, NARROW]))
def test_names_of_twenty_candidates_never_overlap_and_stay_inside(values, frame):
    circles = [
        Circle(
            frame.area.left + frame.area.width * x / 200,
            frame.area.top + frame.area.height * (1 - y),
            4 + frame.largest * (size / 7e7) ** 0.5,
        )
        for x, y, size in values
    ]
    boxes = place_labels(circles, [(20 * frame.type_size * 0.58, frame.type_size * 1.2)] * len(circles), frame.area)
    assert all(box.within(frame.area) for box in boxes)
    assert not any(a.overlaps(b) for a, b in itertools.combinations(boxes, 2))


def test_a_name_keeps_off_bubbles_and_obstacles_where_there_is_room():
    circles = [Circle(200, 100, 10), Circle(240, 100, 10)]
    wall = [Circle(200, 100 + y, 4) for y in range(-90, 90, 4)]
    boxes = place_labels(circles, [(60, 14), (60, 14)], Box(0, 0, 400, 200), wall)
    assert not any(circle.touches(box) for circle in (*circles, *wall) for box in boxes)


@settings(max_examples=30, deadline=None)
@given(models)
def test_bubbles_stand_where_the_figures_say(values):
    given_points = points(values)
    svg = bubble_plot(given_points, WIDE, winner="candidate_number_00")
    found = re.findall(r'<circle class="(\w+)" cx="([\d.]+)" cy="([\d.]+)" r="([\d.]+)"><title>(\w+)</title>', svg)
    drawn = {name: (kind, float(x), float(y), float(r)) for kind, x, y, r, name in found}
    assert set(drawn) == {p.name for p in given_points}
    for a, b in itertools.combinations(given_points, 2):
        (_, ax, ay, ar), (_, bx, by, br) = drawn[a.name], drawn[b.name]
        assert (ax - bx) * (a.x - b.x) >= 0
        assert (ay - by) * (a.y - b.y) <= 0, "better is higher up, and y grows downwards"
        assert (ar - br) * (a.size - b.size) >= 0
    area = WIDE.area
    for kind, x, y, _ in drawn.values():
        assert area.left <= x <= area.left + area.width
        assert area.top - 0.1 <= y <= area.top + area.height + 0.1
        assert kind in {"winner", "front", "other"}
    assert drawn["candidate_number_00"][0] == "winner"
    front = {p.name for p in pareto_front(given_points)} - {"candidate_number_00"}
    assert {name for name, (kind, *_) in drawn.items() if kind == "front"} == front


def test_a_bubbles_area_is_its_size():
    svg = bubble_plot([Point("small", 1, 0.5, 1e7), Point("large", 9, 0.6, 4e7)], WIDE)
    large, small = (float(r) for r in re.findall(r' r="([\d.]+)"', svg))
    assert large == WIDE.largest
    assert small == pytest.approx(large / 2)


def test_names_are_escaped():
    assert "<script" not in bubble_plot([Point("<script>", 1, 0.5, title="<script>")], WIDE)


def test_the_studys_table_is_the_published_one():
    assert len(STUDY) == 13
    rows = {row.model: (row.resolution, row.iterations, row.fps, row.mean_iou) for row in STUDY}
    assert rows["ISANet"] == ("512x1024", 80_000, 2.35, 0.8032)
    assert rows["UNet"] == ("512x1024", 160_000, 3.05, 0.691)
    assert rows["ICNet"] == ("832x832", 80_000, 27.12, 0.6814)
    assert rows["BiSeNetV2"] == ("1024x1024", 160_000, 31.77, 0.7321)
    assert [row.fps for row in STUDY] == sorted(row.fps for row in STUDY)
