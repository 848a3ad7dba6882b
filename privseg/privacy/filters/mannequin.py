"""A neutral figure in a pose read off a covered area's outline: what an avatar and a morph draw.

Nothing but the mask goes in. Where it shows several heads side by side, as many figures are drawn.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import cv2
import numpy as np
import numpy.typing as npt

from privseg.privacy.filters.base import BoolMask, Image

__all__ = ["draw_figures"]

#: the pose is read on a mask of at most this many pixels along its longer side
_SKETCH = 96
#: people's heads are apart by a dip of this share of the height, and their middles by so much
_DIP = 0.1
_APART = 0.25
#: an outline this much wider than high is somebody lying, unless standing people side by side make it up
_LYING = 1.2
# Where the parts of a standing body are, as shares of its height from the top; widths as shares of it, too.
_HEAD, _SHOULDERS, _HIPS, _KNEES, _FEET = 0.09, 0.22, 0.53, 0.75, 0.95
_HEAD_RADIUS, _LIMB, _LEAST_TORSO, _MOST_TORSO = 0.065, 0.055, 0.05, 0.11

Color = tuple[int, int, int]
Points = npt.NDArray[np.float64]
Sketch = npt.NDArray[np.bool_]


def draw_figures(mask: BoolMask, ground: Color, body: Color, limbs: Color) -> Image:
    """Draw a figure for every person that a covered area seems to be.

    Args:
        mask: bool ``(h, w)``.
        ground: RGB of all that is no figure.
        body: RGB of head and torso.
        limbs: RGB of arms and legs.

    Returns:
        uint8 ``(h, w, 3)`` RGB. Figures may reach beyond the mask.
    """
    height, width = mask.shape
    canvas = np.empty((height, width, 3), np.uint8)
    canvas[:] = ground
    step = max(max(height, width) / _SKETCH, 1.0)
    size = (max(round(width / step), 1), max(round(height / step), 1))
    sketch = cv2.resize(mask.view(np.uint8), size, interpolation=cv2.INTER_NEAREST_EXACT).view(np.bool_)
    parts = list(_apart(sketch))
    # Somebody lying dips, too, at the neck; but nobody who stands beside others is wider than high.
    flat = _is_flat(sketch) and any(_is_flat(part) for _, part in parts)
    if flat:
        parts = [(np.zeros(2), sketch)]
    for offset, part in parts:
        pose, tall = _lying(part) if flat else _standing(part)
        _draw(canvas, (pose + offset + 0.5) * step, tall * step, body, limbs)
    return canvas


def _is_flat(part: Sketch) -> bool:
    return bool(part.shape[1] > _LYING * part.shape[0])


def _apart(sketch: Sketch) -> Iterator[tuple[Points, Sketch]]:
    """Each person's upper left corner (x, y) and own part of the sketch, cut where the upper outline dips."""
    height, width = sketch.shape
    rise = np.where(sketch.any(0), height - sketch.argmax(0), 0).tolist()
    cuts = [0, *_valleys(rise, _DIP * height, _APART * height), width]
    for left, right in itertools.pairwise(cuts):
        rows = np.flatnonzero(sketch[:, left:right].any(1))
        if len(rows):
            yield np.array([left, rows[0]], np.float64), sketch[rows[0] : rows[-1] + 1, left:right]


def _valleys(rise: list[int], dip: float, apart: float) -> list[int]:
    """Columns of the lowest points between peaks that stand out by ``dip`` and are ``apart`` or more."""
    cuts: list[int] = []
    peak = valley = 0
    last_peak: int | None = None
    climbing = True
    for column, value in enumerate([*rise, -1 - int(dip)]):  # the outline ends in a dip
        if climbing:
            if value > rise[peak]:
                peak = column
            elif value < rise[peak] - dip:
                if last_peak is not None and peak - last_peak >= apart:
                    cuts.append(valley)
                if last_peak is None or peak - last_peak >= apart:
                    last_peak = peak
                valley, climbing = column, False
        elif value < rise[valley]:
            valley = min(column, len(rise) - 1)
        elif value > rise[valley] + dip:
            peak, climbing = column, True
    return cuts


