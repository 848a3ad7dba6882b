"""Painting people into a generated scene, with their shadows and exact masks.

People are painted hard-edged (no anti-aliasing): a pixel either shows a person's paint, clothes and carried bags
included, and is 1 in the mask, or it shows none of it and is 0. Softness comes later, from the camera, to the picture
alone.
"""

from __future__ import annotations

import cv2
import numpy as np

from privseg.datasets.sources._synthetic_body import MATERIALS, Body, Look
from privseg.datasets.sources._synthetic_camera import Camera, Floats, Pixels, fill, fixed_point, smooth_noise, span
from privseg.datasets.sources._synthetic_stage import Sun, soften

__all__ = ["body_shadow", "paint_person"]

_ANGLES = np.linspace(0, 2 * np.pi, 12, endpoint=False)
_CIRCLE = np.stack([np.cos(_ANGLES), np.sin(_ANGLES)], axis=1).astype(np.float32)
_PATTERNED = (MATERIALS.index("top"), MATERIALS.index("sleeve"))


def paint_person(
    image: Pixels,
    mask: Pixels,
    surface: Floats,
    camera: Camera,
    sun: Sun,
    look: Look,
    body: Body,
    brightness: float = 1.0,
) -> None:
    """Paint one person into ``image`` and ``mask``, behind everything that stands nearer.

    Args:
        image: (height, width, 3) uint8 RGB, changed in place.
        mask: (height, width) uint8, set to 1 where the person shows.
        surface: (height, width) float32 metres to what stands there.
        camera: The camera.
        sun: The light.
        look: The person's looks.
        body: The person's body in the world.
        brightness: Factor on all colours.
    """
    pixels, depths = camera.project(body.centres)
    if depths.min() < 0.5:
        return
    scale = camera.focal / depths
    # filling a polygon hard-edged also covers its outline, half a pixel more on each side
    radii = np.maximum(body.radii * scale - 0.4, 0.05)
    rims = pixels[:, None] + radii[:, None, None] * _CIRCLE
    outline = fixed_point(rims.reshape(-1, 2))
    part = span(outline, camera.height, camera.width)
    if part is None:
        return
    rows, columns = part
    origin = rows.start, columns.start
    shape = rows.stop - rows.start, columns.stop - columns.start
    patch, material = np.zeros((*shape, 3), dtype=np.uint8), np.zeros(shape, dtype=np.uint8)
    size = float(np.median(scale)) * look.tall
    light = _light(camera, sun)
    tones = ((1.0, 0.0, 1.0),) if size < 26 else ((1.0, 0.0, 0.72), (0.86, 0.16, 1.0), (0.5, 0.4, 1.14))
    nearness = [float(depths[list(balls)].mean()) - nearer * look.tall for _, balls, nearer in body.parts]
    for index in np.argsort(nearness)[::-1]:
        name, balls, _ = body.parts[index]
        chosen = list(balls)
        for shrink, shift, tone in tones:
            middle = pixels[chosen] + (light * shift * radii[chosen, None])
            ring = middle[:, None] + (shrink * radii[chosen])[:, None, None] * _CIRCLE
            hull = cv2.convexHull(fixed_point(ring.reshape(-1, 2)))[:, 0]
            red, green, blue = (min(255, int(part * tone * brightness)) for part in look.colours[name])
            fill(patch, hull, (red, green, blue), origin)
            if shift == 0:
                fill(material, hull, MATERIALS.index(name) + 1, origin)
    if size > 60:
        _face(patch, camera, look, body, pixels, origin)
    _dress(patch, material, look, pixels, size, origin)
    shown = (material > 0) & (surface[part] > float(body.centres[:, 2].min()))
    np.copyto(image[part], patch, where=shown[..., None])
    mask[part][shown] = 1


def body_shadow(
    camera: Camera, sun: Sun, bodies: list[Body], width: float = 1.4
) -> tuple[Floats, tuple[slice, slice]] | None:
    """How the shadows of people darken the ground.

    Returns:
        Brightness factor, float32, for the returned rows and columns of the picture; None when no shadow is in view.
    """
    hulls = []
    for body in bodies:
        fallen = sun.cast(body.centres)
        pixels, depths = camera.project(fallen)
        if depths.min() < 0.5:
            continue
        # a ball's shadow is an ellipse; seen at a slant it is flat
        radii = (body.radii * camera.focal / depths)[:, None] * np.array([1.0, 0.55], dtype=np.float32)
        rims = pixels[:, None] + radii[:, None] * _CIRCLE[::2]
        hulls += [cv2.convexHull(fixed_point(rims[list(balls)].reshape(-1, 2)))[:, 0] for _, balls, _ in body.parts]
    if not hulls or (part := span(np.concatenate(hulls), camera.height, camera.width)) is None:
        return None
    pad = int(4 * width) + 1
    rows, columns = part
    rows = slice(max(0, rows.start - pad), min(camera.height, rows.stop + pad))
    columns = slice(max(0, columns.start - pad), min(camera.width, columns.stop + pad))
    dark = np.zeros((rows.stop - rows.start, columns.stop - columns.start), dtype=np.uint8)
    for hull in hulls:
        fill(dark, hull, 255, (rows.start, columns.start))
    return soften(dark, sun.shade, width), (rows, columns)


