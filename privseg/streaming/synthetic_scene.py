"""The pictures of the synthetic camera: a yard that stands still, people who walk through it, a sensor's noise."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

import cv2
import numpy as np
import numpy.typing as npt

__all__ = ["SyntheticScene"]

Image = npt.NDArray[np.uint8]
Colour = tuple[int, int, int]
Point = tuple[float, float]

_HORIZON: Final = 0.42
#: spread of the noise, in grey levels
_NOISE: Final = 2.5
_LIFT: Final = 8
# The noise is drawn once and then moved about; both steps are prime, so that it repeats after thousands of pictures.
_STEPS: Final = (61, 67)
_SUBPIXEL_BITS: Final = 4
_SKINS: Final[tuple[Colour, ...]] = ((232, 196, 168), (196, 148, 114), (142, 98, 70), (92, 62, 46))
_HAIRS: Final[tuple[Colour, ...]] = ((30, 26, 24), (70, 48, 32), (140, 104, 62), (150, 148, 146))
_CLOTHES: Final[tuple[Colour, ...]] = (
    (36, 44, 66), (122, 38, 42), (46, 92, 70), (188, 178, 160), (58, 60, 64), (70, 106, 152), (176, 136, 52),
)  # fmt: skip


@dataclass(frozen=True)
class _Walker:
    """Somebody who walks from side to side and comes back at the other end.

    Attributes:
        depth: 0 far, 1 near.
        start: Where along the way at time 0, a share of it.
        pace: Body heights a second; below 0 to the left.
        colours: RGB of skin, hair, top, trousers.
    """

    depth: float
    start: float
    pace: float
    colours: tuple[Colour, Colour, Colour, Colour]


class SyntheticScene:
    """Draws the pictures of one place.

    Args:
        width: Pixels across.
        height: Pixels down.
        people: How many walk about.
        seed: The same number, the same place, people and noise.
    """

    def __init__(self, width: int, height: int, *, people: int, seed: int) -> None:
        self._size = (width, height)
        random = np.random.default_rng(seed)
        self._walkers = sorted(
            (_walker(random, number / people) for number in range(people)), key=lambda walker: walker.depth
        )
        self._place = _place(width, height, random)
        shape = (height + _STEPS[0], width + _STEPS[1], 3)
        noise = random.standard_normal(shape, dtype=np.float32) * _NOISE + _LIFT
        self._noise = np.clip(np.rint(noise), 0, 2 * _LIFT).astype(np.uint8)

    def picture(self, number: int, seconds: float) -> Image:
        """One picture.

        Args:
            number: Of the picture: no two that follow each other have the same noise.
            seconds: Since the start: where everybody is by now.

        Returns:
            uint8 ``(height, width, 3)`` RGB.
        """
        picture = self._place.copy()
        for walker in self._walkers:
            self._draw(picture, walker, seconds)
        down, across = (number % step for step in _STEPS)
        width, height = self._size
        # The sum saturates, and the lift that the noise brings is taken out of the place beforehand.
        return np.asarray(cv2.add(picture, self._noise[down : down + height, across : across + width]), np.uint8)

    def _draw(self, picture: Image, walker: _Walker, seconds: float) -> None:
        width, height = self._size
        tall = height * (0.26 + 0.4 * walker.depth)
        way = width + tall
        walked = walker.pace * tall * seconds
        x = (walker.start * way + walked) % way - tall / 2
        ground = height * (_HORIZON + 0.16 + 0.38 * walker.depth)
        _draw_person(picture, (x, ground), tall, math.tau * abs(walked) / tall, walker)


def _walker(random: np.random.Generator, start: float) -> _Walker:
    def pick(colours: tuple[Colour, ...]) -> Colour:
        return colours[int(random.integers(len(colours)))]

    return _Walker(
        depth=float(random.uniform()),
        start=start + float(random.uniform(0.05, 0.2)),
        pace=float(random.uniform(0.4, 0.75) * random.choice([-1, 1])),
        colours=(pick(_SKINS), pick(_HAIRS), pick(_CLOTHES), pick(_CLOTHES)),
    )


def _place(width: int, height: int, random: np.random.Generator) -> Image:
    """A wall with windows and a door above a paved ground, without anybody; darker by what the noise adds."""
    horizon = round(height * _HORIZON)
    picture = np.empty((height, width, 3), np.uint8)
    picture[:horizon] = (148, 140, 128)
    picture[horizon:] = (116, 116, 112)
    rows = np.linspace(0.8, 1.12, height, dtype=np.float32)[:, np.newaxis, np.newaxis]
    stains = _stains(width, height, 12, random) * 10 + _stains(width, height, 90, random) * 8
    windows = 5
    for window in range(windows):
        left = round(width * (window + 0.25) / windows)
        right = round(width * (window + 0.75) / windows)
        top, bottom = round(horizon * 0.2), round(horizon * (0.95 if window == windows // 2 else 0.62))
        cv2.rectangle(picture, (left, top), (right, bottom), (64, 78, 92), -1)
        cv2.rectangle(picture, (left, top), (right, bottom), (176, 172, 164), max(height // 120, 1))
    for row in range(1, 8):  # the joints of the paving run towards the viewer and get wider apart
        y = round(horizon + (height - horizon) * (row / 8) ** 1.8)
        cv2.line(picture, (0, y), (width, y), (98, 98, 95), max(height // 360, 1))
    for column in range(-8, 17):
        far, near = width * (0.25 + column / 16), width * (column / 4 - 0.5)
        cv2.line(
            picture, (round(far), horizon), (round(near), height), (98, 98, 95), max(height // 360, 1), cv2.LINE_AA
        )
    shaded = picture.astype(np.float32) * rows + stains[..., np.newaxis] - _LIFT
    return np.asarray(np.clip(shaded, 0, 255), np.uint8)


def _stains(width: int, height: int, cells: int, random: np.random.Generator) -> npt.NDArray[np.float32]:
    """Smooth float32 ``(height, width)`` noise of spread 1, about ``cells`` blots across."""
    small = random.standard_normal((max(cells * height // width, 2), cells), dtype=np.float32)
    return np.asarray(cv2.resize(small, (width, height), interpolation=cv2.INTER_CUBIC), np.float32)


def _draw_person(picture: Image, feet: Point, tall: float, phase: float, walker: _Walker) -> None:
    """Draw somebody in mid-step.

    Args:
        picture: uint8 ``(H, W, 3)`` RGB, drawn on.
        feet: Where they stand, in pixels.
        tall: Their height in pixels.
        phase: Of the walk, in radians; a turn is two steps.
        walker: How they look, and which way they go.
    """
    skin, hair, top, trousers = walker.colours
    ahead = 1 if walker.pace > 0 else -1
    swing, bob = math.sin(phase), 0.012 * tall * math.cos(2 * phase)
    x, ground = feet
    hip, neck = (x, ground - 0.49 * tall + bob), (x + ahead * 0.015 * tall, ground - 0.83 * tall + bob)
    shoulder = (neck[0], neck[1] + 0.035 * tall)
    _ball(picture, feet, 0.2 * tall, 0.03 * tall, (70, 70, 68))
    for side in (-1, 1):  # the far arm and leg, then the near ones
        shade = 0.78 if side < 0 else 1.0
        if side > 0:
            _limb(picture, [shoulder, hip], 0.17 * tall, top)
            _limb(picture, [(x - 0.035 * tall, hip[1]), (x + 0.035 * tall, hip[1])], 0.11 * tall, trousers)
        bend = 0.75 * max(side * math.cos(phase), 0.0)  # the leg that is on its way forward
        thigh = 0.42 * swing * side
        knee = _hang(hip, 0.245 * tall, thigh * ahead)
        ankle = _hang(knee, 0.235 * tall, (thigh - bend) * ahead)
        toes = (ankle[0] + ahead * 0.07 * tall, ankle[1] + 0.005 * tall)
        _limb(picture, [hip, knee, ankle], 0.085 * tall, _dim(trousers, shade))
        _limb(picture, [ankle, toes], 0.045 * tall, (34, 30, 30))
        upper = -0.5 * swing * side
        elbow = _hang(shoulder, 0.17 * tall, upper * ahead)
        wrist = _hang(elbow, 0.15 * tall, (upper + 0.35) * ahead)
        _limb(picture, [shoulder, elbow, wrist], 0.058 * tall, _dim(top, 0.86 * shade))
        _ball(picture, wrist, 0.028 * tall, 0.032 * tall, _dim(skin, shade))
    head = (neck[0] + ahead * 0.012 * tall, neck[1] - 0.09 * tall)
    _limb(picture, [neck, head], 0.06 * tall, _dim(skin, 0.85))
    _ball(picture, (head[0] - ahead * 0.012 * tall, head[1] - 0.012 * tall), 0.062 * tall, 0.075 * tall, hair)
    _ball(picture, (head[0] + ahead * 0.014 * tall, head[1] + 0.012 * tall), 0.046 * tall, 0.064 * tall, skin)


def _hang(joint: Point, length: float, angle: float) -> Point:
    """The other end of a limb that hangs from a joint, turned by an angle in radians."""
    return joint[0] + length * math.sin(angle), joint[1] + length * math.cos(angle)


def _dim(colour: Colour, share: float) -> Colour:
    red, green, blue = (round(channel * share) for channel in colour)
    return red, green, blue


def _limb(picture: Image, joints: list[Point], thickness: float, colour: Colour) -> None:
    points = np.array([_fixed(joint) for joint in joints], np.int32)
    cv2.polylines(picture, [points], False, colour, max(round(thickness), 1), cv2.LINE_AA, _SUBPIXEL_BITS)


def _ball(picture: Image, centre: Point, across: float, down: float, colour: Colour) -> None:
    axes = _fixed((max(across, 1.0), max(down, 1.0)))
    cv2.ellipse(picture, _fixed(centre), axes, 0, 0, 360, colour, -1, cv2.LINE_AA, _SUBPIXEL_BITS)


def _fixed(point: Point) -> tuple[int, int]:
    """A point for OpenCV, which takes fractions of a pixel as whole numbers."""
    return round(point[0] * (1 << _SUBPIXEL_BITS)), round(point[1] * (1 << _SUBPIXEL_BITS))
