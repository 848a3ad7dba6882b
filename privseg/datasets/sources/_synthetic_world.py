"""One seed, one place: a street, square, park, car park or hall seen by a fixed camera, without people."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from privseg.datasets.sources._synthetic_camera import Camera, Floats, Pixels
from privseg.datasets.sources._synthetic_objects import FURNITURE, STREET, Thing, bench, car, pole, stool
from privseg.datasets.sources._synthetic_stage import Stage, Sun
from privseg.datasets.sources._synthetic_textures import facade, ground_tile, room_wall, tree_line

__all__ = ["World", "build_world"]


@dataclass(frozen=True)
class World:
    """A place without people.

    Attributes:
        camera: The camera it is seen by.
        sun: The light of its shadows.
        indoor: Whether it has a ceiling.
        image: (height, width, 3) uint8 RGB, the place without people.
        surface: (height, width) float32, metres of ground to the thing seen, infinite for open ground and sky.
        ground: (height, width) bool, open ground, where shadows fall.
        blocked: (N, 3) float32: x, z and radius of what stands about.
        seats: x, z, heading of free seats.
        lamps: (N, 2) float32 pixel positions of the ground under the lamps.
        walls: Normal direction and offset of each wall.
    """

    camera: Camera
    sun: Sun
    indoor: bool
    image: Pixels
    surface: Floats
    ground: NDArray[np.bool_]
    blocked: Floats
    seats: tuple[tuple[float, float, float], ...]
    lamps: Floats
    walls: tuple[tuple[float, float], ...]

    def is_free(self, x: float, z: float, margin: float = 0.3) -> bool:
        """Whether someone can stand at (x, z): nothing stands there and no wall is in between."""
        inside = all(offset - x * np.sin(normal) - z * np.cos(normal) > 0.3 for normal, offset in self.walls)
        apart = np.hypot(self.blocked[:, 0] - x, self.blocked[:, 1] - z) > self.blocked[:, 2] + margin
        return bool(inside and apart.all())

    def is_free_between(self, start: tuple[float, float], end: tuple[float, float]) -> bool:
        """Whether one can walk straight from start to end."""
        steps = np.linspace(0, 1, 24)
        return all(
            self.is_free(start[0] + step * (end[0] - start[0]), start[1] + step * (end[1] - start[1])) for step in steps
        )


def build_world(rng: np.random.Generator, height: int, width: int) -> World:
    """Invent a place and paint it; the same generator state gives the same place."""
    kind = str(rng.choice(["street", "square", "park", "cars", "hall"], p=[0.28, 0.2, 0.14, 0.13, 0.25]))
    indoor = kind == "hall"
    camera = _camera(rng, height, width, indoor)
    stage = Stage(camera, _sun(rng, indoor))
    turn = float(rng.normal(0, 0.3))
    walls = _paint_place(rng, stage, kind, turn)
    world_walls = tuple((normal, offset) for normal, offset in walls)
    things = _things(rng, kind, camera, turn, world_walls)
    # contact shadows hug their object; the sun's reach out
    shade = stage.shadows([group for thing in things for group in thing.shadows()], 1.6)
    low = slice(int(np.argmax(stage.ground.any(axis=1))), height)
    shaded = cv2.multiply(stage.image[low], cv2.merge([shade[low]] * 3), dtype=cv2.CV_8U)
    np.copyto(stage.image[low], shaded, where=stage.ground[low, :, None])
    for thing in sorted(things, key=lambda thing: -np.hypot(thing.x, thing.z)):
        thing.paint(stage)
    feet = [thing.lamp * np.array([1, 0, 1], dtype=np.float32) for thing in things if thing.lamp is not None]
    return World(
        camera=camera,
        sun=stage.sun,
        indoor=indoor,
        image=stage.image,
        surface=stage.surface,
        ground=stage.ground,
        blocked=np.array([(thing.x, thing.z, thing.radius) for thing in things], dtype=np.float32).reshape(-1, 3),
        seats=tuple(seat for thing in things for seat in thing.seats),
        lamps=camera.project(np.stack(feet))[0] if feet else np.empty((0, 2), dtype=np.float32),
        walls=world_walls,
    )


def _camera(rng: np.random.Generator, height: int, width: int, indoor: bool) -> Camera:
    """A camera on a wall or a mast: its ground begins 1.5 to 7 m away and its horizon lies in or above the picture."""
    focal = width / 2 / np.tan(np.radians(rng.uniform(42, 88)) / 2)
    elevation = (
        rng.uniform(2.2, 3.3) if indoor else rng.choice([rng.uniform(2.2, 4), rng.uniform(4, 8.5)], p=[0.6, 0.4])
    )
    lowest = np.arctan2(height / 2, focal)  # angle between the axis and the bottom row
    begin = rng.uniform(1.2, 3.2) if elevation < 4 else rng.uniform(3.0, 7.0)
    # never so steep that whoever stands at the picture's top is all legs
    pitch = np.clip(np.arctan2(elevation, begin) - lowest, 0.12, min(0.75, lowest + 0.12))
    return Camera(height, width, float(elevation), float(pitch), float(focal))


def _sun(rng: np.random.Generator, indoor: bool) -> Sun:
    bearing = rng.uniform(0, 2 * np.pi)
    climb = rng.uniform(1.2, 1.5) if indoor else rng.uniform(0.45, 1.25)
    shade = rng.uniform(0.1, 0.3) if indoor else rng.choice([rng.uniform(0.08, 0.25), rng.uniform(0.35, 0.6)])
    level = np.cos(climb)
    return Sun(float(level * np.sin(bearing)), float(np.sin(climb)), float(level * np.cos(bearing)), float(shade))


def _paint_place(rng: np.random.Generator, stage: Stage, kind: str, turn: float) -> list[tuple[float, float]]:
    """Paint sky, ground and walls; gives the walls' normals and offsets."""
    if kind == "hall":
        tone = rng.uniform(120, 215)
        stage.sky((int(tone * 0.85),) * 3, (int(tone),) * 3)
        stage.pave(ground_tile(rng, str(rng.choice(["tiles", "lino", "wood", "carpet", "concrete"]))), turn)
        walls = [(-turn, float(rng.uniform(7, 22)))]
        sides = [-turn + side * np.pi / 2 for side in (-1, 1) if rng.random() < 0.6]
        walls += [(normal, float(rng.uniform(3.0, 8))) for normal in sides]
        front = room_wall(rng)
        for index, (normal, offset) in enumerate(walls):
            stage.wall(front, normal, offset, (1.0, 0.84, 0.92)[index])
        return walls
    haze = rng.uniform(150, 235)
    stage.sky((int(haze * 0.72), int(haze * 0.85), int(haze)), (int(haze), int(haze), int(haze)))
    base = {"street": ["slabs", "concrete", "asphalt"], "square": ["slabs", "brick", "tiles", "concrete"]}
    base |= {"park": ["grass"], "cars": ["asphalt", "asphalt", "gravel"]}
    stage.pave(ground_tile(rng, str(rng.choice(base[kind]))), turn)
    begin = float(rng.uniform(5, 14))
    if kind == "street":
        _road(rng, stage, turn, begin)
    elif kind == "park" and rng.random() < 0.85:
        path = str(rng.choice(["gravel", "asphalt", "concrete"]))
        along = bool(rng.random() < 0.5)
        first = float(rng.uniform(-2.5, 0.5)) if along else begin * 0.6
        stage.pave(ground_tile(rng, path), turn, band=(first, first + float(rng.uniform(2, 5))), along=along)
    elif kind == "cars":
        _bays(rng, stage, turn, begin)
    trees = kind == "park" or rng.random() < 0.2
    walls = [(-turn, float(rng.uniform(20, 55) if trees else rng.uniform(13, 34)))]
    if not trees and rng.random() < 0.45:
        walls.append((-turn + float(rng.choice([-1, 1])) * np.pi / 2, float(rng.uniform(5, 13))))
    front = tree_line(rng) if trees else facade(rng)
    for index, (normal, offset) in enumerate(walls):
        stage.wall(front, normal, offset, (1.0, 0.78)[index])
    return walls