def _light(camera: Camera, sun: Sun) -> Floats:
    """Direction on the picture from which the light comes, at most 1 long."""
    seen = camera.to_camera(np.array([[sun.x, sun.y + camera.elevation, sun.z]], dtype=np.float32))[0, :2]
    return np.asarray(seen / max(1.0, float(np.linalg.norm(seen))) * 0.8, dtype=np.float32)


def _face(patch: Pixels, camera: Camera, look: Look, body: Body, pixels: Floats, origin: tuple[int, int]) -> None:
    """Eyes and mouth, when the face looks towards the camera."""
    skull = next(balls[0] for name, balls, _ in reversed(body.parts) if name == "skin")
    middle = body.centres[skull]
    to_camera = np.array([0, camera.elevation, 0]) - middle
    if body.forward @ to_camera / np.linalg.norm(to_camera) < 0.35:
        return
    side = np.cross(body.up, body.forward)
    spots = np.array([[0.02, 0.008], [-0.02, 0.008], [0.012, -0.036], [-0.012, -0.036]]) * look.tall
    places = middle + 0.047 * look.tall * body.forward + spots[:, :1] * side + spots[:, 1:] * body.up
    at = camera.project(places.astype(np.float32))[0] - (origin[1], origin[0])
    eyes = [(int(x), int(y)) for x, y in at]
    size = max(1, int(np.linalg.norm(at[0] - at[1]) * 0.16))
    for eye in eyes[:2]:
        cv2.circle(patch, eye, size, (38, 28, 26), -1)
    red, green, blue = (int(part * 0.62) for part in look.colours["skin"])
    cv2.line(patch, eyes[2], eyes[3], (red, green // 2 + 20, blue // 2 + 20), size)


def _dress(patch: Pixels, material: Pixels, look: Look, pixels: Floats, size: float, origin: tuple[int, int]) -> None:
    """Lay patterns on the top and creases over everything, in place."""
    height, width = material.shape
    creases = smooth_noise(np.random.default_rng(look.seed), 40, 24, 8)
    factor = 1 + 0.07 * cv2.resize(creases, (width, height), interpolation=cv2.INTER_LINEAR)
    if look.pattern != "plain" and size > 20:
        # the pattern hangs on the body, so that it walks along with it
        down = (np.arange(height) + origin[0] - float(pixels[:, 1].min())) / size
        across = (np.arange(width) + origin[1] - float(pixels[:, 0].mean())) / size
        pitch = 0.035 + 0.03 * (look.seed % 7) / 7
        rows, columns = ((np.mod(side / pitch, 1) < 0.5).astype(np.float32) for side in (down, across))
        if look.pattern == "rows":
            weave = np.repeat(rows[:, None], width, axis=1)
        elif look.pattern == "columns":
            weave = np.repeat(columns[None], height, axis=0)
        elif look.pattern == "checks":
            weave = (rows[:, None] + columns[None]) / 2
        else:
            weave = ((np.abs(down - 0.27) < 0.05)[:, None] & (np.abs(across) < 0.055)[None]).astype(np.float32)
        strength = -0.5 if sum(look.colours["top"]) > 330 else 0.9
        clothed = material == _PATTERNED[0] + 1
        if look.colours["sleeve"] == look.colours["top"] and look.pattern != "print":
            clothed |= material == _PATTERNED[1] + 1
        if strength > 0:  # brighten dark cloth by adding, since a factor on black shows nothing
            lifted = cv2.add(patch, cv2.merge([70 * weave * clothed] * 3), dtype=cv2.CV_8U)
            np.copyto(patch, lifted)
        else:
            factor = factor * (1 + strength * weave * clothed)
    np.copyto(patch, cv2.multiply(patch, cv2.merge([factor.astype(np.float32)] * 3), dtype=cv2.CV_8U))