def _lying(part: Sketch) -> tuple[Points, float]:
    """As :func:`_standing`, for somebody whose head is at the left or right: where more of the body is."""
    columns = part.sum(0)
    middle = (columns * np.arange(len(columns))).sum() / max(columns.sum(), 1)
    right = middle > (len(columns) - 1) / 2
    pose, tall = _standing((part[:, ::-1] if right else part).T)
    pose = pose[:, ::-1].copy()
    if right:
        pose[:, 0] = part.shape[1] - 1 - pose[:, 0]
    return pose, tall


def _standing(part: Sketch) -> tuple[Points, float]:
    """Where head, shoulders, hips, hands, knees and feet would be.

    Returns:
        float64 ``(11, 2)``, (x, y) in pixels of the sketch: the head, then shoulders, hips, hands, knees and feet, the
        left one (as seen) first; and the body's height.
    """
    tall = float(part.shape[0])
    (head,) = _columns(part, 0.0, 0.14, (0.5,))
    left, middle, right = _columns(part, 0.18, 0.32, (0.15, 0.5, 0.85))
    half = min(max(0.35 * (right - left), _LEAST_TORSO * tall), _MOST_TORSO * tall)
    (hips,) = _columns(part, 0.48, 0.58, (0.5,))
    knees = _columns(part, 0.70, 0.80, (0.2, 0.8))
    feet = _columns(part, 0.88, 0.97, (0.15, 0.85))
    points = [
        (head, _HEAD * tall),
        (middle - half, _SHOULDERS * tall),
        (middle + half, _SHOULDERS * tall),
        (hips - 0.6 * half, _HIPS * tall),
        (hips + 0.6 * half, _HIPS * tall),
        *_hands(part, middle, half),
        *((x, _KNEES * tall) for x in knees),
        *((x, _FEET * tall) for x in feet),
    ]
    return np.array(points, np.float64), tall


def _columns(part: Sketch, top: float, bottom: float, shares: tuple[float, ...]) -> list[float]:
    """The columns left of which the given shares of a band's covered pixels lie; the band in shares of the height."""
    height, width = part.shape
    band = part[int(top * height) : max(int(bottom * height), int(top * height) + 1)]
    mass = band.sum(0).cumsum()
    if mass[-1] == 0:
        return [share * (width - 1) for share in shares]
    return [float(np.searchsorted(mass, share * mass[-1])) for share in shares]


def _hands(part: Sketch, middle: float, half: float) -> Iterator[tuple[float, float]]:
    """The points furthest to the left and right between shoulders and hips; hanging arms where nothing sticks out."""
    tall, width = part.shape
    first, last = int(0.15 * tall), max(int(0.62 * tall), int(0.15 * tall) + 1)
    band = part[first:last]
    filled = band.any(1)
    lefts = np.where(filled, band.argmax(1), width)
    rights = np.where(filled, width - 1 - band[:, ::-1].argmax(1), -1)
    for side, edges, row in ((-1, lefts, int(lefts.argmin())), (1, rights, int(rights.argmax()))):
        edge = float(edges[row])
        if side * (edge - middle) > half + 0.12 * tall:
            yield edge - side * 0.05 * tall, float(first + row)
        else:
            yield middle + side * (half + 0.03 * tall), 0.55 * tall


def _draw(canvas: Image, pose: Points, tall: float, body: Color, limbs: Color) -> None:
    """Draw one figure of the points of :func:`_standing`, in pixels of the canvas."""
    head, *rest = [(round(x), round(y)) for x, y in pose.tolist()]
    shoulders, hips, hands, knees, feet = (rest[start : start + 2] for start in range(0, 10, 2))
    limb = max(round(_LIMB * tall), 1)
    for side in range(2):
        for line in ((hips[side], knees[side], feet[side]), (shoulders[side], hands[side])):
            cv2.polylines(canvas, [np.array(line, np.int32)], False, limbs, limb, cv2.LINE_AA)
    torso = np.array([shoulders[0], shoulders[1], hips[1], hips[0]], np.int32)
    cv2.fillPoly(canvas, [torso], body, cv2.LINE_AA)
    cv2.polylines(canvas, [torso], True, body, limb, cv2.LINE_AA)
    cv2.circle(canvas, head, max(round(_HEAD_RADIUS * tall), 1), body, cv2.FILLED, cv2.LINE_AA)
