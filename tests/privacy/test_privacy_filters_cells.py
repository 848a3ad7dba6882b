"""What averages: the cells that most obfuscating methods begin with, pixelation with noise, blur and mosaic."""

from __future__ import annotations

import itertools

import numpy as np
import numpy.typing as npt
import pytest
from filter_cases import noise, rectangle

from privseg.privacy.cover import covered_copy
from privseg.privacy.filters.cells import coarse_cells
from privseg.privacy.filters.registry import create_method
from privseg.privacy.keys import SessionSecrets

BLURS = ("gaussian", "motion", "stack")


def test_cells_are_means_of_covered_pixels_and_small_ones_take_the_persons() -> None:
    image = np.full((60, 60, 3), 200, np.uint8)
    mask = np.zeros((60, 60), np.bool_)
    mask[:, :20] = True
    mask[0, 59] = True
    image[:30, :20] = 40
    image[0, 59] = 255
    cells = coarse_cells(image, mask, 6)
    assert cells.values.shape == (6, 6, 3)
    assert (cells.values[0, :2] == 40).all()
    assert (cells.values[5, :2] == 200).all()
    assert (np.abs(cells.values[0, 5].astype(int) - 120) <= 1).all()
    assert cells.spread().shape == cells.smooth().shape == (60, 60, 3)


@pytest.mark.parametrize(("side", "cells"), [(7, 1), (20, 2), (47, 5), (300, 6)])
def test_a_small_person_has_fewer_cells(side: int, cells: int) -> None:
    everybody = np.ones((side, side), np.bool_)
    assert coarse_cells(noise(side, side), everybody, 6).values.shape == (cells, cells, 3)


def noisy_cells(epsilon: float, m: int, repeats: int) -> npt.NDArray[np.float64]:
    """The first cell's values over many frames; cells of 40 by 40 pixels, all of 128."""
    image, mask = np.full((200, 200, 3), 128, np.uint8), np.ones((200, 200), np.bool_)
    mask[0, 0] = False
    image[5, 5] = 127  # not all of one colour, which no method could change
    method = create_method("pixelate", {"epsilon": epsilon, "m": m})
    return np.array(
        [covered_copy(image, mask, method, sequence=number)[20::40, 20::40] for number in range(repeats)], np.float64
    )


def test_the_noise_has_the_scale_that_the_promise_needs() -> None:
    cells = noisy_cells(epsilon=1.0, m=50, repeats=30)
    scale = 255 * 50 / (40 * 40)
    # The mean distance from the middle of a Laplace distribution is its scale; 2,250 values.
    assert np.abs(cells - 128).mean() == pytest.approx(scale, rel=0.15)
    assert abs(cells.mean() - 128) < 1


def test_noise_is_never_drawn_twice_not_even_with_the_same_keys() -> None:
    image, mask = noise(80, 80), np.ones((80, 80), np.bool_)
    keys = SessionSecrets()
    methods = [create_method("pixelate", {"epsilon": 0.5}, secrets=keys) for _ in range(2)]
    outputs = {covered_copy(image, mask, method, sequence=7).tobytes() for method in methods for _ in range(2)}
    assert len(outputs) == 4


def test_with_noise_a_cell_of_a_pixel_or_two_is_grey() -> None:
    mask = rectangle(80, 80, 10, 10, 50, 50)
    mask[60:62, 11] = True
    image = np.full((80, 80, 3), 250, np.uint8)
    image[20, 20] = 0
    output = covered_copy(image, rectangle(80, 80, 3, 3, 1, 3), create_method("pixelate", {"epsilon": 1.0}))
    assert (output[3, 3:6] == 128).all()


