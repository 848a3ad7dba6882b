"""Contact sheets: a page of small pictures with their masks, so that a person can judge a rule at a glance."""

from __future__ import annotations

import io
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import PIL.Image
import PIL.ImageDraw
import PIL.ImageFont
from numpy.typing import NDArray

from privseg.datasets.sources.base import HUMAN, IGNORE, Image, Mask, read_image, read_mask
from privseg.errors import DataError

__all__ = ["COLUMNS", "TILES", "Tile", "contact_sheet", "overlay"]

TILES = 24
COLUMNS = 6
_SIDE = 192  # pixels of a tile's picture
_GAP, _LINE, _LINES, _TEXT_WIDTH = 8, 14, 3, 29  # pixels, pixels, lines, characters
_PAPER, _INK, _VOID = (24, 26, 28), (236, 236, 236), (52, 56, 60)
_BLACK = 12  # grey level up to which JPEG renders black
_HUMAN_COLOUR, _IGNORE_COLOUR = (255, 140, 0), (60, 110, 255)


@dataclass(frozen=True)
class Tile:
    """One picture on a sheet.

    Attributes:
        image: RGB JPEG or PNG file; None where there is none, and ``text`` is shown instead.
        mask: PNG of 0, 1, 255, of the image's size; None: the picture is shown as it is.
        caption: Up to three lines below the picture; longer lines are wrapped, what is left over is cut.
        text: What to say where there is no picture.
    """

    image: Path | None
    mask: Path | None
    caption: tuple[str, ...]
    text: str = ""


def contact_sheet(tiles: Sequence[Tile]) -> bytes:
    """Draw up to 24 tiles, six a row, as a JPEG; the same files and captions give the same bytes.

    A file that is missing or cannot be decoded becomes a tile that says so.

    Args:
        tiles: What to show; those after the 24th are left out.
    """
    shown = tiles[:TILES]
    rows = max(1, -(-len(shown) // COLUMNS))
    tile_height = _SIDE + _LINE * _LINES + _GAP
    sheet = PIL.Image.new("RGB", (COLUMNS * (_SIDE + _GAP) + _GAP, rows * (tile_height + _GAP) + _GAP), _PAPER)
    pen, font = PIL.ImageDraw.Draw(sheet), PIL.ImageFont.load_default(11)
    for number, tile in enumerate(shown):
        left = _GAP + number % COLUMNS * (_SIDE + _GAP)
        top = _GAP + number // COLUMNS * (tile_height + _GAP)
        picture, text = _picture(tile)
        if picture is None:
            pen.rectangle((left, top, left + _SIDE - 1, top + _SIDE - 1), fill=_VOID)
            _write(pen, font, left + 6, top + 6, [text], lines=_SIDE // _LINE - 1)
        else:
            sheet.paste(PIL.Image.fromarray(picture), (left, top))
        _write(pen, font, left, top + _SIDE + 4, tile.caption, lines=_LINES)
    buffer = io.BytesIO()
    sheet.save(buffer, "JPEG", quality=82)
    return buffer.getvalue()


def overlay(image: Image, mask: Mask, *, side: int) -> Image:
    """Show a mask on its picture: people outlined and tinted orange, ignored pixels tinted blue.

    Args:
        image: RGB uint8 ``(H, W, 3)``.
        mask: uint8 ``(H, W)`` of 0, 1, 255.
        side: Pixels of the longer side of the result.

    Returns:
        RGB uint8, at most ``(side, side, 3)``, in the picture's proportions.
    """
    scale = side / max(mask.shape)
    size = max(1, round(mask.shape[1] * scale)), max(1, round(mask.shape[0] * scale))
    small: Image = cv2.resize(image, size, interpolation=cv2.INTER_AREA)
    human, ignored = (_shrink(mask == value, size) for value in (HUMAN, IGNORE))
    _tint(small, ignored & (small.max(axis=2) > _BLACK), _IGNORE_COLOUR, 0.35)  # padding is black and stays so
    _tint(small, human, _HUMAN_COLOUR, 0.2)
    inside = cv2.erode(human.astype(np.uint8), np.ones((3, 3), np.uint8), borderType=cv2.BORDER_REPLICATE)
    small[human & (inside == 0)] = _HUMAN_COLOUR
    return small


def _shrink(pixels: NDArray[np.bool_], size: tuple[int, int]) -> NDArray[np.bool_]:
    """Of tiny people something must stay to be seen: a pixel counts from an eighth of its area on."""
    share = cv2.resize(pixels.astype(np.float32), size, interpolation=cv2.INTER_AREA)
    return np.asarray(share >= 0.125)


def _tint(image: Image, where: NDArray[np.bool_], colour: tuple[int, int, int], strength: float) -> None:
    image[where] = (image[where] * (1 - strength) + np.array(colour) * strength).astype(np.uint8)


def _picture(tile: Tile) -> tuple[Image | None, str]:
    if tile.image is None:
        return None, tile.text
    try:
        image = read_image(tile.image)
        mask = np.zeros(image.shape[:2], np.uint8) if tile.mask is None else read_mask(tile.mask)
    except DataError as error:
        return None, f"{Path(error.subject).name}: {error.fault}"
    if mask.shape != image.shape[:2]:
        return None, f"{tile.image.name}: the mask has another size"
    return overlay(image, mask, side=_SIDE), ""


def _write(
    pen: PIL.ImageDraw.ImageDraw,
    font: PIL.ImageFont.FreeTypeFont | PIL.ImageFont.ImageFont,
    left: int,
    top: int,
    paragraphs: Sequence[str],
    *,
    lines: int,
) -> None:
    wrapped = [line for text in paragraphs for line in textwrap.wrap(text, _TEXT_WIDTH) or [""]]
    for number, line in enumerate(wrapped[:lines]):
        pen.text((left, top + number * _LINE), line, fill=_INK, font=font)
