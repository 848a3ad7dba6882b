"""Heat maps as PNG: coloured cells for pages, and a picture with axes and a scale for ``dvc plots``."""

from __future__ import annotations

import io

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFont

from privseg.datasets.reports.bins import Counts, HeatMap

__all__ = ["colour_bar", "colour_cells", "encode_png", "heat_map_png", "peak_share"]

Pixels = npt.NDArray[np.uint8]
# Dark to bright in even steps of lightness, so that it reads in grey and to the colour-blind too.
_STOPS = np.array(
    [(12, 8, 38), (72, 20, 110), (150, 44, 110), (222, 88, 64), (252, 170, 40), (252, 252, 190)], np.float64
)
_CELL = 13  # pixels a cell
_LEFT, _TOP, _GAP, _BOTTOM = 70, 44, 84, 116
_INK, _PAPER = (40, 40, 40), (255, 255, 255)


def peak_share(counts: Counts) -> float:
    """Share of all people in the fullest cell; 0 without people."""
    return float(counts.max(initial=0)) / max(1, int(counts.sum()))


def colour_cells(counts: Counts, peak: float) -> Pixels:
    """Colour cells by the square root of their share, so that thinly peopled places show.

    Args:
        counts: int64 ``(rows, columns)``.
        peak: The share that gets the brightest colour.

    Returns:
        RGB uint8 ``(rows, columns, 3)``.
    """
    shares = counts / max(1, int(counts.sum()))
    return _colours(np.sqrt(np.clip(shares / peak, 0, 1)) if peak > 0 else np.zeros(counts.shape))


def colour_bar(width: int, height: int) -> Pixels:
    """The colours from none to most, left to right: RGB uint8 ``(height, width, 3)``."""
    return _colours(np.tile(np.linspace(0, 1, width), (height, 1)))


def encode_png(pixels: Pixels) -> bytes:
    """Encode RGB uint8 ``(H, W, 3)``."""
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG", optimize=True)
    return buffer.getvalue()


def heat_map_png(feet: HeatMap) -> bytes:
    """Draw the maps side by side, with axes, titles and one scale for both."""
    maps = [(title, counts) for title, counts in (("Before", feet.before), ("After", feet.after)) if counts is not None]
    peak = max(peak_share(counts) for _, counts in maps)
    rows, columns = feet.before.shape
    width, height = columns * _CELL, rows * _CELL
    size = _LEFT + len(maps) * (width + _GAP) - _GAP + 24, _TOP + height + _BOTTOM
    picture = Image.new("RGB", size, _PAPER)
    draw, font = ImageDraw.Draw(picture), ImageFont.load_default(size=15)
    for index, (title, counts) in enumerate(maps):
        left = _LEFT + index * (width + _GAP)
        cells = np.repeat(np.repeat(colour_cells(counts, peak), _CELL, axis=0), _CELL, axis=1)
        picture.paste(Image.fromarray(cells), (left, _TOP))
        said = f"{title} cleansing: {int(counts.sum()):,} people"
        draw.text((left + width / 2, _TOP - 12), said, _INK, font, "ms")
        draw.text((left + width / 2, _TOP + height + 40), "across the picture", _INK, font, "ms")
        for step in range(5):
            share = step / 4
            draw.text((left + width * share, _TOP + height + 20), f"{share:g}", _INK, font, "ms")
            draw.text((left - 8, _TOP + height * share), f"{share:g}", _INK, font, "rm")
    _rotated(picture, "from the top down", (18, _TOP + height // 2), font)
    _scale(picture, draw, font, peak, _TOP + height + 62)
    return encode_png(np.asarray(picture))


def _scale(
    picture: Image.Image,
    draw: ImageDraw.ImageDraw,
    font: ImageFont.ImageFont | ImageFont.FreeTypeFont,
    peak: float,
    y: int,
) -> None:
    width = picture.width - _LEFT - 24
    picture.paste(Image.fromarray(colour_bar(width, 12)), (_LEFT, y))
    draw.text((_LEFT, y + 32), "0", _INK, font, "ls")
    draw.text((_LEFT + width / 2, y + 32), f"{100 * peak / 4:.2g} %", _INK, font, "ms")  # a square root scale
    draw.text((_LEFT + width, y + 32), f"{100 * peak:.2g} % of the people", _INK, font, "rs")


def _rotated(
    picture: Image.Image, text: str, middle: tuple[int, int], font: ImageFont.ImageFont | ImageFont.FreeTypeFont
) -> None:
    width, height = int(font.getlength(text)) + 4, 22
    label = Image.new("RGB", (width, height), _PAPER)
    ImageDraw.Draw(label).text((width / 2, height / 2), text, _INK, font, "mm")
    turned = label.rotate(90, expand=True)
    picture.paste(turned, (middle[0] - turned.width // 2, middle[1] - turned.height // 2))


def _colours(values: npt.NDArray[np.float64]) -> Pixels:
    """Colour values of 0..1: RGB uint8 of their shape + ``(3,)``."""
    stops = np.linspace(0, 1, len(_STOPS))
    channels = [np.interp(values, stops, _STOPS[:, channel]) for channel in range(3)]
    return np.stack(channels, axis=-1).round().astype(np.uint8)
