"""A bubble plot as inline SVG, so that the page needs no script and no library."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from html import escape

from privseg.benchmark.labels import Box, Circle, place_labels

__all__ = ["Frame", "Point", "bubble_plot", "pareto_front"]

LETTER = 0.58  # mean width of a letter, as a share of the size of the type
LEAST_RADIUS = 4.0
DOT = 3.0  # pixels


@dataclass(frozen=True)
class Point:
    """One model.

    Attributes:
        name: What stands beside it.
        x: Value across, above 0: the axis is logarithmic.
        y: Value upwards, 0 to 1.
        size: What the bubble's area stands for; 0 draws a dot.
        title: What a reader gets who points at it.
    """

    name: str
    x: float
    y: float
    size: float = 0.0
    title: str = ""


@dataclass(frozen=True)
class Frame:
    """How a plot is drawn.

    Attributes:
        x_label: Below the plot.
        y_label: Beside it.
        width: Of the drawing in pixels.
        height: Of the drawing in pixels.
        largest: Radius of the largest bubble in pixels.
        type_size: Height of the letters in pixels.
    """

    x_label: str
    y_label: str
    width: float = 820
    height: float = 480
    largest: float = 32.0
    type_size: float = 13.0

    @property
    def area(self) -> Box:
        """Where the points are."""
        left, bottom = 4.4 * self.type_size, 3.6 * self.type_size
        return Box(left, 8, self.width - left - 12, self.height - bottom - 8)


def pareto_front(points: Sequence[Point]) -> list[Point]:
    """The points that no other beats in one value without losing in the other, from left to right."""
    best: list[Point] = []
    for point in sorted(points, key=lambda p: (-p.x, -p.y)):
        if not best or point.y > best[-1].y or (point.x, point.y) == (best[-1].x, best[-1].y):
            best.append(point)
    return best[::-1]


def bubble_plot(points: Sequence[Point], frame: Frame, winner: str = "") -> str:
    """Draw the points, their names and the Pareto front.

    Args:
        points: At least one.
        frame: Labels and sizes.
        winner: Name of the point to mark.

    Returns:
        An ``svg`` element; its colours are the page's classes ``winner``, ``front`` and ``other``.
    """
    xs, ys = _x_axis([point.x for point in points]), _y_axis([point.y for point in points])
    front = pareto_front(points)
    largest = max(point.size for point in points)
    order = sorted(points, key=lambda point: (-point.size, point.name))
    circles = [
        Circle(_across(point.x, xs, frame.area), _up(point.y, ys, frame.area), _radius(point, largest, frame))
        for point in order
    ]
    # The small ones have little room to give, and go first.
    sizes = [(len(point.name) * frame.type_size * LETTER, frame.type_size * 1.2) for point in order]
    corners = [(_across(point.x, xs, frame.area), _up(point.y, ys, frame.area)) for point in front]
    boxes = place_labels(circles[::-1], sizes[::-1], frame.area, list(_dots(corners)))[::-1]
    line = " ".join(f"{x:.1f},{y:.1f}" for x, y in corners)
    parts = [*_axes(xs, ys, frame), f'<polyline class="front" points="{line}"/>']
    for point, circle in zip(order, circles, strict=True):
        kind = "winner" if point.name == winner else "front" if point in front else "other"
        parts.append(
            f'<circle class="{kind}" cx="{circle.x:.1f}" cy="{circle.y:.1f}" r="{circle.radius:.1f}">'
            f"<title>{escape(point.title or point.name)}</title></circle>"
        )
    for point, circle, box in zip(order, circles, boxes, strict=True):
        parts += _name(point.name, circle, box, frame, bold=point.name == winner)
    label = escape(f"{frame.y_label} over {frame.x_label}")
    return (
        f'<svg viewBox="0 0 {frame.width:g} {frame.height:g}" style="font-size:{frame.type_size:g}px" role="img" '
        f'aria-label="{label}">{"".join(parts)}</svg>'
    )


def _name(name: str, circle: Circle, box: Box, frame: Frame, *, bold: bool) -> Iterator[str]:
    middle = (box.left + box.width / 2, box.top + box.height / 2)
    away = math.hypot(middle[0] - circle.x, middle[1] - circle.y)
    nearest = (
        min(max(circle.x, box.left), box.left + box.width),
        min(max(circle.y, box.top), box.top + box.height),
    )
    gap = math.hypot(nearest[0] - circle.x, nearest[1] - circle.y)
    if gap > circle.radius + 10 and away:
        share = circle.radius / gap
        start = (circle.x + (nearest[0] - circle.x) * share, circle.y + (nearest[1] - circle.y) * share)
        (x1, y1), (x2, y2) = start, nearest
        yield f'<line class="leader" x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}"/>'
    weight = ' font-weight="700"' if bold else ""
    yield (
        f'<text x="{middle[0]:.1f}" y="{box.top + frame.type_size * 0.95:.1f}" text-anchor="middle"{weight}>'
        f"{escape(name)}</text>"
    )


def _dots(corners: Sequence[tuple[float, float]]) -> Iterator[Circle]:
    """A line as dots, for names to keep off."""
    for (x1, y1), (x2, y2) in itertools.pairwise(corners):
        count = max(1, int(math.hypot(x2 - x1, y2 - y1) / DOT))
        for dot in range(count):
            yield Circle(x1 + (x2 - x1) * dot / count, y1 + (y2 - y1) * dot / count, DOT)


def _radius(point: Point, largest: float, frame: Frame) -> float:
    return max(LEAST_RADIUS, frame.largest * math.sqrt(point.size / largest)) if largest else LEAST_RADIUS + 1


def _x_axis(values: Sequence[float]) -> tuple[float, float]:
    return min(values) / 1.35, max(values) * 1.35


def _y_axis(values: Sequence[float]) -> tuple[float, float]:
    """Whole twentieths with some air, never beyond 0 and 1."""
    low, high = math.floor(min(values) * 20 - 0.5) / 20, math.ceil(max(values) * 20 + 0.5) / 20
    return max(0.0, low), min(1.0, high)


def _across(x: float, axis: tuple[float, float], area: Box) -> float:
    return area.left + area.width * math.log(x / axis[0]) / math.log(axis[1] / axis[0])


def _up(y: float, axis: tuple[float, float], area: Box) -> float:
    return area.top + area.height * (axis[1] - y) / (axis[1] - axis[0])


def _axes(xs: tuple[float, float], ys: tuple[float, float], frame: Frame) -> Iterator[str]:
    area = frame.area
    bottom = area.top + area.height
    step = 0.05 if ys[1] - ys[0] <= 0.35 else 0.1
    for tick in range(math.ceil(ys[0] / step - 0.01), math.floor(ys[1] / step + 0.01) + 1):
        value, y = tick * step, _up(tick * step, ys, area)
        yield (
            f'<line class="grid" x1="{area.left:.1f}" x2="{area.left + area.width:.1f}" y1="{y:.1f}" y2="{y:.1f}"/>'
            f'<text x="{area.left - 6:.1f}" y="{y + frame.type_size / 3:.1f}" text-anchor="end">{value:.2f}</text>'
        )
    for value in _ticks(*xs):
        x = _across(value, xs, area)
        yield (
            f'<line class="grid" x1="{x:.1f}" x2="{x:.1f}" y1="{area.top:.1f}" y2="{bottom:.1f}"/>'
            f'<text x="{x:.1f}" y="{bottom + frame.type_size * 1.3:.1f}" text-anchor="middle">{value:g}</text>'
        )
    across, down = area.left + area.width / 2, area.top + area.height / 2
    yield (
        f'<text x="{across:.1f}" y="{frame.height - 6:.1f}" text-anchor="middle">{escape(frame.x_label)}</text>'
        f'<text transform="translate({frame.type_size:.1f} {down:.1f}) rotate(-90)" text-anchor="middle">'
        f"{escape(frame.y_label)}</text>"
    )


def _ticks(low: float, high: float) -> Iterator[float]:
    """1, 2 and 5 times powers of ten."""
    for power in range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1):
        for digit in (1, 2, 5):
            value = digit * 10.0**power
            if low <= value <= high:
                yield value
