"""Surfaces of generated scenes: tiles for the ground and canvases for house fronts, rooms and tree lines."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from privseg.datasets.sources._synthetic_camera import Floats, Pixels, smooth_noise

__all__ = ["FACADE_SCALE", "GROUNDS", "TILE_SCALE", "Facade", "facade", "ground_tile", "room_wall", "tree_line"]

TILE_SCALE = 48  # texture pixels a metre of ground
FACADE_SCALE = 24  # texture pixels a metre of wall
_TILE = 384  # 8 m of ground, repeated
_FACADE = (14 * FACADE_SCALE, 48 * FACADE_SCALE)

Colour = tuple[int, int, int]


@dataclass(frozen=True)
class Facade:
    """A wall's picture, (rows, columns, 3) uint8 RGB, bottom row on the ground, and its height in metres by column."""

    picture: Pixels
    tops: Floats


def _tint(rng: np.random.Generator, base: Colour, spread: float) -> Floats:
    return np.clip(np.array(base) + rng.normal(0, spread) + rng.normal(0, spread / 3, 3), 5, 250).astype(np.float32)


def _colour(values: Floats) -> Colour:
    red, green, blue = (int(value) for value in np.clip(values, 0, 255))
    return red, green, blue


def _grain(rng: np.random.Generator, fine: float, coarse: float) -> Floats:
    """Fine and coarse noise (384, 384) float32 whose edges fit together."""
    cells, pad = 12, 2
    bumps = np.pad(rng.standard_normal((cells, cells), dtype=np.float32), pad, mode="wrap")
    cell = _TILE // cells
    big = cv2.resize(bumps, None, fx=cell, fy=cell, interpolation=cv2.INTER_CUBIC)
    part = slice(pad * cell, pad * cell + _TILE)
    tone: Floats = fine * rng.standard_normal((_TILE, _TILE), dtype=np.float32)
    tone += coarse * big[part, part]
    return tone