@pytest.mark.parametrize("kind", BLURS)
@pytest.mark.parametrize("cells", [2.0, 4.0, 6.0])
@pytest.mark.parametrize("height", [120, 480])
def test_blur_leaves_a_tenth_of_the_finest_detail_it_counts(kind: str, cells: float, height: int) -> None:
    """A wave of as many half-periods as there are cells comes out at a tenth of its height, or weaker."""
    x = np.arange(height)
    wave = 128 + 100 * np.cos(np.pi * cells * x / height)
    image = np.repeat(np.rint(wave).astype(np.uint8), height).reshape(height, height)[:, :, np.newaxis].repeat(3, 2)
    mask = np.ones((height, height), np.bool_)
    method = create_method("blur", {"kind": kind, "cells": cells, "angle": 0})
    output = covered_copy(image, mask, method)[:, height // 2, 0].astype(float)
    middle = slice(height // 4, -height // 4)  # the edges have fewer neighbours
    basis = np.stack([np.cos(np.pi * cells * x / height), np.sin(np.pi * cells * x / height), np.ones(height)], axis=1)
    amplitude = np.hypot(*np.linalg.lstsq(basis[middle], output[middle], rcond=None)[0][:2])
    assert amplitude <= 12  # of 100: a tenth, and what the edges add to so wide a kernel
    assert amplitude > 1  # nor is more counted than there is


@pytest.mark.parametrize("kind", BLURS)
def test_neither_the_background_nor_darkness_runs_into_a_blurred_person(kind: str) -> None:
    image = np.full((200, 200, 3), 255, np.uint8)
    mask = rectangle(200, 200, 40, 80, 100, 40) | rectangle(200, 200, 60, 60, 20, 80)
    image[mask] = 90
    image[100, 100] = 91
    other = rectangle(200, 200, 45, 130, 10, 30)
    image[other] = 255
    output = covered_copy(image, mask | other, create_method("blur", {"kind": kind}))
    assert np.abs(output[mask].astype(int) - 90).max() <= 1


def test_a_motion_blur_is_drawn_out_along_its_angle() -> None:
    image = np.zeros((200, 200, 3), np.uint8)
    image[90:110, 90:110] = 255
    mask = np.ones((200, 200), np.bool_)
    flat = covered_copy(image, mask, create_method("blur", {"kind": "motion", "angle": 0}))
    steep = covered_copy(image, mask, create_method("blur", {"kind": "motion", "angle": 90}))
    assert int(flat[100, 140, 0]) > 2 * int(flat[140, 100, 0])
    assert int(steep[140, 100, 0]) > 2 * int(steep[100, 140, 0])


@pytest.mark.parametrize("name", ["blur", "mosaic"])
@pytest.mark.parametrize("shape", [(1, 1), (2, 1), (1, 3), (40, 1), (9, 9), (61, 20), (300, 7)])
def test_no_pixel_makes_up_most_of_what_is_seen(name: str, shape: tuple[int, int]) -> None:
    mask = rectangle(320, 120, 7, 9, *shape)
    method = create_method(name)
    image = np.full((320, 120, 3), 100, np.uint8)
    image[0, 0] = 1
    for row, column in itertools.product({0, shape[0] // 2, shape[0] - 1}, {0, shape[1] // 2, shape[1] - 1}):
        dark, light = image.copy(), image.copy()
        dark[7 + row, 9 + column], light[7 + row, 9 + column] = 0, 255
        changed = covered_copy(light, mask, method).astype(int) - covered_copy(dark, mask, method)
        assert np.abs(changed[mask]).max() <= 128


def test_mosaic_has_at_most_six_tiles_squared_of_flat_colour() -> None:
    mask = rectangle(300, 300, 20, 40, 240, 240)
    output = covered_copy(noise(300, 300), mask, create_method("mosaic", {"cells": 6}))[mask]
    colours, sizes = np.unique(output, axis=0, return_counts=True)
    assert 10 < len(colours) <= 64  # a tile may be cut off at the edge
    assert np.sort(sizes)[-30:].sum() > 0.7 * mask.sum()


def test_mosaic_tiles_are_their_cameras_own_and_stay_where_they_are() -> None:
    keys = SessionSecrets()
    first, second = (create_method("mosaic", secrets=keys) for _ in range(2))
    image, mask = noise(120, 120), rectangle(120, 120, 10, 10, 100, 60)
    once = covered_copy(image, mask, first, camera="a", sequence=1)
    assert np.array_equal(once, covered_copy(image, mask, second, camera="a", sequence=2))
    assert not np.array_equal(once, covered_copy(image, mask, first, camera="b", sequence=1))
    assert not np.array_equal(once, covered_copy(image, mask, create_method("mosaic"), camera="a", sequence=1))


def test_a_tile_is_the_mean_of_the_person_only() -> None:
    image = np.full((100, 100, 3), 255, np.uint8)
    mask = rectangle(100, 100, 20, 30, 60, 30)
    image[mask] = 10
    image[50, 40] = 11
    assert (np.abs(covered_copy(image, mask, create_method("mosaic"))[mask].astype(int) - 10) <= 1).all()
