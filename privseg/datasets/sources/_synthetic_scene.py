"""A generated scene put together: the place, its people's shadows, its people, and the camera that looks at them."""

from __future__ import annotations

from dataclasses import dataclass, replace

import cv2
import numpy as np
from numpy.typing import NDArray

from privseg.datasets.sources._synthetic_body import Body, Look, make_body
from privseg.datasets.sources._synthetic_cast import place_people
from privseg.datasets.sources._synthetic_effects import expose, random_lens
from privseg.datasets.sources._synthetic_people import body_shadow, paint_person
from privseg.datasets.sources._synthetic_world import World, build_world
from privseg.datasets.sources.base import Image, Mask

__all__ = ["SceneLayers", "compose", "render_layers", "render_scene"]


@dataclass(frozen=True)
class SceneLayers:
    """A scene before the camera's effects, layer by layer.

    Attributes:
        background: RGB uint8 (height, width, 3), the place without people.
        image: RGB uint8 (height, width, 3), the same place with people and their shadows.
        mask: uint8 (height, width), 1 where a person shows, else 0.
        shadow: bool (height, width), ground that people's shadows darken.
        heights: Each person's height on the picture in pixels, hidden and cut off parts included.
    """

    background: Image
    image: Image
    mask: Mask
    shadow: NDArray[np.bool_]
    heights: tuple[float, ...]


def render_layers(seed: int, *, height: int = 512, width: int = 512, backdrop: Image | None = None) -> SceneLayers:
    """Draw a scene without the camera's effects.

    Args:
        seed: Chooses the place and its people; the same seed gives the same layers.
        height: Picture height in pixels.
        width: Picture width in pixels.
        backdrop: RGB uint8 (height, width, 3) to show instead of the place; things still hide people where they stand.
    """
    world, people, _ = _scene(seed, height, width)
    return compose(world if backdrop is None else replace(world, image=backdrop), people)


def render_scene(seed: int, *, height: int = 512, width: int = 512) -> tuple[Image, Mask]:
    """Draw a scene as a surveillance camera would record it.

    Args:
        seed: Chooses the place, its people and its camera; the same seed gives the same pixels.
        height: Picture height in pixels.
        width: Picture width in pixels.

    Returns:
        RGB uint8 (height, width, 3) and mask uint8 (height, width) of 0 background and 1 human.
    """
    world, people, rng = _scene(seed, height, width)
    layers = compose(world, people)
    return expose(random_lens(rng, world), layers.image, rng), layers.mask


def _scene(seed: int, height: int, width: int) -> tuple[World, list[tuple[Look, Body]], np.random.Generator]:
    rng = np.random.default_rng([seed, 0])
    world = build_world(rng, height, width)
    people = [(look, make_body(look, stance)) for look, stance in place_people(rng, world)]
    return world, people, rng


def compose(world: World, people: list[tuple[Look, Body]]) -> SceneLayers:
    """Lay the people's shadows on the ground, then paint the people from far to near."""
    image = world.image.copy()
    mask = np.zeros(image.shape[:2], dtype=np.uint8)
    shadow = np.zeros(image.shape[:2], dtype=bool)
    cast = body_shadow(world.camera, world.sun, [body for _, body in people])
    if cast is not None:
        factor, part = cast
        shadow[part] = world.ground[part] & (factor < 1)
        darkened = cv2.multiply(image[part], cv2.merge([factor] * 3), dtype=cv2.CV_8U)
        np.copyto(image[part], darkened, where=shadow[part][..., None])
    heights = []
    for look, body in sorted(people, key=lambda person: -float(person[1].centres[:, 2].min())):
        paint_person(image, mask, world.surface, world.camera, world.sun, look, body)
        pixels, depths = world.camera.project(body.centres)
        heights.append(float(np.ptp(pixels[:, 1])) if depths.min() > 0.5 else 0.0)
    return SceneLayers(world.image, image, mask, shadow, tuple(heights))
