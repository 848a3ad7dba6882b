"""Letterboxing and stretching keep a mask a mask."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from privseg.datasets.fit import fit, label_ratios

SIDES = st.integers(1, 90)
SIZES = st.sampled_from([64, 96])


def random_pair(height: int, width: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    image = rng.integers(1, 256, (height, width, 3), np.uint8)  # never black, so that padding can be told
    mask = rng.choice(np.array([0, 1, 255], np.uint8), (height, width))
    return image, mask


@settings(deadline=None, max_examples=60)
@given(SIDES, SIDES, SIZES, st.integers(0, 2**16))
def test_letterbox(height: int, width: int, size: int, seed: int) -> None:
    image, mask = random_pair(height, width, seed)
    fitted = fit(image, mask, size=size)
    rows, columns = fitted.content
    content_height, content_width = rows.stop - rows.start, columns.stop - columns.start
    assert fitted.image.shape == (size, size, 3)
    assert fitted.mask.shape == (size, size)
    # proportions: both sides by one factor, to the pixel; the longer one fills the square
    scale = size / max(height, width)
    assert max(content_height, content_width) == size
    assert abs(content_height - max(1, height * scale)) <= 0.5
    assert abs(content_width - max(1, width * scale)) <= 0.5
    # centred
    assert abs(rows.start - (size - rows.stop)) <= 1
    assert abs(columns.start - (size - columns.stop)) <= 1
    # values stay, and padding is black and ignored: never human
    assert set(np.unique(fitted.mask[fitted.content])) <= set(np.unique(mask))
    padding = np.ones((size, size), bool)
    padding[fitted.content] = False
    assert (fitted.mask[padding] == 255).all()
    assert (fitted.image[padding] == 0).all()
    assert (fitted.image[fitted.content] > 0).all()


@settings(deadline=None, max_examples=30)
@given(SIDES, SIDES, SIZES, st.integers(0, 2**16))
def test_stretch_fills_the_square(height: int, width: int, size: int, seed: int) -> None:
    image, mask = random_pair(height, width, seed)
    fitted = fit(image, mask, size=size, resize="stretch")
    assert fitted.content == (slice(0, size), slice(0, size))
    assert set(np.unique(fitted.mask)) <= set(np.unique(mask))
    assert (fitted.image > 0).all()


@pytest.mark.parametrize("factor", [0.5, 1, 2, 4])
def test_mask_stays_on_its_picture(factor: float) -> None:
    side = int(64 / factor)
    image = np.full((side, side, 3), 40, np.uint8)
    mask = np.zeros((side, side), np.uint8)
    half = slice(side // 4, side // 2)
    image[half, half], mask[half, half] = 240, 1
    fitted = fit(image, mask, size=64)
    for axis in (0, 1):  # enlarging blurs corners, so edges are compared
        np.testing.assert_array_equal((fitted.mask == 1).any(axis), (fitted.image[..., 0] > 140).any(axis))


def test_label_ratios_leave_ignored_pixels_out() -> None:
    mask = np.array([[1, 0, 0, 0], [255, 255, 255, 255]], np.uint8)
    assert label_ratios(mask) == (0.25, 0.5)
    assert label_ratios(np.full((2, 2), 255, np.uint8)) == (0.0, 1.0)
