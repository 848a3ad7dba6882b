"""Features against brute force: what the manifest's columns say, computed the slow and obvious way."""

from __future__ import annotations

import math
from typing import Any

import cv2
import imagehash
import numpy as np
import PIL.Image
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from privseg.datasets.features import components, features, people_rows
from privseg.datasets.fit import Fitted, fit

SIDES = st.integers(1, 24)


def random_fitted(height: int, width: int, seed: int, density: float) -> Fitted:
    """Random pixels and blocks of people on a canvas with padding that must not count."""
    rng = np.random.default_rng(seed)
    image = rng.integers(0, 256, (height + 6, width + 4, 3), np.uint8)
    mask = np.full((height + 6, width + 4), 255, np.uint8)
    inner = np.zeros((height, width), np.uint8)
    inner[rng.random((height, width)) < density] = 1
    inner[rng.random((height, width)) < 0.15] = 255
    content = slice(2, 2 + height), slice(3, 3 + width)
    mask[content] = inner
    return Fitted(image, mask, content)


def slow_components(mask: np.ndarray) -> list[set[tuple[int, int]]]:
    """Flood fill over the eight neighbours."""
    left = {(int(y), int(x)) for y, x in zip(*np.nonzero(mask == 1), strict=True)}
    found = []
    while left:
        edge = [left.pop()]
        component = set(edge)
        while edge:
            y, x = edge.pop()
            near = {(y + dy, x + dx) for dy in (-1, 0, 1) for dx in (-1, 0, 1)} & left
            left -= near
            component |= near
            edge += near
        found.append(component)
    return found


def box(component: set[tuple[int, int]]) -> tuple[int, int, int, int, int]:
    ys, xs = [y for y, _ in component], [x for _, x in component]
    return min(xs), min(ys), max(xs) - min(xs) + 1, max(ys) - min(ys) + 1, len(component)


def slow_contrast(grey: np.ndarray, mask: np.ndarray) -> float:
    differences = []
    height, width = mask.shape
    for y in range(height):
        for x in range(width):
            for other_y, other_x in ((y + 2, x), (y, x + 2)):
                if other_y < height and other_x < width and {mask[y, x], mask[other_y, other_x]} == {0, 1}:
                    differences.append(abs(int(grey[y, x]) - int(grey[other_y, other_x])))
    return sum(differences) / len(differences) if differences else 0.0


@settings(deadline=None, max_examples=120)
@given(SIDES, SIDES, st.integers(0, 2**16), st.sampled_from([0.0, 0.05, 0.3, 0.6, 1.0]))
def test_features_are_what_they_say(height: int, width: int, seed: int, density: float) -> None:
    fitted = random_fitted(height, width, seed, density)
    mask, found = fitted.mask[fitted.content], features(fitted)
    grey = cv2.cvtColor(fitted.image[fitted.content], cv2.COLOR_RGB2GRAY)
    boxes = sorted((box(one) for one in slow_components(mask)), key=lambda one: (one[1], one[0], one))
    labelled, human = int((mask != 255).sum()), int((mask == 1).sum())
    assert [tuple(one) for one in components(fitted)] == boxes
    expected: dict[str, Any] = {
        "height": height + 6,
        "width": width + 4,
        "is_human": human > 0,
        "human_ratio": human / labelled if labelled else 0.0,
        "ignore_ratio": float((mask == 255).mean()),
        "components": len(boxes),
        "min_component_height": min((one[3] for one in boxes), default=0),
        "max_component_height": max((one[3] for one in boxes), default=0),
        "pixel_std": float(grey.std()),
        "people": sum(one[3] >= height / 50 for one in boxes),
        "tallest_ratio": max((one[3] for one in boxes), default=0) / height,
        "contour_contrast": slow_contrast(grey, mask),
    }
    assert {name: found[name] for name in expected} == pytest.approx(expected, abs=1e-9)
    if not boxes:
        assert not any(
            found[name]
            for name in (
                "largest_component_ratio", "borders_touched", "truncated_ratio", "foot_x", "foot_y", "box_fill"
            )
        )  # fmt: skip
        return

    def borders(one: tuple[int, ...]) -> int:
        return (one[0] == 0) + (one[1] == 0) + (one[0] + one[2] == width) + (one[1] + one[3] == height)

    left, top, wide, high, area = max(boxes, key=lambda one: one[4])
    assert found["largest_component_ratio"] == pytest.approx(area / mask.size)
    assert found["borders_touched"] == borders((left, top, wide, high))
    assert found["truncated_ratio"] == pytest.approx(sum(one[4] for one in boxes if borders(one)) / human)
    assert found["foot_x"] == pytest.approx((left + wide / 2) / width)
    assert found["foot_y"] == pytest.approx((top + high) / height)
    assert found["box_fill"] == pytest.approx(area / (wide * high))


