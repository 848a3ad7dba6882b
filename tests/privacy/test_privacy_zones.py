"""Zones: always covered, or never shown to anybody, the model and the method included."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from privseg.errors import PrivacyViolationPrevented, UsageError
from privseg.privacy.filters.base import Context, Method, MethodParams
from privseg.privacy.filters.registry import create_method
from privseg.privacy.frames import RawFrame, protect
from privseg.privacy.masks import PersonMask
from privseg.privacy.zones import Zones, rasterize

Mask = npt.NDArray[np.bool_]
Image = npt.NDArray[np.uint8]
shares = st.floats(0, 1).map(lambda value: round(value, 3))
triangles = st.tuples(*[st.tuples(shares, shares)] * 3)


def area(corners: Any) -> float:
    return float(cv2.contourArea(cv2.convexHull(np.asarray(corners, np.float32))))


@settings(deadline=None)
@given(triangles.filter(lambda corners: area(corners) > 1e-4), st.integers(1, 120), st.integers(1, 120))
def test_every_pixel_whose_centre_is_in_a_zone_belongs_to_it(corners: Any, height: int, width: int) -> None:
    covered = rasterize(Zones(always=(corners,)), height, width).always
    assert covered is not None
    assert covered.shape == (height, width)
    hull = cv2.convexHull(np.asarray([(x * width, y * height) for x, y in corners], np.float32))
    for row in range(0, height, 7):
        for column in range(0, width, 7):
            if cv2.pointPolygonTest(hull, (column + 0.5, row + 0.5), False) > 0:
                assert covered[row, column]


def test_a_zone_is_no_larger_than_it_must_be() -> None:
    covered = rasterize(Zones(always=(((0.2, 0.2), (0.4, 0.2), (0.4, 0.6), (0.2, 0.6)),)), 100, 200).always
    assert covered is not None
    assert covered[20:60, 40:80].all()
    covered[18:62, 38:82] = False
    assert not covered.any()


def test_pixels_and_shares_say_the_same() -> None:
    by_share = rasterize(Zones(always=(((0, 0), (0.5, 0), (0.5, 0.5)),)), 100, 200)
    by_pixel = rasterize(Zones(always=(((0, 0), (100, 0), (100, 50)),)), 100, 200)
    assert np.array_equal(by_share.always, by_pixel.always)  # type: ignore[arg-type]
    assert by_share.never_shown is None


def test_a_star_has_no_hole_in_its_middle() -> None:
    star = [(0.5 + 0.4 * np.sin(turn), 0.5 - 0.4 * np.cos(turn)) for turn in np.arange(5) * 4 * np.pi / 5]
    covered = rasterize(Zones.model_validate({"never_shown": [star]}), 100, 100).never_shown
    assert covered is not None
    assert covered[50, 50]


def test_the_whole_frame_may_be_a_zone() -> None:
    covered = rasterize(Zones(never_shown=(((0, 0), (1, 0), (1, 1), (0, 1)),)), 33, 47).never_shown
    assert covered is not None
    assert covered.all()


@pytest.mark.parametrize(
    ("polygon", "fault"),
    [
        ([[0, 0], [1, 1]], "at least 3"),
        ([[0, 0], [0.5, 0.5], [1, 1]], "one line"),
        ([[0, 0], [0, 0], [0, 0]], "one line"),
        ([[0, 0], [0.5, 1.2], [1, 0]], "mixes"),
        ([[0, 0], [-1, 5], [7, 7]], "greater than or equal to 0"),
        ([[0, 0], [float("nan"), 1], [1, 0]], "finite"),
        ([[0, 0], [float("inf"), 1], [1, 0]], "finite"),
        ([[0, 0, 0], [0, 1, 0], [1, 1, 0]], "at most 2"),
    ],
)
def test_what_is_no_polygon_is_refused(polygon: Any, fault: str) -> None:
    with pytest.raises(ValidationError, match=fault):
        Zones.model_validate({"always": [polygon]})


def test_a_zone_beyond_the_frame_is_named() -> None:
    zones = Zones(never_shown=(((0, 0), (640, 0), (640, 480)),))
    rasterize(zones, 480, 640)
    with pytest.raises(UsageError, match=r"zone never_shown\[0\].*beyond the frame of 320x240"):
        rasterize(zones, 240, 320)


class Witness(Method):
    """Notes the largest value it is shown, and paints everything, beyond its person too."""

    name = "witness"
    params_type = MethodParams
    privacy_class = "obfuscation"
    does_not_hide = "anything"

    def __init__(self) -> None:
        super().__init__()
        self.largest = 0

    def widen(self, mask: Mask) -> Mask:
        return np.ones_like(mask)

    def protect(self, image: Image, mask: Mask, context: Context) -> Image:
        self.largest = max(self.largest, int(image.max()))
        return np.full_like(image, 77)


def frame_with(left: Mask) -> RawFrame:
    """Bright where ``left``, dim elsewhere."""
    pixels = np.random.default_rng(3).integers(40, 60, (*left.shape, 3), np.uint8)
    pixels[left] = 250
    return RawFrame(pixels, sequence=0, pts=0, time_base=Fraction(1, 10))


def test_what_is_never_shown_reaches_neither_the_model_nor_the_method_nor_the_output() -> None:
    hidden = np.zeros((64, 96), np.bool_)
    hidden[10:40, 20:60] = True
    frame, witness = frame_with(hidden), Witness()
    frame.never_show(hidden)
    assert frame.model_input(96).max() < 100
    output = protect(frame, PersonMask(np.ones((64, 96), np.bool_), 0), witness).pixels
    assert witness.largest < 100
    assert (output[~hidden] == 77).all()
    assert len(np.unique(output[hidden], axis=0)) == 1
    assert output[hidden].max() < 77


@pytest.mark.parametrize("name", ["blank", "silhouette", "pixelate"])
@settings(deadline=None, max_examples=30)
@given(seed=st.integers(0, 1000))
def test_no_output_depends_on_what_is_never_shown(name: str, seed: int) -> None:
    rng = np.random.default_rng(seed)
    hidden, mask = (np.kron(rng.random((8, 11)) < 0.3, np.ones((5, 5))).astype(np.bool_) for _ in range(2))
    pixels = rng.integers(0, 256, (*hidden.shape, 3), np.uint8)
    other = pixels.copy()
    other[hidden] = rng.integers(0, 256, (int(hidden.sum()), 3), np.uint8)
    outputs = []
    for picture in (pixels, other):
        frame = RawFrame(picture.copy(), sequence=0, pts=0, time_base=Fraction(1, 10))
        frame.never_show(hidden)
        outputs.append((frame.model_input(64), protect(frame, PersonMask(mask, 0), create_method(name)).pixels))
    assert np.array_equal(outputs[0][0], outputs[1][0])
    assert np.array_equal(outputs[0][1], outputs[1][1])
    assert len(np.unique(outputs[0][1][hidden], axis=0)) <= 1
    shown = ~(mask | hidden)
    assert np.array_equal(outputs[0][1][shown], pixels[shown])


def test_areas_never_shown_add_up_and_must_fit() -> None:
    left, top = np.zeros((20, 30), np.bool_), np.zeros((20, 30), np.bool_)
    left[:, :5] = top[:5] = True
    frame = frame_with(left | top)
    frame.never_show(left)
    frame.never_show(top)
    with pytest.raises(PrivacyViolationPrevented, match="never shown"):
        frame.never_show(left.T)
    output = protect(frame, PersonMask(np.zeros((20, 30), np.bool_), 0), create_method("blank"))
    assert output.pixels.max() < 100
    with pytest.raises(PrivacyViolationPrevented, match="before"):
        frame.never_show(left)