def _strip(turn: float, a: tuple[float, float], b: tuple[float, float]) -> Floats:
    """Corners (4, 3) of a rectangle on the ground in axes turned by ``turn``."""
    flat = np.array([(a[0], b[0]), (a[1], b[0]), (a[1], b[1]), (a[0], b[1])])
    cosine, sine = np.cos(turn), np.sin(turn)
    x, z = flat[:, 0] * cosine - flat[:, 1] * sine, flat[:, 0] * sine + flat[:, 1] * cosine
    return np.stack([x, np.zeros(4), z], axis=1).astype(np.float32)


def _road(rng: np.random.Generator, stage: Stage, turn: float, begin: float) -> None:
    along, wide = bool(rng.random() < 0.5), float(rng.uniform(5, 9))
    first = float(rng.uniform(-9, 1.5)) if along else begin * 0.7
    stage.pave(ground_tile(rng, "asphalt"), turn, band=(first, first + wide), along=along)
    paint = (208, 206, 196)

    def strip(across: tuple[float, float], run: tuple[float, float]) -> None:
        stage.mark(_strip(turn, *((across, run) if along else (run, across))), paint)

    for dash in np.arange(-36, 60, 4.0):
        strip((first + wide / 2 - 0.07, first + wide / 2 + 0.07), (dash, dash + 2))
    for edge in (first - 0.12, first + wide):
        strip((edge, edge + 0.12), (-60, 80))
    if rng.random() < 0.45:
        start = float(rng.uniform(4, 12) if along else rng.uniform(-4, 2))
        for line in np.arange(first + 0.4, first + wide - 0.4, 1.0):
            strip((line, line + 0.5), (start, start + 3))


