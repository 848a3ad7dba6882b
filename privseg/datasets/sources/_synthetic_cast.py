"""Who is in a generated scene, where they stand, and how they move through a generated video."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from privseg.datasets.sources._synthetic_body import Look, Stance, random_look
from privseg.datasets.sources._synthetic_world import World

__all__ = ["Actor", "film_cast", "place_people"]

_ARMS = (*["swing"] * 11, "phone", "phone", "akimbo", "carry", "carry", "carry", "wave")
_SMALLEST, _TALLEST = (9.0, 35.0, 90.0), 400.0  # pixels of body height aimed at


def place_people(rng: np.random.Generator, world: World) -> list[tuple[Look, Stance]]:
    """People for a still picture; in one of five scenes there is nobody.

    Sizes on the picture are spread evenly on a logarithmic scale: people spread evenly over the ground would nearly
    all be tiny.
    """
    groups = np.array([0, rng.integers(1, 3), rng.integers(3, 7), rng.integers(7, 16)])
    count = int(rng.choice(groups, p=[0.2, 0.28, 0.34, 0.18]))
    smallest = float(rng.choice(_SMALLEST, p=[0.4, 0.25, 0.35])) * world.camera.height / 512
    people: list[tuple[Look, Stance]] = []
    seats = [world.seats[i] for i in rng.permutation(len(world.seats))]
    while len(people) < count:
        if seats and rng.random() < 0.25:
            x, z, heading = seats.pop()
            people.append((random_look(rng), Stance(x, z, heading, sit=1.0, arms=str(rng.choice(_ARMS)))))
            continue
        taken = [(stance.x, stance.z) for _, stance in people]
        # where nobody can come that near, they stand further away
        spot = _free_spot(rng, world, smallest, taken) or _free_spot(rng, world, _SMALLEST[0], taken)
        if spot is None:
            break
        stance = _pose(rng, *spot)
        people.append((random_look(rng), stance))
        if rng.random() < 0.25:  # walking together
            aside = 0.65 * np.array([np.cos(stance.heading), -np.sin(stance.heading)])
            x, z = stance.x + float(aside[0]), stance.z + float(aside[1])
            if world.is_free(x, z) and stance.fall == 0:
                friend = replace(stance, x=x, z=z, phase=stance.phase + float(rng.uniform(0, 2)))
                people.append((random_look(rng), friend))
    return people


def _free_spot(
    rng: np.random.Generator, world: World, smallest: float, taken: list[tuple[float, float]]
) -> tuple[float, float] | None:
    camera = world.camera
    for _ in range(30):
        pixels = np.exp(rng.uniform(np.log(smallest), np.log(_TALLEST * camera.height / 512)))
        distance = camera.focal * 1.7 / pixels
        z = float(np.sqrt(max(distance**2 - (camera.elevation - 0.9) ** 2, 0.6)))
        x = float(rng.uniform(-0.53, 0.53)) * camera.width / camera.focal * distance
        feet, depth = camera.project(np.array([[x, 0, z], [x, 1.5, z]], dtype=np.float32))
        # feet may be cut off by the picture's edge, the upper body may not
        seen = depth.min() > 0.6 and -10 < feet[1, 1] < camera.height * 0.72
        if seen and world.is_free(x, z) and all(np.hypot(x - a, z - b) > 0.6 for a, b in taken):
            return x, z
    return None


def _pose(rng: np.random.Generator, x: float, z: float) -> Stance:
    heading, phase = float(rng.uniform(0, 2 * np.pi)), float(rng.uniform(0, 2 * np.pi))
    arms, kind = str(rng.choice(_ARMS)), rng.random()
    if kind < 0.58:
        return Stance(x, z, heading, phase, float(rng.uniform(0.6, 1.15)), arms=arms)
    if kind < 0.86:
        return Stance(x, z, heading, phase, float(rng.uniform(0, 0.15)), arms=arms, lean=float(rng.normal(0.03, 0.06)))
    if kind < 0.93:  # crouching, picking something up
        return Stance(x, z, heading, sit=float(rng.uniform(0.6, 0.95)), arms="carry", lean=float(rng.uniform(0.4, 0.9)))
    return Stance(x, z, heading, phase, float(rng.uniform(0, 0.6)), fall=1.0, arms=arms)


@dataclass(frozen=True)
class Actor:
    """Somebody in a video: walks from start to end from a moment on; may sit down or fall at the end.

    Attributes:
        look: Their looks.
        start, end: x and z in metres.
        begins: Second at which they set off; who leaves on arrival is not there before it, others wait at the start.
        speed: Metres a second.
        ending: leave (gone on arrival), stay, sit or fall.
        heading: The way they look once seated.
    """

    look: Look
    start: tuple[float, float]
    end: tuple[float, float]
    begins: float
    speed: float
    ending: str
    heading: float = 0.0

    def at(self, second: float) -> Stance | None:
        """Where and how they are, or None when they are not there."""
        way = np.array(self.end) - np.array(self.start)
        length = float(np.hypot(*way))
        walked = (second - self.begins) * self.speed
        if self.ending == "leave" and not 0 <= walked <= length:
            return None
        walked = max(0.0, walked)
        x, z = np.array(self.start) + way * min(1.0, walked / max(length, 1e-6))
        heading = float(np.arctan2(way[0], way[1]))
        phase = 2 * np.pi * min(walked, length) / (0.82 * self.look.tall)
        late = (walked - length) / self.speed
        if walked == 0:
            return Stance(float(x), float(z), heading)
        if late <= 0:
            return Stance(float(x), float(z), heading, phase, 0.85 * min(1.3, self.speed / 1.3))
        done = min(1.0, late / 1.2)
        done = done * done * (3 - 2 * done)  # ease in and out
        if self.ending == "sit":
            turn = (self.heading - heading + np.pi) % (2 * np.pi) - np.pi
            return Stance(float(x), float(z), heading + turn * min(1.0, 2 * done), sit=done)
        if self.ending == "fall":
            return Stance(float(x), float(z), heading, phase, 0.6 * (1 - done), fall=done)
        return Stance(float(x), float(z), heading, phase, 0.8 * (1 - done))


def film_cast(rng: np.random.Generator, world: World, seconds: float) -> list[Actor]:
    """People for a video: some cross and leave, one sits down, one falls, one comes and stays."""
    cast = [_sitter(rng, world, seconds), _visitor(rng, world, seconds, "fall"), _visitor(rng, world, seconds, "stay")]
    for index in range(int(rng.integers(3, 6)) + int(seconds // 8)):
        begins = float(rng.uniform(-4, 0) if index == 0 else rng.uniform(-2, max(1.0, 0.8 * seconds)))
        cast.append(_crosser(rng, world, begins))
    return [actor for actor in cast if actor is not None]


def _crosser(rng: np.random.Generator, world: World, begins: float) -> Actor | None:
    """Somebody who crosses the view from one side to the other, nearly straight or far into the depth."""
    camera = world.camera
    for _ in range(40):
        z0 = _depth(rng, world)
        z1 = z0 * float(np.exp(rng.normal(0, 0.35)))
        edge = 0.5 * camera.width / camera.focal
        side = float(rng.choice([-1, 1]))
        start = (side * (edge * (z0 + 1) + 0.8), z0)
        end = (-side * (edge * (z1 + 1) + 0.8), z1)
        inside = [_clip_to_walls(world, start, end), _clip_to_walls(world, end, start)]
        if world.is_free_between(*inside):
            return Actor(random_look(rng), inside[0], inside[1], begins, float(rng.uniform(0.9, 1.7)), "leave")
    return None


def _clip_to_walls(world: World, point: tuple[float, float], toward: tuple[float, float]) -> tuple[float, float]:
    """Move a point along the way to another until it lies in front of every wall."""
    for share in np.linspace(0, 0.9, 37):
        x, z = point[0] + share * (toward[0] - point[0]), point[1] + share * (toward[1] - point[1])
        if all(offset - x * np.sin(normal) - z * np.cos(normal) > 0.45 for normal, offset in world.walls):
            return x, z
    return point


def _depth(rng: np.random.Generator, world: World) -> float:
    camera = world.camera
    near = camera.elevation / np.tan(camera.pitch + np.arctan2(camera.height / 2, camera.focal))
    ahead = min((offset for normal, offset in world.walls if abs(np.sin(normal)) < 0.7), default=30.0)
    return float(np.exp(rng.uniform(np.log(near + 1.6), np.log(max(near + 3, min(26.0, 0.9 * ahead))))))


def _visitor(rng: np.random.Generator, world: World, seconds: float, ending: str) -> Actor | None:
    """Somebody who walks to a visible spot and stays or falls there."""
    for _ in range(40):
        z = _depth(rng, world)
        x = float(rng.uniform(-0.35, 0.35)) * world.camera.width / world.camera.focal * z
        bearing, way = float(rng.uniform(0, 2 * np.pi)), float(rng.uniform(3, 7))
        start = (x + way * float(np.sin(bearing)), z + way * float(np.cos(bearing)))
        if start[1] > 1 and world.is_free_between(start, (x, z)):
            speed = float(rng.uniform(1.0, 1.5))
            arrives = seconds * float(rng.uniform(0.35, 0.6))
            return Actor(random_look(rng), start, (x, z), arrives - way / speed, speed, ending)
    return None


def _sitter(rng: np.random.Generator, world: World, seconds: float) -> Actor | None:
    """Somebody who walks up to a seat and sits down; nobody if there is no free seat in view."""
    for x, z, heading in world.seats:
        seat, depth = world.camera.project(np.array([[x, 0.5, z]], dtype=np.float32))
        if depth[0] > 1 and 0 < seat[0, 0] < world.camera.width and 0 < seat[0, 1] < world.camera.height:
            start = (x + 3.5 * float(np.sin(heading)), z + 3.5 * float(np.cos(heading)))
            return Actor(random_look(rng), start, (x, z), seconds * 0.3 - 2.5, 1.3, "sit", heading)
    return None