def _slabs(rng: np.random.Generator, tile: Floats, rows: int, columns: int, joint: float, vary: float) -> None:
    """Cut a brightness tile into slabs: a tone for each, a dark joint between; odd rows are shifted by half."""
    high, wide = _TILE // rows, _TILE // columns
    shifted = rng.random() < 0.5
    for row in range(rows):
        tones = np.repeat(rng.normal(0, vary, columns).astype(np.float32), wide)
        line = np.roll(tones, wide // 2 if shifted and row % 2 else 0)
        band = tile[row * high : (row + 1) * high]
        band += line
        band[: max(1, high // 24)] -= joint
        starts = (np.arange(columns) * wide + (wide // 2 if shifted and row % 2 else 0)) % _TILE
        band[:, starts] -= joint


# base colour, fine grain, coarse grain, slab rows, slab columns, joint depth, tone spread between slabs
GROUNDS: dict[str, tuple[Colour, float, float, int, int, float, float]] = {
    "asphalt": ((92, 92, 95), 9, 6, 0, 0, 0, 0),
    "concrete": ((150, 147, 140), 5, 8, 3, 3, 28, 3),
    "slabs": ((150, 145, 138), 6, 5, 12, 12, 30, 7),
    "brick": ((140, 98, 84), 7, 5, 48, 24, 20, 10),
    "gravel": ((150, 136, 116), 14, 6, 0, 0, 0, 0),
    "grass": ((82, 108, 52), 14, 7, 0, 0, 0, 0),
    "tiles": ((196, 192, 184), 2, 3, 12, 12, 26, 3),
    "lino": ((160, 168, 170), 3, 5, 0, 0, 0, 0),
    "wood": ((150, 112, 76), 5, 5, 48, 4, 18, 9),
    "carpet": ((92, 88, 100), 8, 4, 0, 0, 0, 0),
}


def ground_tile(rng: np.random.Generator, kind: str) -> Pixels:
    """A repeating tile of ground, (384, 384, 3) uint8 RGB, ``TILE_SCALE`` pixels a metre."""
    base, fine, coarse, rows, columns, joint, vary = GROUNDS[kind]
    tone = _grain(rng, fine, coarse)
    if rows:
        _slabs(rng, tone, rows, columns, joint, vary)
    tile: Pixels = np.clip(tone[..., None] + _tint(rng, base, 14), 0, 255).astype(np.uint8)
    return tile


def _window(rng: np.random.Generator, picture: Pixels, x: int, y: int, wide: int, high: int, frame: Colour) -> None:
    glass = _colour(_tint(rng, (70, 84, 98), 22))
    cv2.rectangle(picture, (x - 2, y - 2), (x + wide + 2, y + high + 2), frame, -1)
    cv2.rectangle(picture, (x, y), (x + wide, y + high), glass, -1)
    if rng.random() < 0.6:  # sky mirrored in the upper part
        cv2.rectangle(picture, (x, y), (x + wide, y + int(high * rng.uniform(0.2, 0.6))), _lighter(glass, 1.35), -1)
    if rng.random() < 0.5:
        cv2.line(picture, (x + wide // 2, y), (x + wide // 2, y + high), frame, 2)


def _lighter(colour: Colour, factor: float) -> Colour:
    return _colour(np.array(colour, dtype=np.float32) * factor)


def _door(rng: np.random.Generator, picture: Pixels, x: int) -> None:
    bottom, wide, high = picture.shape[0], int(FACADE_SCALE * rng.uniform(0.9, 1.9)), int(FACADE_SCALE * 2.15)
    colour = _colour(_tint(rng, (96, 74, 60), 40))
    cv2.rectangle(picture, (x - 3, bottom - high - 3), (x + wide + 3, bottom), _lighter(colour, 0.6), -1)
    cv2.rectangle(picture, (x, bottom - high), (x + wide, bottom), colour, -1)
    if rng.random() < 0.5:
        inner = (x + 5, bottom - high + 5), (x + wide - 5, bottom - high // 2)
        cv2.rectangle(picture, *inner, _colour(_tint(rng, (80, 95, 105), 20)), -1)
    cv2.circle(picture, (x + wide - 5, bottom - high // 2 + 4), 2, (200, 190, 150), -1)


def _poster(rng: np.random.Generator, picture: Pixels, x: int, y: int) -> None:
    wide, high = int(FACADE_SCALE * rng.uniform(0.5, 1.6)), int(FACADE_SCALE * rng.uniform(0.6, 1.4))
    cv2.rectangle(picture, (x, y), (x + wide, y + high), _vivid(rng), -1)
    for _ in range(int(rng.integers(2, 5))):
        px, py = x + int(rng.integers(0, wide)), y + int(rng.integers(0, high))
        end = (min(px + int(rng.integers(4, wide)), x + wide), min(py + int(rng.integers(2, 10)), y + high))
        cv2.rectangle(picture, (px, py), end, _vivid(rng), -1)


def _vivid(rng: np.random.Generator) -> Colour:
    return _colour(rng.uniform(25, 240, 3).astype(np.float32))


def _goods(rng: np.random.Generator, picture: Pixels, x: int, y: int, wide: int, high: int) -> None:
    """A lit shop window or a shelf: rows of small coloured things."""
    cv2.rectangle(picture, (x, y), (x + wide, y + high), _colour(_tint(rng, (120, 115, 105), 35)), -1)
    for shelf in range(y + 4, y + high - 8, int(FACADE_SCALE * 0.45)):
        left = x + 2
        while left < x + wide - 4:
            step = int(rng.integers(4, 13))
            top = shelf + int(rng.integers(0, 5))
            right = min(left + step - 1, x + wide)
            cv2.rectangle(picture, (left, top), (right, shelf + 8), _vivid(rng), -1)
            left += step
        cv2.line(picture, (x, shelf + 9), (x + wide, shelf + 9), (70, 66, 60), 1)


def facade(rng: np.random.Generator) -> Facade:
    """A row of house fronts with windows, doors, shops and signs."""
    height, width = _FACADE
    picture = np.empty((height, width, 3), dtype=np.uint8)
    tops = np.empty(width, dtype=np.float32)
    left = 0
    while left < width:
        right = min(left + int(FACADE_SCALE * rng.uniform(8, 24)), width)
        _house(rng, picture[:, left:right])
        tops[left:right] = rng.uniform(4.5, 13.9)
        left = right
    return _weathered(rng, Facade(picture, tops), 4)


def _house(rng: np.random.Generator, picture: Pixels) -> None:
    height, width = picture.shape[:2]
    bases: list[Colour] = [(178, 166, 148), (150, 92, 74), (188, 188, 186), (120, 124, 130), (206, 194, 164)]
    wall = _colour(_tint(rng, bases[int(rng.integers(len(bases)))], 16))
    picture[:] = wall
    if rng.random() < 0.4:  # courses of brick or panels
        picture[:: int(rng.integers(4, 20))] = _lighter(wall, 0.88)
    frame = _lighter(wall, float(rng.choice([0.6, 1.25])))
    step, high, wide = (int(FACADE_SCALE * size) for size in rng.uniform((1.8, 1.1, 0.8), (3.4, 1.8, 1.4)))
    for top in range(height - int(FACADE_SCALE * 5.4), 0, -int(FACADE_SCALE * 3)):
        for x in range(int(step * 0.4), width - wide - 4, step):
            _window(rng, picture, x, top, wide, high, frame)
    floor = height - int(FACADE_SCALE * 3)
    cv2.line(picture, (0, floor), (width, floor), _lighter(wall, 0.75), 3)
    x = int(FACADE_SCALE * rng.uniform(0.4, 2))
    while x < width - FACADE_SCALE * 3:
        what = rng.random()
        if what < 0.3:
            _door(rng, picture, x)
        elif what < 0.55:
            _goods(rng, picture, x, height - int(FACADE_SCALE * 2.5), int(FACADE_SCALE * 2.4), int(FACADE_SCALE * 2.1))
            cv2.rectangle(picture, (x, floor + 2), (x + int(FACADE_SCALE * 2.4), floor + 11), _vivid(rng), -1)
        elif what < 0.85:
            _window(rng, picture, x, height - int(FACADE_SCALE * 2.3), wide, high, frame)
        else:
            _poster(rng, picture, x, height - int(FACADE_SCALE * rng.uniform(1.9, 2.4)))
        x += int(FACADE_SCALE * rng.uniform(2.6, 4.2))
    picture[-6:] = _lighter(wall, 0.65)


def room_wall(rng: np.random.Generator) -> Facade:
    """The inside of a hall, shop or corridor: doors, shelves, posters, a skirting board."""
    height, width = _FACADE
    wall = _colour(_tint(rng, (196, 192, 182), 24))
    picture = np.full((height, width, 3), wall, dtype=np.uint8)
    if rng.random() < 0.5:  # a darker dado
        picture[-int(FACADE_SCALE * 1.1) :] = _lighter(wall, float(rng.uniform(0.6, 0.85)))
    shop = rng.random() < 0.4
    x = int(FACADE_SCALE * rng.uniform(0.2, 2))
    while x < width - FACADE_SCALE * 5:
        what = rng.random()
        if what < 0.35:
            _door(rng, picture, x)
        elif what < 0.75 and shop:
            wide = int(FACADE_SCALE * rng.uniform(1.6, 3.6))
            _goods(rng, picture, x, height - int(FACADE_SCALE * 2.1), wide, int(FACADE_SCALE * 2))
        elif what < 0.85:
            _poster(rng, picture, x, height - int(FACADE_SCALE * rng.uniform(1.9, 2.5)))
        else:
            size = int(FACADE_SCALE * 1.5), int(FACADE_SCALE * 1.2)
            _window(rng, picture, x, height - int(FACADE_SCALE * 2.3), *size, _lighter(wall, 0.7))
        x += int(FACADE_SCALE * rng.uniform(2.2, 4.5))
    picture[-4:] = _lighter(wall, 0.5)
    return _weathered(rng, Facade(picture, np.full(width, rng.uniform(2.9, 4.5), dtype=np.float32)), 2)


def tree_line(rng: np.random.Generator) -> Facade:
    """A hedge or the edge of a wood."""
    height, width = _FACADE
    leaves = 13 * smooth_noise(rng, height, width, 110) + 9 * smooth_noise(rng, height, width, 320)
    green = np.full((height, width, 3), _tint(rng, (62, 84, 44), 12), dtype=np.float32)
    picture = cv2.add(green, cv2.merge([leaves] * 3), dtype=cv2.CV_8U)
    tops = rng.uniform(2.5, 9) + 0.5 * smooth_noise(rng, 2, width, 30)[0] + 0.2 * smooth_noise(rng, 2, width, 140)[0]
    return Facade(picture, np.clip(tops, 1.5, 13.9).astype(np.float32))


def _weathered(rng: np.random.Generator, wall: Facade, strength: float) -> Facade:
    height, width = wall.picture.shape[:2]
    stain = strength * smooth_noise(rng, height // 4, width // 4, 50)
    stain = cv2.resize(stain, (width, height), interpolation=cv2.INTER_LINEAR)
    return Facade(cv2.add(wall.picture, cv2.merge([stain] * 3), dtype=cv2.CV_8U), wall.tops)
