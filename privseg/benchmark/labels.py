"""Where the names of points go in a plot, so that no two lie over each other."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

__all__ = ["Box", "Circle", "place_labels"]

GAP = 4.0  # pixels between a circle and its name
DIRECTIONS = 16
RINGS = 40
RING_STEP = 7.0  # pixels


@dataclass(frozen=True)
class Box:
    """A rectangle in a picture whose y grows downwards."""

    left: float
    top: float
    width: float
    height: float

    def overlaps(self, other: Box) -> bool:
        """Whether the two share an area."""
        return (
            self.left < other.left + other.width
            and other.left < self.left + self.width
            and self.top < other.top + other.height
            and other.top < self.top + self.height
        )

    def within(self, other: Box) -> bool:
        """Whether this one lies inside the other."""
        return (
            other.left <= self.left
            and other.top <= self.top
            and self.left + self.width <= other.left + other.width
            and self.top + self.height <= other.top + other.height
        )


@dataclass(frozen=True)
class Circle:
    """A point of the plot, drawn as large as it is."""

    x: float
    y: float
    radius: float

    def touches(self, box: Box) -> bool:
        """Whether the box lies over a part of it."""
        x = min(max(self.x, box.left), box.left + box.width)
        y = min(max(self.y, box.top), box.top + box.height)
        return math.hypot(x - self.x, y - self.y) < self.radius


def place_labels(
    circles: Sequence[Circle], sizes: Sequence[tuple[float, float]], area: Box, obstacles: Sequence[Circle] = ()
) -> list[Box]:
    """Place a name beside every circle.

    Greedy, from the first circle to the last: the nearest free place, off all circles and obstacles if there is one,
    else over them, but never over another name. Where the whole area is full, the place beside the circle.

    Args:
        circles: What the names belong to.
        sizes: Width and height of each name in pixels.
        area: Where names may go.
        obstacles: What has no name, but had better stay visible.
    """
    placed: list[Box] = []
    visible = [*circles, *obstacles]
    for circle, size in zip(circles, sizes, strict=True):
        free = [
            box
            for box in _places(circle, size)
            if box.within(area) and not any(box.overlaps(other) for other in placed)
        ]
        clear = (box for box in free if not any(other.touches(box) for other in visible))
        placed.append(next(clear, free[0] if free else next(_places(circle, size))))
    return placed


def _places(circle: Circle, size: tuple[float, float]) -> Iterator[Box]:
    """Boxes around a circle: right, left, above, below and in between, then farther away."""
    width, height = size
    for ring in range(RINGS):
        distance = circle.radius + GAP + ring * RING_STEP
        for direction in sorted(range(DIRECTIONS), key=lambda d: (d % 4 != 0, d % 2 != 0, d)):
            angle = 2 * math.pi * direction / DIRECTIONS
            across, down = math.cos(angle), math.sin(angle)
            x, y = circle.x + distance * across, circle.y + distance * down
            yield Box(x - width * (1 - across) / 2, y - height * (1 - down) / 2, width, height)
