"""Each method covers what it must, touches nothing else, and is of the class it claims."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from privseg.errors import PrivacyViolationPrevented, UsageError
from privseg.privacy.cover import covered_copy
from privseg.privacy.filters.registry import METHODS, create_method, describe_methods
from privseg.privacy.keys import SessionSecrets

Image = npt.NDArray[np.uint8]
Mask = npt.NDArray[np.bool_]

IRREVERSIBLE = sorted(name for name, kind in METHODS.items() if kind.privacy_class == "irreversible")
shapes = st.tuples(st.integers(1, 33), st.integers(1, 33))


@st.composite
def scenes(draw: st.DrawFn) -> tuple[Image, Mask]:
    shape = draw(shapes)
    image = draw(hnp.arrays(np.uint8, (*shape, 3)))
    mask = draw(hnp.arrays(np.bool_, shape, elements=st.booleans()))
    return image, mask


def frozen(image: Image) -> Image:
    image.flags.writeable = False
    return image


@pytest.mark.parametrize("name", sorted(METHODS))
@settings(deadline=None)
@given(scene=scenes())
def test_outside_the_mask_every_bit_stays(name: str, scene: tuple[Image, Mask]) -> None:
    image, mask = scene
    method = create_method(name, secrets=SessionSecrets())
    try:
        output = covered_copy(frozen(image), mask, method)
    except PrivacyViolationPrevented:  # a person drawn in the very cells that pixelation would make
        assume(False)
    assert output.dtype == np.uint8
    assert output.shape == image.shape
    outside = ~method.widen(mask)
    assert not (outside & mask).any()
    assert np.array_equal(output[outside], image[outside])


@st.composite
def films(draw: st.DrawFn) -> list[tuple[Image, Mask]]:
    """Three frames of one camera."""
    shape = draw(shapes)
    images = hnp.arrays(np.uint8, (*shape, 3))
    masks = hnp.arrays(np.bool_, shape, elements=st.booleans())
    return [(draw(images), draw(masks)) for _ in range(3)]


@pytest.mark.parametrize("name", IRREVERSIBLE)
@settings(deadline=None, max_examples=60)
@given(film=films(), seed=st.integers(0, 2**32 - 1))
def test_irreversible_output_does_not_depend_on_what_was_covered(
    name: str, film: list[tuple[Image, Mask]], seed: int
) -> None:
    secrets, rng = SessionSecrets(), np.random.default_rng(seed)
    one, another = (create_method(name, secrets=secrets) for _ in range(2))
    for number, (image, mask) in enumerate(film):  # what it remembers of a frame is in the later ones
        other = image.copy()
        other[mask] = rng.integers(0, 256, (int(mask.sum()), 3), np.uint8)
        shown, compared = (
            covered_copy(frozen(picture), mask, method, sequence=number)
            for picture, method in ((image, one), (other, another))
        )
        assert shown.tobytes() == compared.tobytes()


@pytest.mark.parametrize("name", sorted(METHODS))
@pytest.mark.parametrize("shape", [(1, 1), (7, 5), (31, 64), (2, 301)])
@pytest.mark.parametrize("filled", [False, True])
def test_odd_sizes_with_empty_and_full_masks(name: str, shape: tuple[int, int], filled: bool) -> None:
    image = np.random.default_rng(1).integers(0, 256, (*shape, 3), np.uint8)
    output = covered_copy(frozen(image.copy()), np.full(shape, filled), create_method(name, secrets=SessionSecrets()))
    assert output.shape == image.shape
    if not filled:
        assert np.array_equal(output, image)


def test_blank_is_neutral_grey_or_the_colour_asked_for() -> None:
    image, mask = np.zeros((4, 4, 3), np.uint8), np.eye(4, dtype=np.bool_)
    assert (covered_copy(image, mask, create_method("blank"))[mask] == 128).all()
    assert (covered_copy(image, mask, create_method("blank", {"color": "#12fE00"}))[mask] == (0x12, 0xFE, 0)).all()


def test_silhouette_has_a_lighter_outline_inside_the_mask() -> None:
    mask = np.zeros((200, 200), np.bool_)
    mask[50:150, 80:120] = True
    image = np.zeros((200, 200, 3), np.uint8)
    output = create_method("silhouette", {"color": "#203040", "outline": "#ffffff", "outline_width": 0.01})
    drawn = covered_copy(image, mask, output)
    assert (drawn[50, 80:120] == 255).all()
    assert (drawn[100, 100] == (0x20, 0x30, 0x40)).all()
    assert not drawn[~mask].any()


def test_pixelate_leaves_at_most_six_cells_across_a_person_of_any_size() -> None:
    rng = np.random.default_rng(3)
    for height, width in ((60, 30), (240, 100), (100, 180)):
        image = rng.integers(0, 256, (300, 300, 3), np.uint8)
        mask = np.zeros((300, 300), np.bool_)
        mask[20 : 20 + height, 40 : 40 + width] = True
        person = covered_copy(image, mask, create_method("pixelate", {"cells": 6}))[20 : 20 + height, 40 : 40 + width]
        assert len(np.unique(person.reshape(-1, 3), axis=0)) <= 36
        assert 1 + np.any(person[1:, 0] != person[:-1, 0], axis=1).sum() <= 6
        assert 1 + np.any(person[0, 1:] != person[0, :-1], axis=1).sum() <= 6


def test_pixelate_sizes_each_person_on_its_own() -> None:
    image = np.random.default_rng(3).integers(0, 256, (300, 300, 3), np.uint8)
    mask = np.zeros((300, 300), np.bool_)
    mask[10:250, 10:100] = True
    mask[10:70, 200:230] = True
    small = covered_copy(image, mask, create_method("pixelate", {"cells": 6}))[10:70, 200:230]
    assert len(np.unique(small.reshape(-1, 3), axis=0)) > 1


@settings(deadline=None)
@given(scene=scenes(), cells=st.integers(1, 6), where=st.integers(0, 2**31))
def test_a_pixel_makes_up_at_most_half_of_a_cell(scene: tuple[Image, Mask], cells: int, where: int) -> None:
    image, mask = scene
    covered = np.argwhere(mask)
    if not len(covered):
        return
    row, column = covered[where % len(covered)]
    dark, light = image.copy(), image.copy()
    dark[row, column], light[row, column] = 0, 255
    method = create_method("pixelate", {"cells": cells, "min_block": 2})
    difference = covered_copy(frozen(light), mask, method).astype(int) - covered_copy(frozen(dark), mask, method)
    assert np.abs(difference).max() <= 128


@pytest.mark.parametrize("shape", [(41, 11), (13, 97), (2, 1), (9, 9), (25, 24), (200, 3)])
@pytest.mark.parametrize("ragged", [False, True])
def test_no_source_pixel_is_seen_in_pixelated_noise(shape: tuple[int, int], ragged: bool) -> None:
    rng = np.random.default_rng(5)
    image = rng.integers(0, 256, (220, 120, 3), np.uint8)
    mask = np.zeros((220, 120), np.bool_)
    mask[5 : 5 + shape[0], 5 : 5 + shape[1]] = rng.random(shape) < 0.4 if ragged else True
    output = covered_copy(image, mask, create_method("pixelate", {"min_block": 2}))
    assert not (output[mask] == image[mask]).all(axis=1).any()


def test_a_single_pixel_becomes_neutral_grey() -> None:
    mask = np.zeros((9, 9), np.bool_)
    mask[4, 4] = True
    assert (covered_copy(np.full((9, 9, 3), 250, np.uint8), mask, create_method("pixelate"))[4, 4] == 128).all()


def test_a_cell_is_the_mean_of_its_masked_pixels_only() -> None:
    image = np.full((12, 12, 3), 255, np.uint8)
    image[4:8, 4:8] = 10
    mask = np.zeros((12, 12), np.bool_)
    mask[4:8, 4:8] = True
    assert (covered_copy(image, mask, create_method("pixelate"))[mask] == 10).all()


@pytest.mark.parametrize(
    ("name", "params", "said"),
    [
        ("fog", {}, "pixelate"),
        ("blank", {"colour": "#000000"}, "color"),
        ("blank", {"color": "red"}, "color"),
        ("pixelate", {"cells": "7"}, "less than or equal to 6"),
        ("silhouette", {"outline_width": "-1"}, "outline_width"),
    ],
)
def test_a_wrong_method_or_parameter_is_named(name: str, params: dict[str, str], said: str) -> None:
    with pytest.raises(UsageError, match="method") as caught:
        create_method(name, params)
    assert said in str(caught.value)


def test_parameters_may_come_as_text_from_a_command_line() -> None:
    assert create_method("pixelate", {"cells": "4"}).params.model_dump()["cells"] == 4


def test_every_method_says_what_it_is_and_what_it_does_not_hide() -> None:
    described = describe_methods()
    assert {entry["name"] for entry in described} == set(METHODS)
    for entry in described:
        assert entry["privacy_class"] in {"irreversible", "obfuscation", "reversible with key"}
        assert entry["does_not_hide"]
    cells = next(e for e in described if e["name"] == "pixelate")["parameters"]["cells"]
    assert (cells["default"], cells["minimum"], cells["maximum"], cells["choices"]) == (5, 1, 6, None)
    assert cells["description"]
