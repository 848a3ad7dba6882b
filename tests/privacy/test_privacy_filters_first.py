"""What plate, outline, box, hull, pixelate, blur and mosaic each promise."""

from __future__ import annotations

import itertools

import cv2
import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from privseg.privacy.cover import cover, covered_copy
from privseg.privacy.filters.base import Method
from privseg.privacy.filters.registry import create_method
from privseg.privacy.keys import SessionSecrets
from privseg.privacy.people import MAX_PEOPLE, find_people

Image = npt.NDArray[np.uint8]
Mask = npt.NDArray[np.bool_]

BLURS = ("gaussian", "motion", "stack")


def noise(height: int, width: int, seed: int = 0) -> Image:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)


def rectangle(height: int, width: int, top: int, left: int, tall: int, wide: int) -> Mask:
    mask = np.zeros((height, width), np.bool_)
    mask[top : top + tall, left : left + wide] = True
    return mask


# -- people -----------------------------------------------------------------------------------------------------------


@settings(deadline=None, max_examples=40)
@given(
    size=st.sampled_from([(40, 60), (70, 1030), (61, 1921), (1929, 37), (64, 1920)]),
    boxes=st.lists(st.tuples(*[st.floats(0, 1)] * 2, st.integers(1, 20), st.integers(1, 20)), max_size=9),
)
def test_people_share_no_pixel_and_together_are_the_mask(
    size: tuple[int, int], boxes: list[tuple[float, float, int, int]]
) -> None:
    mask = np.zeros(size, np.bool_)
    for down, across, tall, wide in boxes:
        top, left = int(down * (size[0] - 1)), int(across * (size[1] - 1))
        mask[top : top + tall, left : left + wide] = True
    times = np.zeros(size, np.int64)
    for person, own in find_people(mask):
        assert own.shape == (person.height, person.width)
        assert own.any(axis=0)[[0, -1]].all()
        assert own.any(axis=1)[[0, -1]].all()
        times[person.top : person.top + person.height, person.left : person.left + person.width] += own
    assert np.array_equal(times, mask)


@pytest.mark.parametrize("width", [300, 1100, 1921])
def test_people_apart_are_apart_at_every_size_of_frame(width: int) -> None:
    mask = rectangle(60, width, 10, 20, 30, 10) | rectangle(60, width, 10, 42, 30, 10)
    assert [(person.left, person.width) for person, _ in find_people(mask)] == [(20, 10), (42, 10)]


def test_noise_of_a_mask_is_one_person_that_covers_all_of_it() -> None:
    mask = np.zeros((60, 60), np.bool_)
    mask[2:58:4, 3:58:4] = True
    assert mask.sum() > MAX_PEOPLE
    ((person, own),) = find_people(mask)
    assert (person.top, person.left) == (2, 3)
    assert own.sum() == mask.sum()


def test_a_person_can_not_be_made_smaller_by_who_is_handed_it() -> None:
    ((_, own),) = find_people(rectangle(20, 20, 5, 5, 9, 3))
    with pytest.raises(ValueError, match="read-only"):
        own[:] = False


# -- figures ----------------------------------------------------------------------------------------------------------


def angle_mask() -> Mask:
    """An L: its box and its hull are larger than it."""
    return rectangle(200, 300, 40, 60, 100, 20) | rectangle(200, 300, 120, 60, 20, 100)


def test_outline_is_a_bright_contour_around_darkness() -> None:
    mask = rectangle(200, 200, 50, 80, 100, 40)
    drawn = covered_copy(noise(200, 200), mask, create_method("outline", {"color": "#000000", "outline": "#ffffff"}))
    assert (drawn[50, 80:120] == 255).all()
    assert (drawn[100, 100] == 0).all()


def test_outline_after_another_method_leaves_what_it_made() -> None:
    mask, image = rectangle(200, 200, 50, 80, 100, 40), noise(200, 200)
    pixelated = covered_copy(image, mask, create_method("pixelate"))
    method = create_method("pixelate+outline", {"outline.outline": "#ffffff"})
    both = covered_copy(image, mask, method)
    assert method.privacy_class == "obfuscation"
    assert (both[50, 80:120] == 255).all()
    assert np.array_equal(both[60:140, 90:110], pixelated[60:140, 90:110])


@pytest.mark.parametrize("name", ["blank+outline", "outline+pixelate", "pixelate+blank", "blur+box"])
def test_a_composition_in_which_an_irreversible_method_replaces_is_irreversible(name: str) -> None:
    method = create_method(name)
    assert method.privacy_class == "irreversible"
    mask, image = angle_mask(), noise(200, 300)
    other = image.copy()
    other[method.widen(mask)] = 0
    assert np.array_equal(covered_copy(image, mask, method), covered_copy(other, mask, method))


@pytest.mark.parametrize("margin", [0.0, 0.1])
def test_box_covers_the_whole_rectangle_around_a_person(margin: float) -> None:
    mask, more = angle_mask(), round(margin * 100)
    box = rectangle(200, 300, 40 - more, 60 - more, 100 + 2 * more, 100 + 2 * more)
    method = create_method("box", {"margin": margin, "outline_width": 0, "color": "#010203"})
    picture, image = noise(200, 300), noise(200, 300)
    assert np.array_equal(cover(picture, mask, method, camera="", sequence=0), box)
    assert (picture[box] == (1, 2, 3)).all()
    assert np.array_equal(picture[~box], image[~box])


def test_box_is_framed() -> None:
    drawn = covered_copy(noise(300, 300), rectangle(300, 300, 50, 50, 90, 30), create_method("box"))
    assert not np.array_equal(drawn[50, 60], drawn[80, 60])


