"""The camera of a generated scene, and drawing with it: a pinhole over a flat ground, no lens distortion.

World axes, in metres: X to the camera's right, Y up from the ground, Z away from the camera along the ground. The
camera stands at (0, elevation, 0) and is pitched down by ``pitch`` radians.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

__all__ = ["SHIFT", "Camera", "Floats", "Pixels", "fill", "smooth_noise", "span"]

Floats = NDArray[np.floating[Any]]
Pixels = NDArray[np.uint8]

SHIFT = 4  # fractional bits of the fixed-point coordinates given to OpenCV: 1/16 pixel
_NEAR = 0.25  # metres; nothing nearer than this is drawn
_LIMIT = 8000.0  # pixels; keeps far-outside corners inside OpenCV's fixed-point range


@dataclass(frozen=True)
class Camera:
    """Where the camera stands and how it looks; see the module for axes."""

    height: int
    width: int
    elevation: float
    pitch: float
    focal: float

    @cached_property
    def columns(self) -> Floats:
        """X of the ray through each pixel column, (width,) float32; rays have depth 1 along the optical axis."""
        return ((np.arange(self.width, dtype=np.float32) + 0.5 - self.width / 2) / self.focal).astype(np.float32)

    @cached_property
    def rows(self) -> tuple[Floats, Floats]:
        """Y and Z of the ray through each pixel row, two (height,) float32 arrays."""
        down = (np.arange(self.height, dtype=np.float32) + 0.5 - self.height / 2) / self.focal
        sine, cosine = np.sin(self.pitch), np.cos(self.pitch)
        return (-sine - down * cosine).astype(np.float32), (cosine - down * sine).astype(np.float32)

    @cached_property
    def _pose(self) -> tuple[Floats, Floats]:
        sine, cosine = np.sin(self.pitch), np.cos(self.pitch)
        axes = np.array([[1, 0, 0], [0, -cosine, -sine], [0, -sine, cosine]], dtype=np.float32)  # right, down, depth
        return axes.T, axes @ np.array([0, self.elevation, 0], dtype=np.float32)

    def to_camera(self, points: Floats) -> Floats:
        """World points (N, 3) in metres to camera axes: right, down, depth."""
        turned, origin = self._pose
        return np.asarray(points @ turned - origin, dtype=np.float32)

    def project(self, points: Floats) -> tuple[Floats, Floats]:
        """World points (N, 3) to pixel positions (N, 2) as x, y and depths (N,) in metres."""
        return self._pixels(seen := self.to_camera(points)), seen[:, 2]

    def polygon(self, corners: Floats) -> NDArray[np.int32] | None:
        """Pixel polygon of a flat world polygon (N, 3), cut at the near plane; None when all of it lies behind.

        Returns:
            (M, 2) int32 positions with ``SHIFT`` fractional bits. The cut is Sutherland and Hodgman's
            (Communications of the ACM, 1974).
        """
        seen = self.to_camera(corners)
        if (seen[:, 2] < _NEAR).any():
            kept: list[Floats] = []
            for here, there in zip(seen, np.roll(seen, -1, axis=0), strict=True):
                if here[2] >= _NEAR:
                    kept.append(here)
                if (here[2] >= _NEAR) != (there[2] >= _NEAR):
                    kept.append(here + (there - here) * (_NEAR - here[2]) / (there[2] - here[2]))
            if len(kept) < 3:
                return None
            seen = np.stack(kept)
        return fixed_point(self._pixels(seen))

    def _pixels(self, seen: Floats) -> Floats:
        depth = np.maximum(seen[:, 2:], 1e-3)
        # OpenCV counts positions from pixel centres, hence the half
        middle = np.array([self.width / 2 - 0.5, self.height / 2 - 0.5], dtype=np.float32)
        return np.asarray(seen[:, :2] * (self.focal / depth) + middle, dtype=np.float32)


def fixed_point(pixels: Floats) -> NDArray[np.int32]:
    """Pixel positions to OpenCV's fixed-point integers with ``SHIFT`` fractional bits."""
    rounded: NDArray[np.int32] = np.rint(np.clip(pixels, -_LIMIT, _LIMIT) * (1 << SHIFT)).astype(np.int32)
    return rounded


def span(polygon: NDArray[np.int32], height: int, width: int) -> tuple[slice, slice] | None:
    """Rows and columns of the picture that a fixed-point polygon can touch; None when it lies outside."""
    low = (polygon.min(axis=0) >> SHIFT) - 1
    high = (polygon.max(axis=0) >> SHIFT) + 3
    x0, y0, x1, y1 = max(int(low[0]), 0), max(int(low[1]), 0), min(int(high[0]), width), min(int(high[1]), height)
    return (slice(y0, y1), slice(x0, x1)) if x1 > x0 and y1 > y0 else None


def fill(
    target: Pixels, polygon: NDArray[np.int32], value: tuple[int, ...] | int, origin: tuple[int, int] = (0, 0)
) -> None:
    """Fill a convex fixed-point polygon, hard-edged; ``origin`` is the (y, x) on the picture of the target's corner."""
    corner = np.array([origin[1], origin[0]], dtype=np.int32) << SHIFT
    cv2.fillConvexPoly(target, polygon - corner, value, lineType=cv2.LINE_8, shift=SHIFT)


def smooth_noise(rng: np.random.Generator, height: int, width: int, cells: int) -> Floats:
    """Smooth random field (height, width) float32 with mean near 0 and deviation near 1, ``cells`` bumps across."""
    coarse = rng.standard_normal((max(2, cells * height // width + 1), cells + 1), dtype=np.float32)
    return np.asarray(cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC), dtype=np.float32)
