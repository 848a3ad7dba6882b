"""The people-free part of a generated scene while it is painted: picture, surfaces and shadows.

``surface`` says how far away along the ground (world Z, metres) the thing seen at a pixel stands; open ground and sky
are infinitely far, so a person at distance z shows exactly at the pixels whose surface lies beyond z.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import cv2
import numpy as np

from privseg.datasets.sources._synthetic_camera import Camera, Floats, Pixels, fill, span
from privseg.datasets.sources._synthetic_textures import FACADE_SCALE, TILE_SCALE, Facade

__all__ = ["Box", "Stage", "Sun"]

Colour = tuple[int, int, int]


@dataclass(frozen=True)
class Sun:
    """Direction to the light as a unit vector, and how dark its shadows are, 0 none to 1 black."""

    x: float
    y: float
    z: float
    shade: float

    def cast(self, points: Floats) -> Floats:
        """Where the shadows of world points (N, 3) fall on the ground."""
        dropped = points - points[:, 1:2] / self.y * np.array([[self.x, self.y, self.z]], dtype=np.float32)
        dropped[:, 1] = 0
        return dropped.astype(np.float32)


@dataclass(frozen=True)
class Box:
    """A block on or above the ground: centre, size across, size along, turn about the vertical, bottom, top."""

    x: float
    z: float
    across: float
    along: float
    turn: float
    bottom: float
    top: float
    colour: Colour

    def corners(self) -> Floats:
        """(8, 3): four around the bottom, then the same four around the top."""
        half = np.array([[-1, -1], [1, -1], [1, 1], [-1, 1]]) * (self.across / 2, self.along / 2)
        cosine, sine = np.cos(self.turn), np.sin(self.turn)
        x = self.x + half[:, 0] * cosine - half[:, 1] * sine
        z = self.z + half[:, 0] * sine + half[:, 1] * cosine
        low, high = np.full(4, self.bottom), np.full(4, self.top)
        return np.concatenate([np.stack([x, low, z], 1), np.stack([x, high, z], 1)]).astype(np.float32)


@dataclass
class Stage:
    """What is painted so far; objects must come from far to near.

    Attributes:
        image: (height, width, 3) uint8 RGB.
        surface: (height, width) float32 metres, infinite where nothing stands.
        ground: (height, width) bool, the pixels that show open ground.
    """

    camera: Camera
    sun: Sun
    image: Pixels = field(init=False)
    surface: Floats = field(init=False)
    _reach: Floats = field(init=False)  # by row: ray length to the ground, infinite at and above the horizon

    def __post_init__(self) -> None:
        shape = self.camera.height, self.camera.width
        self.image = np.zeros((*shape, 3), dtype=np.uint8)
        self.surface = np.full(shape, np.inf, dtype=np.float32)
        down = self.camera.rows[0]
        self._reach = np.where(down < -1e-3, self.camera.elevation / np.maximum(-down, 1e-3), np.inf).astype(np.float32)
        self.ground = np.repeat((self._reach < 400)[:, None], shape[1], axis=1)

    def sky(self, top: Colour, bottom: Colour) -> None:
        """Paint everything above the horizon, from one colour at the picture's top to another at the horizon."""
        rows = int((~self.ground[:, 0]).sum())
        if rows:
            blend = np.linspace(0, 1, rows)[:, None, None]
            self.image[:rows] = np.array(top) * (1 - blend) + np.array(bottom) * blend

    def pave(self, tile: Pixels, turn: float, *, band: tuple[float, float] | None = None, along: bool = False) -> None:
        """Cover the ground with a repeating tile, or the band of it between two offsets.

        Args:
            tile: (n, n, 3) uint8 RGB.
            turn: Radians by which the tile's axes are turned against the world's.
            band: Metres from the origin across the turned axes; everything when omitted.
            along: Whether the band runs into the depth instead of across the view.
        """
        first = int((~self.ground[:, 0]).sum())
        size, unit = tile.shape[0], TILE_SCALE / tile.shape[0]
        reach = self._reach[first:]
        ahead = reach * self.camera.rows[1][first:]
        cosine, sine = np.cos(turn) * unit, np.sin(turn) * unit
        a = np.multiply.outer((reach * cosine).astype(np.float32), self.camera.columns)
        a += (ahead * sine).astype(np.float32)[:, None]
        b = np.multiply.outer((-reach * sine).astype(np.float32), self.camera.columns)
        b += (ahead * cosine).astype(np.float32)[:, None]
        inside = None
        if band is not None:
            across = a if along else b
            inside = (across > band[0] * unit) & (across < band[1] * unit)
        for side in (a, b):
            side -= np.floor(side)
            side *= size
        # far away a pixel covers many texture pixels: fade to the mean colour instead of sparkling
        keep = np.clip(2.2 * self.camera.focal / (reach * TILE_SCALE), 0.12, 1.0)
        levels = np.rint(keep * 12).astype(int)
        mean = np.full_like(tile, tile.reshape(-1, 3).mean(axis=0))
        for level in np.unique(levels):
            rows = np.flatnonzero(levels == level)
            part = slice(int(rows[0]), int(rows[-1]) + 1)
            faded = cv2.addWeighted(tile, level / 12, mean, 1 - level / 12, 0)
            seen = cv2.remap(faded, a[part], b[part], cv2.INTER_LINEAR, borderMode=cv2.BORDER_WRAP)
            where = True if inside is None else inside[part, :, None]
            np.copyto(self.image[first:][part], seen, where=where)

    def mark(self, corners: Floats, colour: Colour) -> None:
        """Paint a flat convex polygon (N, 3) on the ground: a road marking, a kerb, a rug."""
        if (polygon := self.camera.polygon(corners)) is not None:
            fill(self.image, polygon, colour)

    def wall(self, front: Facade, normal: float, offset: float, light: float) -> None:
        """Stand a wall across the view.

        Args:
            front: Its picture and height.
            normal: Direction of the wall's normal, radians from straight ahead.
            offset: Metres from the camera's foot to the wall along the normal.
            light: Brightness factor of this wall.
        """
        down, ahead = self.camera.rows
        sine, cosine = np.float32(np.sin(normal)), np.float32(np.cos(normal))
        columns = self.camera.columns
        # a row shows the wall only if its nearest point there lies before the ground and below the top
        nearest = offset / np.maximum(ahead * cosine + float(np.max(columns * sine)), 1e-3)
        rows = np.flatnonzero((nearest < self._reach) & (self.camera.elevation + nearest * down < front.tops.max()))
        if not rows.size:
            return
        part = slice(int(rows[0]), int(rows[-1]) + 1)
        down, ahead = down[part, None], ahead[part, None]
        toward = columns * sine + ahead * cosine
        length = np.float32(offset) / np.maximum(toward, np.float32(1e-3))
        hit = (length < self._reach[part, None]) & (length < 300)
        up = self.camera.elevation + length * down
        sideways = length * (columns * cosine - ahead * sine)
        height, width = front.picture.shape[:2]
        column = sideways * np.float32(FACADE_SCALE / (width - 1)) + np.float32(0.5)
        column -= np.floor(column)
        column *= np.float32(width - 2)
        row = np.float32(height - 1) - up * np.float32(FACADE_SCALE)
        away = length * ahead
        hit &= (up < front.tops[column.astype(np.int32)]) & (away < self.surface[part])
        seen = cv2.remap(front.picture, column, row, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
        np.copyto(self.image[part], cv2.convertScaleAbs(seen, alpha=light), where=hit[..., None])
        np.copyto(self.surface[part], away, where=hit)
        self.ground[part] &= ~hit

    def face(self, corners: Floats, normal: Floats, colour: Colour) -> None:
        """Paint one flat side (N, 3) of an object, corners in order, with its normal (3,) of any length."""
        polygon = self.camera.polygon(corners)
        if polygon is None or (part := span(polygon, self.camera.height, self.camera.width)) is None:
            return
        rows, columns = part
        stencil = np.zeros((rows.stop - rows.start, columns.stop - columns.start), dtype=np.uint8)
        fill(stencil, polygon, 1, (rows.start, columns.start))
        inside = stencil.view(bool)
        near, far = float(corners[:, 2].min()), float(corners[:, 2].max())
        self.image[part][inside] = colour
        self.ground[part][inside] = False
        if far - near < 0.1:
            self.surface[part][inside] = near
            return
        down, ahead = self.camera.rows
        reach = float(normal @ (corners[0] - np.array([0, self.camera.elevation, 0])))
        facing = normal[0] * self.camera.columns[None, columns] + (normal[1] * down + normal[2] * ahead)[rows, None]
        facing[facing == 0] = 1e-9
        distance = (reach * ahead[rows, None] / facing).astype(np.float32)
        # the outline is a pixel wider than the side, where its plane runs away
        np.copyto(self.surface[part], np.minimum(np.maximum(distance, near), far), where=inside)

    def blob(self, middle: Floats, radius: float, colour: Colour) -> None:
        """Paint a ball: leaves, a lamp, a globe."""
        pixel, depth = self.camera.project(np.asarray(middle, dtype=np.float32)[None])
        size = max(1, int(radius * self.camera.focal / max(float(depth[0]), 0.3)))
        if depth[0] < 0.3 or size > self.camera.width:
            return
        x, y = int(pixel[0, 0]), int(pixel[0, 1])
        y0, x0 = max(0, y - size), max(0, x - size)
        part = slice(y0, max(0, y + size + 1)), slice(x0, max(0, x + size + 1))
        stencil = np.zeros(self.surface[part].shape, dtype=np.uint8)
        if stencil.size:
            cv2.circle(stencil, (x - x0, y - y0), size, 1, -1)
            inside = stencil.view(bool)
            self.image[part][inside] = colour
            self.surface[part][inside] = middle[2]
            self.ground[part][inside] = False

    def boxes(self, boxes: list[Box]) -> None:
        """Paint an object made of blocks, its far blocks first, each side lit by the sun."""
        sun = np.array([self.sun.x, self.sun.y, self.sun.z])
        eye = np.array([0, self.camera.elevation, 0])
        for box in sorted(boxes, key=lambda box: (-(box.x**2 + box.z**2) // 0.02, box.top)):
            corners = box.corners()
            cosine, sine = np.cos(box.turn), np.sin(box.turn)
            sides = (
                ([0, 1, 5, 4], (sine, 0, -cosine)),
                ([1, 2, 6, 5], (cosine, 0, sine)),
                ([2, 3, 7, 6], (-sine, 0, cosine)),
                ([3, 0, 4, 7], (-cosine, 0, -sine)),
                ([4, 5, 6, 7], (0, 1, 0)),
            )
            for order, outward in sides:
                normal = np.array(outward)
                if normal @ (corners[order[0]] - eye) < 0:
                    lit = 0.62 + 0.45 * max(0.0, float(normal @ sun))
                    red, green, blue = (min(255, int(part * lit)) for part in box.colour)
                    self.face(corners[order], normal, (red, green, blue))

    def shadows(self, groups: list[Floats], width: float = 2.2) -> Floats:
        """How bright shadows leave the ground: the hull of each group of world points (N, 3), cast by the sun.

        Returns:
            (height, width) float32, 1 where no shadow falls.
        """
        dark = np.zeros(self.surface.shape, dtype=np.uint8)
        for points in groups:
            hull = self.camera.polygon(_hull(self.sun.cast(points)))
            if hull is not None:
                fill(dark, hull, 255)
        return soften(dark, self.sun.shade, width)


def soften(dark: Pixels, shade: float, width: float) -> Floats:
    """Blur a shadow stencil of 0 and 255 by ``width`` pixels and turn it into a brightness factor."""
    blurred = cv2.GaussianBlur(dark, (0, 0), width)
    return np.asarray(1 - blurred * np.float32(shade / 255), dtype=np.float32)


def _hull(points: Floats) -> Floats:
    """Hull, on the ground, of ground points (N, 3)."""
    flat = np.ascontiguousarray(points[:, [0, 2]])
    order = cv2.convexHull(flat, returnPoints=False).ravel()
    return np.asarray(points[order], dtype=np.float32)