def _bays(rng: np.random.Generator, stage: Stage, turn: float, begin: float) -> None:
    for row in (begin, begin + 12):
        for line in np.arange(-15, 15.1, 2.5):
            stage.mark(_strip(turn, (line, line + 0.1), (row, row + 5)), (205, 205, 200))


def _things(
    rng: np.random.Generator, kind: str, camera: Camera, turn: float, walls: tuple[tuple[float, float], ...]
) -> list[Thing]:
    """Choose what stands about, apart from each other and in front of the walls."""
    builders = FURNITURE if kind == "hall" else STREET
    count = int(rng.integers(1, 7 if kind == "hall" else 10))
    chosen = [builders[int(rng.integers(len(builders)))] for _ in range(count)]
    chosen += (
        [car] * int(rng.integers(1, 6)) if kind == "cars" else [car] * int(kind == "street" and rng.random() < 0.5)
    )
    # somebody may sit down here, and something thin stands in front of people
    chosen += [stool if kind == "hall" else bench, pole]
    things: list[Thing] = []
    near = max(2.2, camera.elevation / np.tan(min(camera.pitch + 0.5, 1.4)))
    for builder in chosen:
        for _ in range(6):
            z = float(np.exp(rng.uniform(np.log(near), np.log(32))))
            x = float(rng.uniform(-0.55, 0.55)) * camera.width / camera.focal * z
            big = 2.6 if builder is car else 0.9
            clear = all(offset - x * np.sin(normal) - z * np.cos(normal) > big for normal, offset in walls)
            if (
                clear
                and (builder is not car or z > 6)
                and not any(np.hypot(x - thing.x, z - thing.z) < thing.radius + big for thing in things)
            ):
                quarter = float(rng.choice([0, 0.5])) * np.pi
                spin = quarter + rng.normal(0, 0.12) if builder is car else rng.normal(0, 0.7)
                things.append(builder(rng, x, z, turn + float(spin)))
                break
    return things