@settings(deadline=None, max_examples=30)
@given(SIDES, SIDES, st.integers(0, 2**16))
def test_people_rows_are_the_components(height: int, width: int, seed: int) -> None:
    fitted = random_fitted(height, width, seed, 0.3)
    rows = people_rows("some/name", fitted)
    assert [tuple(row.values())[1:6] for row in rows] == [tuple(one) for one in components(fitted)]
    assert all(
        (row["sample_id"], row["content_height"], row["content_width"]) == ("some/name", height, width) for row in rows
    )
    assert sum(row["area"] for row in rows) == (fitted.mask == 1).sum()


def test_specks_are_components_but_no_people() -> None:
    mask = np.zeros((200, 200), np.uint8)
    mask[10:13, 10:30] = 1  # 3 rows of 200: below a fiftieth
    mask[50:54, 10:12] = 1  # 4 rows: a fiftieth
    found = features(Fitted(np.zeros((200, 200, 3), np.uint8), mask, (slice(0, 200), slice(0, 200))))
    assert (found["components"], found["people"]) == (2, 1)


def test_the_hash_is_the_pictures_whatever_its_padding_and_size() -> None:
    rng = np.random.default_rng(3)
    image = cv2.resize(rng.integers(0, 256, (8, 8, 3), np.uint8), (400, 300), interpolation=cv2.INTER_CUBIC)
    reference = imagehash.phash(PIL.Image.fromarray(image))
    for size in (64, 256, 512):
        found = features(fit(image, np.zeros((300, 400), np.uint8), size=size))["phash"]
        assert len(found) == 16
        assert reference - imagehash.hex_to_hash(found) <= 2
    other = features(fit(255 - image, np.zeros((300, 400), np.uint8), size=64))["phash"]
    assert reference - imagehash.hex_to_hash(other) > 10


@pytest.mark.parametrize(("height", "width"), [(2, 60_000), (60_000, 2), (1, 1)])
def test_extreme_shapes(height: int, width: int) -> None:
    mask = np.ones((height, width), np.uint8)
    fitted = fit(np.full((height, width, 3), 9, np.uint8), mask, size=64)
    found = features(fitted)
    assert (found["components"], found["human_ratio"], found["borders_touched"]) == (1, 1.0, 4)
    assert all(math.isfinite(value) for value in found.values() if isinstance(value, float))


def test_an_outline_that_ends_just_short_of_the_border_touches_it() -> None:
    mask = np.zeros((400, 300), np.uint8)
    mask[4:200, 100:150] = 1  # 4 of 400 pixels short of the top: a hundredth
    found = features(Fitted(np.zeros((400, 300, 3), np.uint8), mask, (slice(0, 400), slice(0, 300))))
    assert (found["borders_touched"], found["truncated_ratio"]) == (1, 1.0)
    mask[4] = 0
    found = features(Fitted(np.zeros((400, 300, 3), np.uint8), mask, (slice(0, 400), slice(0, 300))))
    assert (found["borders_touched"], found["truncated_ratio"]) == (0, 0.0)
