"""A person's body in three dimensions: who they are, how they hold themselves, and the balls their limbs span."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from privseg.datasets.sources._synthetic_camera import Floats

__all__ = ["MATERIALS", "Body", "Look", "Stance", "make_body", "random_look"]

Colour = tuple[int, int, int]
MATERIALS = ("skin", "hair", "top", "bottom", "shoe", "bag", "sleeve", "shin", "hat")
_SKINS: tuple[Colour, ...] = (
    (238, 205, 180),
    (222, 182, 150),
    (198, 150, 116),
    (160, 112, 80),
    (112, 76, 54),
    (74, 50, 38),
)
_HAIRS: tuple[Colour, ...] = (
    (28, 24, 22),
    (54, 38, 28),
    (92, 64, 40),
    (150, 112, 66),
    (120, 118, 116),
    (196, 192, 186),
)


@dataclass(frozen=True)
class Look:
    """Who somebody is and what they wear.

    Attributes:
        tall: Body height in metres.
        build: Width of the trunk, 1 for the average.
        colours: RGB by material.
        pattern: Of the top: plain, rows, columns, checks or print.
        skirt: How far a skirt, dress or coat reaches below the hips, 0 none to 1 the knee and beyond.
        long_hair: Whether hair reaches the shoulders.
        hat: Whether they wear one.
        bag: none, rucksack, handbag or shoulder bag.
        seed: Of the creases in their clothes.
    """

    tall: float
    build: float
    colours: dict[str, Colour]
    pattern: str
    skirt: float
    long_hair: bool
    hat: bool
    bag: str
    seed: int


@dataclass(frozen=True)
class Stance:
    """Where somebody is and how they hold themselves.

    Attributes:
        x, z: Metres on the ground.
        heading: Radians from straight away from the camera, growing to the right.
        phase: Radians of the walking cycle.
        stride: 0 standing to 1 walking briskly.
        sit, fall: 0 upright to 1 seated, or lying on the ground.
        arms: How the arms are held: swing, phone, akimbo, carry or wave.
        lean: Radians the trunk leans forward.
    """

    x: float
    z: float
    heading: float
    phase: float = 0.0
    stride: float = 0.0
    sit: float = 0.0
    fall: float = 0.0
    arms: str = "swing"
    lean: float = 0.03


@dataclass(frozen=True)
class Body:
    """Balls in the world and the parts they span, each part the hull of its balls.

    Attributes:
        centres: (N, 3) float32 metres.
        radii: (N,) float32 metres.
        parts: Material, ball indices, and metres by which it is drawn nearer than it is.
        forward: (3,) the way the face looks.
        up: (3,) from the hips to the head.
    """

    centres: Floats
    radii: Floats
    parts: tuple[tuple[str, tuple[int, ...], float], ...]
    forward: Floats
    up: Floats


def random_look(rng: np.random.Generator) -> Look:
    """Invent a person."""
    child = rng.random() < 0.1
    skin = _vary(rng, _SKINS[int(rng.integers(len(_SKINS)))], 8)
    top, bottom = _cloth(rng, vivid=0.5), _cloth(rng, vivid=0.2)
    kind = rng.random()
    skirt = 0.0 if kind < 0.68 else float(rng.uniform(0.35, 1.15))
    colours = {
        "skin": skin,
        "hair": _vary(rng, _HAIRS[int(rng.choice(6, p=[0.34, 0.26, 0.16, 0.1, 0.08, 0.06]))], 8),
        "top": top,
        "bottom": top if kind > 0.82 else bottom,  # a dress or a coat is of one piece
        "shoe": _cloth(rng, vivid=0.15),
        "bag": _cloth(rng, vivid=0.4),
        "sleeve": skin if rng.random() < 0.35 else top,
        "shin": skin if rng.random() < (0.5 if skirt else 0.15) else bottom,
        "hat": _cloth(rng, vivid=0.4),
    }
    return Look(
        tall=float(rng.uniform(1.05, 1.45) if child else np.clip(rng.normal(1.71, 0.09), 1.5, 1.98)),
        build=float(np.clip(rng.normal(1.04, 0.14), 0.8, 1.5)),
        colours=colours,
        pattern=str(rng.choice(["plain", "rows", "columns", "checks", "print"], p=[0.55, 0.15, 0.08, 0.1, 0.12])),
        skirt=skirt,
        long_hair=bool(rng.random() < 0.4),
        hat=bool(rng.random() < 0.14),
        bag=str(rng.choice(["none", "rucksack", "handbag", "shoulder"], p=[0.56, 0.18, 0.13, 0.13])),
        seed=int(rng.integers(1 << 30)),
    )


def _vary(rng: np.random.Generator, base: Colour, spread: float) -> Colour:
    red, green, blue = np.clip(np.array(base) + rng.normal(0, spread) + rng.normal(0, spread / 3, 3), 6, 250)
    return int(red), int(green), int(blue)


def _cloth(rng: np.random.Generator, vivid: float) -> Colour:
    if rng.random() < vivid:
        return _vary(rng, tuple(int(part) for part in rng.uniform(15, 235, 3)), 4)  # type: ignore[arg-type]
    quiet = ((26, 26, 30), (34, 42, 66), (70, 84, 112), (92, 92, 94), (228, 228, 224), (170, 152, 122), (86, 66, 50))
    return _vary(rng, quiet[int(rng.integers(len(quiet)))], 9)


def make_body(look: Look, stance: Stance) -> Body:
    """Bend the skeleton into a stance and set it on the ground.

    Lengths are shares of body height after Winter, Biomechanics and Motor Control of Human Movement, rounded. In the
    body's own axes x is its right, y up, z forward.
    """
    build, sit = look.build, stance.sit
    points: list[tuple[float, float, float]] = []
    radii: list[float] = []

    def ball(point: Floats, radius: float) -> int:
        points.append((float(point[0]), float(point[1]), float(point[2])))
        radii.append(radius)
        return len(points) - 1

    parts: list[tuple[str, tuple[int, ...], float]] = []
    hip_y, lean = 0.53, stance.lean + 0.05 * stance.stride
    trunk = np.array([0.0, np.cos(lean), np.sin(lean)])
    hips = np.array([0.0, hip_y, 0.0])
    chest, neck, head = hips + 0.2 * trunk, hips + 0.3 * trunk, hips + 0.402 * trunk + _at(0, 0, 0.012)
    knees, ankles = [], []
    for side in (-1, 1):
        swing = stance.phase + (np.pi if side > 0 else 0.0)
        thigh = stance.stride * 0.5 * np.sin(swing) * (1 - sit) + sit * 1.45
        bend = stance.stride * (0.12 + 0.85 * max(0.0, np.cos(swing)) ** 2) * (1 - sit) + sit * 1.45
        hip = hips + _at(side * 0.05 * build, 0, 0)
        knee = hip + 0.245 * _down(thigh)
        ankle = knee + 0.245 * _down(thigh - bend)
        toe = ankle + _at(side * 0.01, -0.022, 0.085)
        upper, lower = ball(hip, 0.056 * build), ball(knee, 0.036 + 0.006 * build)
        parts += [("bottom", (upper, lower), 0.0)]
        parts += [("shin", (ball(knee, 0.036), ball(ankle - 0.35 * (ankle - knee), 0.034), ball(ankle, 0.022)), 0.0)]
        parts += [("shoe", (ball(ankle, 0.024), ball(ankle + _at(0, -0.024, -0.02), 0.018), ball(toe, 0.017)), 0.01)]
        knees.append(lower)
        ankles.append(float(ankle[1]))
    shoulders, hands = [], []
    for side in (-1, 1):
        shoulder = neck - 0.025 * trunk + _at(side * (0.085 + 0.018 * build), 0, 0)
        raise_, bend, spread = _arm(stance, side)
        aside = np.array([side * np.sin(spread), 0, 0])
        elbow = shoulder + 0.165 * (np.cos(spread) * _down(raise_) + aside)
        hand = elbow + 0.15 * (np.cos(spread * 0.4) * _down(raise_ + bend) + 0.4 * aside)
        first, middle, last = ball(shoulder, 0.037), ball(elbow, 0.027), ball(hand, 0.02)
        parts += [("top", (first, middle), 0.0), ("sleeve", (middle, last), 0.0)]
        parts += [("skin", (ball(hand, 0.021), ball(hand + 0.2 * (hand - elbow), 0.018)), 0.02)]
        shoulders.append(first)
        hands.append(hand)
    belly = hips + 0.1 * trunk + _at(0, 0, 0.008 + 0.03 * max(0.0, build - 1.1))
    trunk_balls = [*shoulders, ball(chest, 0.078 * build), ball(belly, 0.068 * build)]
    seat = [ball(hips + _at(side * 0.035 * build, 0.01, 0), 0.06 * build) for side in (-1, 1)]
    parts += [("bottom", tuple(seat), 0.01), ("top", (*trunk_balls, *seat), 0.015)]
    if look.skirt:
        hem = [
            ball(_between(points[seat[i]], points[knees[i]], look.skirt), 0.062 + 0.025 * look.skirt) for i in (0, 1)
        ]
        parts += [("bottom", (*seat, *hem), 0.06)]
    parts += [("skin", (ball(neck, 0.032), ball(neck + 0.05 * trunk, 0.028)), 0.0)]
    parts += [("skin", (ball(head + 0.012 * trunk, 0.052), ball(head - 0.03 * trunk + _at(0, 0, 0.012), 0.036)), 0.0)]
    crown = head + 0.022 * trunk + _at(0, 0, -0.014)
    nape = head - (0.11 if look.long_hair else 0.02) * trunk + _at(0, 0, -0.045 if look.long_hair else -0.028)
    parts += [("hair", (ball(crown, 0.056), ball(nape, 0.036)), 0.0)]
    if look.hat:
        parts += [
            ("hat", (ball(crown + 0.02 * trunk, 0.056), ball(head + 0.035 * trunk + _at(0, 0, 0.07), 0.018)), 0.03)
        ]
    if look.bag == "rucksack":
        back = hips + 0.2 * trunk + _at(0, 0, -0.105)
        parts += [("bag", tuple(ball(back + s * 0.07 * trunk, 0.062) for s in (-1, 1)), 0.02)]
    elif look.bag == "handbag":
        low = hands[1] + _at(0.01, -0.09, 0)
        parts += [("bag", tuple(ball(low + _at(0, 0, s * 0.05), 0.035) for s in (-1, 1)), 0.02)]
    elif look.bag == "shoulder":
        hung = hips + _at(0.115 * build, 0.0, 0)
        parts += [
            ("bag", tuple(ball(hung + _at(0, dy, dz), 0.03) for dy in (-0.04, 0.05) for dz in (-0.06, 0.06)), 0.03)
        ]
    own = np.array(points)
    own[:, 1] -= min(ankles) - 0.042
    return _stand(look, stance, own, np.array(radii), tuple(parts), trunk)


def _stand(
    look: Look,
    stance: Stance,
    own: Floats,
    radii: Floats,
    parts: tuple[tuple[str, tuple[int, ...], float], ...],
    trunk: Floats,
) -> Body:
    """Tip the body over if it falls, turn it to its heading and put it in its place."""
    tip = stance.fall * np.pi / 2
    cosine, sine = np.cos(tip), np.sin(tip)
    tilt = np.array([[1, 0, 0], [0, cosine, -sine], [0, sine, cosine]])
    own = own @ tilt.T
    lift = np.maximum(0.0, (radii - own[:, 1])) if stance.fall else 0.0  # the lying body rests on its limbs
    own[:, 1] += lift
    cosine, sine = np.cos(stance.heading), np.sin(stance.heading)
    turn = np.array([[cosine, 0, sine], [0, 1, 0], [-sine, 0, cosine]])
    centres = own @ turn.T * look.tall + (stance.x, 0, stance.z)
    forward, up = turn @ tilt @ (0, 0, 1), turn @ tilt @ trunk
    return Body(
        centres.astype(np.float32),
        (radii * look.tall).astype(np.float32),
        parts,
        forward.astype(np.float32),
        up.astype(np.float32),
    )


def _down(angle: float) -> Floats:
    """Unit vector hanging down, swung forward by an angle."""
    return np.array([0.0, -np.cos(angle), np.sin(angle)])


def _at(x: float, y: float, z: float) -> Floats:
    return np.array([x, y, z])


def _between(start: tuple[float, float, float], end: tuple[float, float, float], share: float) -> Floats:
    point: Floats = np.array(start) + share * (np.array(end) - np.array(start))
    return point


def _arm(stance: Stance, side: int) -> tuple[float, float, float]:
    """Radians by which an arm is raised forward, bent at the elbow and spread sideways."""
    if stance.arms == "phone" and side > 0:
        return 0.45, 1.9, 0.25
    if stance.arms == "akimbo":
        return -0.25, 0.9, 0.75
    if stance.arms == "carry":
        return 0.35, 1.25, 0.1
    if stance.arms == "wave" and side > 0:
        return 2.6, 0.35, 0.35
    swing = 0.5 * stance.stride * np.sin(stance.phase + (0.0 if side > 0 else np.pi))
    return swing + 0.35 * stance.sit, 0.2 + 0.35 * stance.stride + 0.8 * stance.sit, 0.1 + 0.6 * stance.fall
