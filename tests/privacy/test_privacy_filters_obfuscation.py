"""What draws over a person's cells: noise, cartoon, warp, morph and false colours."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from filter_cases import OBFUSCATING, Image, Mask, noise_picture, rectangle, walkers

from privseg.privacy.cover import covered_copy
from privseg.privacy.filters.cells import coarse_cells
from privseg.privacy.filters.registry import create_method, describe_methods
from privseg.privacy.keys import SessionSecrets


def colors_of(picture: Image, mask: Mask) -> npt.NDArray[np.uint8]:
    return np.unique(picture[mask], axis=0)


@pytest.mark.parametrize(("name", "params"), OBFUSCATING)
@pytest.mark.parametrize("shape", [(41, 11), (13, 97), (9, 9), (1, 2), (200, 3)])
def test_no_source_pixel_is_seen_as_it_was(name: str, params: dict[str, Any], shape: tuple[int, int]) -> None:
    image = noise_picture(5)
    mask = np.zeros(image.shape[:2], np.bool_)
    mask[5 : 5 + shape[0], 5 : 5 + shape[1]] = True
    output = covered_copy(image, mask, create_method(name, params))
    # By chance a noisy pixel may come out as it was; a person does not.
    assert (output[mask] == image[mask]).all(axis=1).mean() < 0.01


@pytest.mark.parametrize(("name", "params"), OBFUSCATING)
def test_only_six_cells_of_a_person_reach_the_output(name: str, params: dict[str, Any]) -> None:
    """Two pictures whose cells have the same means look the same, whatever the detail."""
    mask = np.zeros((240, 320), np.bool_)
    mask[20:200, 60:240] = True  # six cells of 30 pixels each way
    rng = np.random.default_rng(2)
    coarse = rng.integers(60, 190, (6, 6, 3)).repeat(30, axis=0).repeat(30, axis=1)
    checkers = [
        sign * np.where((np.indices((180, 180)) // size).sum(0) % 2, 40, -40)[..., np.newaxis]
        for size in (1, 5, 15)  # from a pixel to half of a cell
        for sign in (1, -1)
    ]
    secrets = SessionSecrets()
    outputs = []
    for detail in (0, *checkers):
        image = np.zeros((240, 320, 3), np.uint8)
        image[20:200, 60:240] = coarse + detail
        outputs.append(covered_copy(image, mask, create_method(name, params, secrets=secrets)).astype(int))
    # Grey is worked out in whole numbers before it is averaged.
    allowed = 1 if name != "false_colors" else 0.02 * 255
    for output in outputs[1:]:
        assert np.abs(output - outputs[0]).mean() <= allowed
    cells = create_method(name, params).cells_across()
    assert cells is not None
    assert cells <= 6


def test_no_setting_of_an_obfuscating_method_leaves_more_than_six_cells_across_a_person() -> None:
    obfuscating = {entry["name"]: entry for entry in describe_methods() if entry["privacy_class"] == "obfuscation"}
    assert {name for name, _ in OBFUSCATING} < set(obfuscating)
    for name, entry in obfuscating.items():
        most = {
            parameter: bounds["maximum"] for parameter, bounds in entry["parameters"].items() if parameter == "cells"
        }
        assert most, name
        cells = create_method(name, most).cells_across()
        assert cells is not None
        assert cells <= 6, name


def test_the_mean_of_many_noisy_frames_is_the_cells_and_no_more() -> None:
    image, mask = noise_picture(), walkers(people=1)
    method = create_method("noise", {"grain": 0.0})
    frames = [covered_copy(image, mask, method, sequence=n)[mask].astype(float) for n in range(60)]
    assert np.abs(frames[0] - frames[1]).mean() > 30  # no two frames have the same noise
    fused = (np.mean(frames, axis=0) - 0.7 * 127.5) / 0.3
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    box = np.s_[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    cells = coarse_cells(image[box], np.ascontiguousarray(mask[box]), 6).spread()[mask[box]]
    assert np.abs(fused - cells).mean() < 40
    assert abs(np.corrcoef(fused.ravel(), (image[mask] - cells.astype(float)).ravel())[0, 1]) < 0.05


@pytest.mark.parametrize("params", [{}, {"strength": 0.3}, {"grain": 0.0}, {"grain": 0.1}])
def test_the_mean_of_sixty_four_noisy_frames_shows_no_more_than_the_cells(params: dict[str, Any]) -> None:
    """The attack works, so that it proves something: what it finds are the cells. Of the detail there is nothing."""
    down, across = np.mgrid[:240, :320] / 1.0
    # Stripes of a few pixels, far finer than a cell, over large areas of different light.
    detail = 50 * np.sign(np.sin(down * 2 * np.pi / 9)) * np.sign(np.sin(across * 2 * np.pi / 13))
    plain = 128 + 60 * np.sin(down / 40 + 1) * np.cos(across / 50)
    image = np.clip(plain + detail, 0, 255).astype(np.uint8)[:, :, np.newaxis].repeat(3, 2)
    mask = rectangle(240, 320, 20, 60, 200, 200)
    method = create_method("noise", params)
    strength = method.params.model_dump()["strength"]
    fused = np.mean([covered_copy(image, mask, method, sequence=n)[mask] for n in range(64)], axis=0)
    found = (fused - strength * 127.5) / (1 - strength)
    box = np.ascontiguousarray(image[20:220, 60:260])
    cells = coarse_cells(box, np.ones((200, 200), np.bool_), 6).spread().reshape(-1, 3).astype(float)
    assert np.corrcoef(found.ravel(), cells.ravel())[0, 1] > 0.5
    shown = image[mask].astype(float)
    left = np.corrcoef((found - cells).ravel(), (shown - cells).ravel())[0, 1]
    assert abs(left) < 0.1
    assert np.square(found - shown).mean() > 0.9 * np.square(cells - shown).mean()


def test_people_of_one_frame_have_noise_of_their_own() -> None:
    image = np.full((240, 320, 3), 90, np.uint8)
    left, right = rectangle(240, 320, 20, 20, 160, 60), rectangle(240, 320, 20, 200, 160, 60)
    drawn = covered_copy(image, left | right, create_method("noise")).astype(float)
    assert abs(np.corrcoef(drawn[left].ravel(), drawn[right].ravel())[0, 1]) < 0.1


def test_full_noise_and_a_full_morph_keep_nothing_of_the_person() -> None:
    mask = walkers()
    for name in ("noise", "morph"):
        secrets = SessionSecrets()
        drawn = [
            covered_copy(noise_picture(seed), mask, create_method(name, {"strength": 1.0}, secrets=secrets))[mask]
            for seed in (1, 2)
        ]
        assert np.array_equal(*drawn)
        assert create_method(name, {"strength": 1.0}).cells_across() == 0


def test_a_cartoon_has_few_flat_colours_and_dark_contours_between_them() -> None:
    image = np.zeros((240, 320, 3), np.uint8)
    image[:100] = (200, 40, 40)
    image[100:] = (40, 60, 200)
    mask = walkers(people=1)
    drawn = covered_copy(image, mask, create_method("cartoon", {"colors": 2}))
    assert (drawn[70, 65] == (200, 40, 40)).all()
    assert (np.abs(drawn[180, 48].astype(int) - (40, 60, 200)) <= 20).all()  # a cell of both is among the blue ones
    column = drawn[60:140, 65].sum(1)
    assert column.min() < 120  # ink
    flat = covered_copy(image, mask, create_method("cartoon", {"colors": 2, "line": 0.0}))
    assert len(colors_of(flat, mask)) < len(colors_of(drawn, mask)) + 3
    assert flat[60:140, 65].sum(1).min() > 200


@pytest.mark.parametrize("colors", [2, 3, 8])
def test_a_cartoon_has_no_more_colours_than_asked_for_and_one_of_the_contours(colors: int) -> None:
    mask = rectangle(240, 320, 20, 60, 150, 150)  # so small that no two colours are mixed
    image = np.random.default_rng(4).integers(0, 256, (12, 16, 3), np.uint8).repeat(20, axis=0).repeat(20, axis=1)
    flat, drawn = (
        covered_copy(image, mask, create_method("cartoon", {"colors": colors, "line": line})) for line in (0.0, 0.02)
    )
    assert len(colors_of(flat, mask)) == colors
    assert len(colors_of(drawn, mask)) == colors + 1


def test_a_warp_moves_things_and_more_so_when_stronger() -> None:
    ramp = np.tile(np.linspace(0, 255, 240).astype(np.uint8)[:, np.newaxis, np.newaxis], (1, 320, 3))
    mask = np.zeros((240, 320), np.bool_)
    mask[20:220, 60:260] = True
    moved = []
    for secrets in (SessionSecrets() for _ in range(12)):  # one key may bend a place little
        weak, strong = (
            covered_copy(ramp, mask, create_method("warp", {"amplitude": amplitude}, secrets=secrets)).astype(int)
            for amplitude in (0.02, 0.3)
        )
        moved.append((np.abs(weak - ramp)[mask].mean(), np.abs(strong - ramp)[mask].mean()))
        # along a row the ramp has one colour; a warped one has several
        assert len(np.unique(strong[120, 60:260])) > 3
    little, much = np.mean(moved, axis=0)
    assert much > 1.3 * little


def test_a_morph_shows_the_mannequin_more_the_stronger_it_is() -> None:
    image, mask = np.full((240, 320, 3), (200, 30, 30), np.uint8), walkers(people=1)
    redness = []
    for strength in (0.5, 0.6, 0.8, 1.0):
        drawn = covered_copy(image, mask, create_method("morph", {"strength": strength}))[mask].astype(int)
        redness.append((drawn[:, 0] - drawn[:, 1]).mean())
    assert redness[0] > redness[1] > redness[2] > redness[3] == 0


def test_a_tracked_morph_takes_on_the_other_persons_colours() -> None:
    image = np.full((240, 320, 3), (200, 30, 30), np.uint8)
    image[:, 140:] = (30, 30, 200)
    method = create_method("morph", {"target": "tracked", "strength": 1.0})
    mask = walkers()
    alone = covered_copy(image, mask, method, sequence=0)
    drawn = covered_copy(image, mask, method, sequence=1)
    assert alone[100, 65, 0] == alone[100, 65, 2]  # nobody is known yet: the mannequin is grey
    assert (drawn[100, 65] == (30, 30, 200)).all()
    assert (drawn[120, 175] == (200, 30, 30)).all()
    forgotten = covered_copy(image, mask, method, camera="another", sequence=2)
    assert np.array_equal(forgotten, alone)


def test_false_colours_are_few_and_no_colour_of_the_person() -> None:
    mask = walkers()
    for palette in ("keyed", "thermal"):
        drawn = covered_copy(noise_picture(), mask, create_method("false_colors", {"palette": palette, "levels": 3}))
        assert len(colors_of(drawn, mask)) <= 3
    two = [np.full((240, 320, 3), color, np.uint8) for color in ((120, 120, 120), (121, 121, 121))]
    secrets = SessionSecrets()
    same = [covered_copy(image, mask, create_method("false_colors", {}, secrets=secrets))[mask] for image in two]
    assert np.array_equal(*same)  # quantised: who is a little lighter looks the same


def test_thermal_gets_lighter_with_brightness() -> None:
    mask = walkers()
    method = create_method("false_colors", {"palette": "thermal"})
    means = [
        covered_copy(np.full((240, 320, 3), grey, np.uint8), mask, method)[mask].mean() for grey in (10, 90, 170, 250)
    ]
    assert means == sorted(means)
    assert len(set(means)) == 4
