"""Contact sheets: pictures with their masks in a grid, and words where there is no picture."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from privseg.datasets.reports.contact_sheet import COLUMNS, TILES, Tile, contact_sheet, overlay


@pytest.fixture
def pair(tmp_path: Path) -> tuple[Path, Path]:
    """A grey picture with a person in its upper left quarter and an ignored right half."""
    mask = np.zeros((128, 128), np.uint8)
    mask[:, 64:] = 255
    mask[16:48, 16:48] = 1
    Image.fromarray(np.full((128, 128, 3), 128, np.uint8)).save(tmp_path / "x.jpg")
    Image.fromarray(mask).save(tmp_path / "x.png")
    return tmp_path / "x.jpg", tmp_path / "x.png"


def pixels(sheet: bytes) -> NDArray[np.uint8]:
    image = Image.open(io.BytesIO(sheet))
    assert image.format == "JPEG"
    return np.asarray(image)


def test_overlay_outlines_people_and_tints_the_rest() -> None:
    image, mask = np.full((100, 200, 3), 128, np.uint8), np.zeros((100, 200), np.uint8)
    mask[20:80, 20:60] = 1
    mask[:, 150:] = 255
    shown = overlay(image, mask, side=100)
    assert shown.shape == (50, 100, 3)
    assert shown.dtype == np.uint8
    outline, inside, background, ignored = shown[10, 20], shown[25, 20], shown[25, 50], shown[25, 90]
    assert outline[0] > 250
    assert outline[2] < 10
    assert 128 < inside[0] < 200
    assert (background == 128).all()
    assert ignored[2] > ignored[0]


def test_a_person_of_few_pixels_can_still_be_seen() -> None:
    mask = np.zeros((512, 512), np.uint8)
    mask[200:206, 300:302] = 1
    shown = overlay(np.full((512, 512, 3), 128, np.uint8), mask, side=192)
    assert (shown[..., 0] > 200).any()


def test_black_padding_stays_black() -> None:
    shown = overlay(np.zeros((64, 64, 3), np.uint8), np.full((64, 64), 255, np.uint8), side=64)
    assert not shown.any()


def test_tiles_stand_in_rows_of_six(pair: tuple[Path, Path]) -> None:
    one, seven = (pixels(contact_sheet([Tile(*pair, ("name", "0.1"))] * count)) for count in (1, 7))
    assert one.shape[1] == seven.shape[1]
    assert seven.shape[0] > 1.8 * one.shape[0]
    tile = seven[8:200, 8:200].astype(int)
    assert abs(tile[150, 40] - 128).max() < 12  # the picture itself
    assert tile[150, 150, 2] - tile[150, 150, 0] > 40  # ignored: blue
    assert (seven[8:200, 8 + 200 * (COLUMNS - 1) :][:192, :192].std()) > 5
    assert seven[-150:, 220:].std() < 3  # the second row holds one tile


def test_a_sheet_holds_24_tiles(pair: tuple[Path, Path]) -> None:
    tiles = [Tile(*pair, (str(number),)) for number in range(TILES + 6)]
    assert contact_sheet(tiles) == contact_sheet(tiles[:TILES])


def test_captions_are_part_of_the_picture(pair: tuple[Path, Path]) -> None:
    first, second = (pixels(contact_sheet([Tile(*pair, (text,))])) for text in ("score 0.10", "score 0.90"))
    assert (first[:200] == second[:200]).all()
    assert (first[200:] != second[200:]).any()


def test_long_and_foreign_names_stay_inside_their_tile(pair: tuple[Path, Path]) -> None:
    sheet = pixels(contact_sheet([Tile(*pair, ("source/" + "名前é" * 80, "human 0.1"))]))
    assert sheet[:, 8 + 200 :].std() < 3


@pytest.mark.parametrize("damage", ["image", "mask", "size"])
def test_a_file_that_cannot_be_shown_becomes_words(pair: tuple[Path, Path], damage: str) -> None:
    image, mask = pair
    if damage == "image":
        image.unlink()
    if damage == "mask":
        mask.write_bytes(mask.read_bytes()[:60])
    if damage == "size":
        Image.fromarray(np.zeros((4, 4), np.uint8)).save(mask)
    damaged = pixels(contact_sheet([Tile(image, mask, ("a/x",))]))
    text, empty = (pixels(contact_sheet([Tile(None, None, ("a/x",), words)])) for words in ("x.jpg: broken", ""))
    brightest = [int(sheet[8:200, 8:200].max()) for sheet in (damaged, text, empty)]
    assert brightest[0] > 150
    assert brightest[1] > 150
    assert brightest[2] < 100


def test_without_a_mask_the_picture_is_shown_as_it_is(pair: tuple[Path, Path]) -> None:
    tile = pixels(contact_sheet([Tile(pair[0], None, ())]))[12:196, 12:196].astype(int)
    assert abs(tile - 128).max() < 12


def test_no_tiles_are_a_sheet_too() -> None:
    assert pixels(contact_sheet([])).std() < 3