def test_hull_covers_the_dilated_convex_hull_and_not_the_box() -> None:
    mask = angle_mask()
    wide = create_method("hull", {"margin": 0.1}).widen(mask)
    tight = create_method("hull", {"margin": 0}).widen(mask)
    assert not (mask & ~tight).any()
    assert tight[110, 90]  # between the legs of the L
    assert not tight[45, 150]  # the far corner of its box
    assert not (tight & ~wide).any()
    distance = cv2.distanceTransform((~tight).view(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_PRECISE)
    assert wide[distance <= 9].all()
    assert not wide[distance > 12].any()


# -- plate ------------------------------------------------------------------------------------------------------------


def taught(method: Method, image: Image, mask: Mask, frames: range) -> Image:
    output = image
    for number in frames:
        output = covered_copy(image, mask, method, sequence=number)
    return output


def test_plate_shows_the_scene_behind_the_person() -> None:
    method, scene = create_method("plate"), noise(96, 128)
    mask = rectangle(96, 128, 20, 40, 60, 30)
    taught(method, scene, np.zeros_like(mask), range(60))
    with_person = scene.copy()
    with_person[mask] = (255, 0, 0)
    assert np.array_equal(covered_copy(with_person, mask, method, sequence=60), scene)


def test_plate_is_neutral_grey_while_nothing_is_known() -> None:
    everywhere = np.ones((50, 40), np.bool_)
    assert (covered_copy(noise(50, 40), everywhere, create_method("plate")) == 128).all()


def test_plate_guesses_what_nobody_saw_from_what_is_around() -> None:
    scene = np.empty((96, 128, 3), np.uint8)
    scene[:] = np.linspace(40, 200, 128).astype(np.uint8)[np.newaxis, :, np.newaxis]
    mask = rectangle(96, 128, 30, 40, 40, 40)
    hidden = scene.copy()
    hidden[mask] = 255
    difference = taught(create_method("plate"), hidden, mask, range(60))[mask].astype(int) - scene[mask]
    assert np.abs(difference).mean() < 15


def test_plate_resists_a_person_missed_once_and_drops_one_who_was_there_at_first() -> None:
    scene, nobody = noise(96, 128), np.zeros((96, 128), np.bool_)
    mask = rectangle(96, 128, 20, 40, 60, 30)
    passer_by = scene.copy()
    passer_by[mask] = (255, 0, 0)
    method = create_method("plate")
    taught(method, scene, nobody, range(100))
    taught(method, passer_by, nobody, range(100, 116))
    assert np.array_equal(covered_copy(passer_by, mask, method, sequence=116), scene)
    method = create_method("plate")
    taught(method, passer_by, nobody, range(8))
    taught(method, scene, nobody, range(8, 140))
    assert np.array_equal(covered_copy(passer_by, mask, method, sequence=140), scene)


@pytest.mark.parametrize("stride", [1, 2, 8, 16, 25])
def test_plate_learns_every_row_whatever_regular_part_of_the_frames_comes(stride: int) -> None:
    method, scene = create_method("plate"), noise(96, 32)
    taught(method, scene, np.zeros((96, 32), np.bool_), range(0, 60 * stride, stride))
    blacked = np.zeros_like(scene)
    output = covered_copy(blacked, np.ones((96, 32), np.bool_), method, sequence=60 * stride)
    assert np.array_equal(output, scene)


def test_plate_forgets_with_another_camera_or_size() -> None:
    method, scene = create_method("plate"), noise(48, 32)
    everywhere = np.ones((48, 32), np.bool_)
    taught(method, scene, ~everywhere, range(60))
    assert (covered_copy(scene, everywhere, method, camera="other", sequence=60) == 128).all()
    taught(method, scene, ~everywhere, range(60))
    assert (covered_copy(noise(48, 33), np.ones((48, 33), np.bool_), method, sequence=60) == 128).all()


def test_plate_never_learns_what_was_covered() -> None:
    """Two films that differ under the masks alone look the same for ever."""
    films: list[list[bytes]] = []
    for seed in (1, 2):
        method, frames = create_method("plate"), []
        for number in range(50):
            image = noise(64, 64)
            mask = rectangle(64, 64, 10, number % 40, 40, 15)
            image[mask] = noise(64, 64, seed)[mask]
            frames.append(covered_copy(image, mask, method, sequence=number).tobytes())
        films.append(frames)
    assert films[0] == films[1]


# -- pixelate with noise ----------------------------------------------------------------------------------------------


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


# -- blur -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", BLURS)
@pytest.mark.parametrize("cells", [2.0, 4.0, 6.0])
@pytest.mark.parametrize("height", [120, 480])
def test_blur_halves_the_power_of_the_finest_detail_it_leaves(kind: str, cells: float, height: int) -> None:
    """A wave of as many half-periods as there are cells comes out at the root of a half, or weaker."""
    x = np.arange(height)
    wave = 128 + 100 * np.cos(np.pi * cells * x / height)
    image = np.repeat(np.rint(wave).astype(np.uint8), height).reshape(height, height)[:, :, np.newaxis].repeat(3, 2)
    mask = np.ones((height, height), np.bool_)
    method = create_method("blur", {"kind": kind, "cells": cells, "angle": 0})
    output = covered_copy(image, mask, method)[:, height // 2, 0].astype(float)
    middle = slice(height // 4, -height // 4)  # the edges have fewer neighbours
    basis = np.stack([np.cos(np.pi * cells * x / height), np.sin(np.pi * cells * x / height), np.ones(height)], axis=1)
    amplitude = np.hypot(*np.linalg.lstsq(basis[middle], output[middle], rcond=None)[0][:2])
    assert amplitude <= 100 * np.sqrt(0.5) * 1.06
    assert amplitude > 20


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


# -- mosaic -----------------------------------------------------------------------------------------------------------


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
