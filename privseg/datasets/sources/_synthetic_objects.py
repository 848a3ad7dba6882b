"""Things that stand about in generated scenes: cars, benches, poles, trees, hydrants, shelves. None looks human."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from privseg.datasets.sources._synthetic_camera import Floats
from privseg.datasets.sources._synthetic_stage import Box, Stage

__all__ = ["FURNITURE", "STREET", "Thing", "bench", "car", "pole", "stool"]

Colour = tuple[int, int, int]


@dataclass(frozen=True)
class Thing:
    """One object.

    Attributes:
        x, z: Where it stands, metres.
        radius: Metres around it where nobody stands.
        boxes: Its blocks.
        balls: Its round parts: centre, radius, colour.
        discs: Its wheels and the like: corners (N, 3) of a flat polygon, colour.
        seats: Where one can sit: x, z, heading.
        lamp: Centre of its light, if it is one.
    """

    x: float
    z: float
    radius: float
    boxes: tuple[Box, ...] = ()
    balls: tuple[tuple[Floats, float, Colour], ...] = ()
    discs: tuple[tuple[Floats, Colour], ...] = ()
    seats: tuple[tuple[float, float, float], ...] = ()
    lamp: Floats | None = None

    def paint(self, stage: Stage) -> None:
        """Paint it onto a stage."""
        stage.boxes(list(self.boxes))
        for corners, colour in self.discs:
            outward = np.cross(corners[1] - corners[0], corners[4] - corners[0])
            if outward @ (corners[0] - np.array([0, stage.camera.elevation, 0])) < 0:
                stage.face(corners, outward, colour)
        for middle, radius, colour in self.balls:
            stage.blob(middle, radius, colour)

    def shadows(self) -> list[Floats]:
        """Groups of points whose hulls cast its shadow."""
        groups = [box.corners() for box in self.boxes]
        for middle, radius, _ in self.balls[::3]:
            offsets = np.array([[1, 0, 0], [-1, 0, 0], [0, 0, 1], [0, 0, -1], [0, 1, 0], [0, -1, 0]], dtype=np.float32)
            groups.append(middle + radius * offsets)
        return groups


def _paint(rng: np.random.Generator, low: int = 30, high: int = 225) -> Colour:
    grey = rng.uniform(low, high)
    red, green, blue = np.clip(grey + rng.normal(0, 38, 3), 8, 245)
    return int(red), int(green), int(blue)


def _turned(x: float, z: float, turn: float, across: float, along: float) -> tuple[float, float]:
    cosine, sine = float(np.cos(turn)), float(np.sin(turn))
    return x + across * cosine - along * sine, z + across * sine + along * cosine


def car(rng: np.random.Generator, x: float, z: float, turn: float) -> Thing:
    """A car or a van of two blocks with windows and wheels; ``turn`` 0 points it into the depth."""
    colour, van = _paint(rng), rng.random() < 0.25
    length, width = float(rng.uniform(3.9, 4.9)), float(rng.uniform(1.7, 1.9))
    waist, roof = (1.1, 2.1) if van else (float(rng.uniform(0.8, 0.95)), float(rng.uniform(1.4, 1.6)))
    cabin_length = length * (0.72 if van else 0.5)
    cabin_x, cabin_z = _turned(x, z, turn, 0, -length * (0.1 if van else 0.05))
    glass = (46, 54, 62)
    boxes = (
        Box(x, z, width, length, turn, 0.28, waist, colour),
        Box(cabin_x, cabin_z, width * 0.88, cabin_length, turn, waist, roof - 0.08, glass),
        Box(cabin_x, cabin_z, width * 0.84, cabin_length * 0.86, turn, roof - 0.08, roof, colour),
    )
    discs: list[tuple[Floats, Colour]] = []
    angles = np.linspace(0, 2 * np.pi, 12, endpoint=False)
    for side in (-1, 1):
        for end in (-0.31, 0.31):
            ring = [
                (*_turned(x, z, turn, side * (width / 2 + 0.01), end * length + 0.33 * np.cos(angle)), np.sin(angle))
                for angle in angles * -side
            ]
            wheel = np.array([(px, 0.33 + 0.33 * up, pz) for px, pz, up in ring], dtype=np.float32)
            discs.append((wheel, (24, 24, 26)))
            discs.append(((wheel - wheel.mean(axis=0)) * 0.5 + wheel.mean(axis=0), (120, 122, 126)))
    return Thing(x, z, 2.1, boxes, discs=tuple(discs))


def bench(rng: np.random.Generator, x: float, z: float, turn: float) -> Thing:
    """A bench of slats; at turn 0 its sitters look towards the camera."""
    wood = _paint(rng, 70, 150)
    parts = [(-0.7, 0.0, 0.08, 0.4, 0.0, 0.42), (0.7, 0.0, 0.08, 0.4, 0.0, 0.42), (0.0, 0.0, 1.7, 0.45, 0.42, 0.47)]
    if rng.random() < 0.7:
        parts.append((0.0, 0.24, 1.7, 0.06, 0.55, 0.85))
    boxes = []
    for across, along, wide, deep, low, high in parts:
        px, pz = _turned(x, z, turn, across, along)
        boxes.append(Box(px, pz, wide, deep, turn, low, high, wood))
    seats = tuple((*_turned(x, z, turn, across, 0.02), np.pi - turn) for across in (-0.45, 0.4))
    return Thing(x, z, 1.0, tuple(boxes), seats=seats)


def stool(rng: np.random.Generator, x: float, z: float, turn: float) -> Thing:
    """A chair: a seat with a back."""
    colour = _paint(rng)
    px, pz = _turned(x, z, turn, 0, 0.22)
    boxes = (Box(x, z, 0.44, 0.42, turn, 0.1, 0.46, colour), Box(px, pz, 0.44, 0.05, turn, 0.46, 0.9, colour))
    return Thing(x, z, 0.5, boxes, seats=((x, z, np.pi - turn),))


def pole(rng: np.random.Generator, x: float, z: float, turn: float) -> Thing:
    """A lamp post, a traffic sign or a plain column."""
    kind, grey = rng.random(), int(rng.uniform(50, 150))
    colour = (grey, grey, grey + 4)
    if kind < 0.4:
        tall = float(rng.uniform(4, 6.5))
        head = Box(x, z, 0.7, 0.3, turn, tall, tall + 0.12, (190, 190, 180))
        lamp = np.array([x, tall, z], dtype=np.float32)
        return Thing(x, z, 0.35, (Box(x, z, 0.13, 0.13, turn, 0, tall, colour), head), lamp=lamp)
    if kind < 0.75:
        tall = float(rng.uniform(2.3, 3.2))
        plate = Box(x, z - 0.06, 0.6, 0.04, 0, tall - 0.6, tall, _paint(rng, 60, 230))
        return Thing(x, z, 0.3, (Box(x, z, 0.07, 0.07, 0, 0, tall, colour), plate))
    size = float(rng.uniform(0.25, 0.6))
    return Thing(x, z, 0.5, (Box(x, z, size, size, turn, 0, 4.5, _paint(rng, 90, 200)),))


def tree(rng: np.random.Generator, x: float, z: float, turn: float) -> Thing:
    """A trunk with a crown of leaf balls."""
    tall, spread = float(rng.uniform(3.2, 6)), float(rng.uniform(0.8, 1.7))
    green = rng.normal((70, 98, 44), 14)
    balls = []
    for _ in range(34):
        offset = rng.normal(0, spread * 0.5, 3) * (1, 0.75, 0.6)
        shade = float(np.clip(1 + 0.32 * offset[1] / spread + rng.normal(0, 0.14), 0.5, 1.6))
        red, leaf, blue = np.clip(green * shade, 8, 235)
        middle = np.array([x, tall + 0.6, z], dtype=np.float32) + offset.astype(np.float32)
        balls.append((middle, float(spread * rng.uniform(0.18, 0.42)), (int(red), int(leaf), int(blue))))
    return Thing(x, z, 0.6, (Box(x, z, 0.25, 0.25, turn, 0, tall, (84, 66, 50)),), balls=tuple(balls))


def hydrant(rng: np.random.Generator, x: float, z: float, turn: float) -> Thing:
    """A hydrant, a bin or a bollard."""
    kind = int(rng.integers(3))
    size, tall = ((0.24, 0.62), (0.5, 1.05), (0.16, 0.9))[kind]
    colour = ((176, 44, 36), _paint(rng, 40, 110), (70, 70, 74))[kind]
    cap = Box(x, z, size * (1.25, 1.1, 1.0)[kind], size * 1.1, turn, tall, tall + 0.1, colour)
    parts = [Box(x, z, size, size, turn, 0, tall, colour), cap]
    if kind == 0:
        parts.append(Box(x, z, size * 1.8, 0.14, turn, tall * 0.55, tall * 0.75, colour))
    return Thing(x, z, 0.45, tuple(parts))


def plinth(rng: np.random.Generator, x: float, z: float, turn: float) -> Thing:
    """A stone of stacked blocks as tall as a person: a distractor."""
    stone, bottom, parts = _paint(rng, 110, 190), 0.0, []
    for wide, high in ((0.9, 0.4), (0.6, float(rng.uniform(0.5, 1.2))), (0.35, 0.45), (0.5, 0.12)):
        parts.append(Box(x, z, wide, wide, turn, bottom, bottom + high, stone))
        bottom += high
    return Thing(x, z, 0.8, tuple(parts))


def crates(rng: np.random.Generator, x: float, z: float, turn: float) -> Thing:
    """A few crates or planters."""
    parts = []
    for across in (-0.45, 0.3):
        px, pz = _turned(x, z, turn, across, float(rng.uniform(-0.2, 0.2)))
        wide, high = rng.uniform((0.5, 0.35), (0.8, 1.1))
        parts.append(Box(px, pz, float(wide), float(wide), turn, 0, float(high), _paint(rng, 70, 190)))
    return Thing(x, z, 0.9, tuple(parts))


def railing(rng: np.random.Generator, x: float, z: float, turn: float) -> Thing:
    """A railing one can look through."""
    grey, long = int(rng.uniform(40, 150)), float(rng.uniform(1.6, 3.4))
    colour, parts = (grey, grey, grey), []
    for across in np.arange(-long / 2, long / 2 + 0.01, 0.28):
        px, pz = _turned(x, z, turn, float(across), 0)
        parts.append(Box(px, pz, 0.03, 0.03, turn, 0, 0.95, colour))
    return Thing(x, z, long * 0.45, (*parts, Box(x, z, long, 0.05, turn, 0.95, 1.0, colour)))


def shelf(rng: np.random.Generator, x: float, z: float, turn: float) -> Thing:
    """A shelf, a counter or a cupboard with things on it."""
    tall, wide = float(rng.uniform(0.85, 1.7)), float(rng.uniform(0.9, 2.2))
    parts = [Box(x, z, wide, 0.45, turn, 0, tall, _paint(rng, 80, 200))]
    for across in np.arange(-wide / 2 + 0.15, wide / 2 - 0.1, 0.28):
        px, pz = _turned(x, z, turn, float(across), 0)
        size, high = rng.uniform((0.08, 0.08), (0.22, 0.32))
        parts.append(Box(px, pz, float(size), float(size), turn, tall, tall + float(high), _paint(rng)))
    return Thing(x, z, wide * 0.55 + 0.2, tuple(parts))


def table(rng: np.random.Generator, x: float, z: float, turn: float) -> Thing:
    """A table on one foot."""
    colour = _paint(rng, 90, 220)
    return Thing(x, z, 0.8, (Box(x, z, 0.1, 0.1, turn, 0, 0.7, colour), Box(x, z, 0.9, 0.8, turn, 0.7, 0.75, colour)))


Builder = Callable[[np.random.Generator, float, float, float], Thing]
STREET: tuple[Builder, ...] = (pole, pole, bench, tree, hydrant, hydrant, plinth, crates, railing, car)
FURNITURE: tuple[Builder, ...] = (stool, stool, table, shelf, shelf, crates, pole, bench, hydrant)
