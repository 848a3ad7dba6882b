"""The plate shows the scene as it is without people, and learns it from nobody."""

from __future__ import annotations

import numpy as np
import pytest
from filter_cases import Image, Mask, noise, rectangle

from privseg.privacy.cover import covered_copy
from privseg.privacy.filters.base import Method
from privseg.privacy.filters.registry import create_method


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
