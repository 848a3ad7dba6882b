"""Background plate: people give way to the scene behind them, as the camera saw it without them."""

from __future__ import annotations

from typing import ClassVar

import cv2
import numpy as np
import numpy.typing as npt
from pydantic import Field

from privseg.privacy.filters.base import (
    BoolMask,
    Color,
    Context,
    Image,
    Method,
    MethodParams,
    PrivacyClass,
    Scene,
    rgb,
)
from privseg.privacy.keys import Secrets

__all__ = ["Plate", "PlateParams"]

Floats = npt.NDArray[np.float32]

_SAMPLES = 5
_SMALL_SIDE = 240


class PlateParams(MethodParams):
    """What is shown before anything is known of the scene."""

    color: Color = Field("#808080", description="fill colour while nothing is known of the background, #rrggbb")


class Plate(Method):
    """Show the background instead: the median of the last five looks at each pixel while nobody covered it.

    Each frame teaches one horizontal strip, so a pixel is looked at about every 16 frames. Only uncovered pixels teach.
    Somebody whom the model misses can therefore come into the plate, but only who is missed at the same place in three
    of five looks, some 32 frames from first to third; and three looks without them drop them again. What nobody ever
    saw uncovered is filled smoothly from what is known around it. Five frames and the plate itself are kept in memory,
    37 MB at 1920x1080; another camera or size starts anew.
    """

    name: ClassVar[str] = "plate"
    privacy_class: ClassVar[PrivacyClass] = "irreversible"
    strips: ClassVar[int] = 16
    does_not_hide: ClassVar[str] = (
        "shadows and reflections, the moving seam around a person; who is missed for seconds can stay in the background"
    )
    params_type: ClassVar[type[MethodParams]] = PlateParams
    params: PlateParams

    def __init__(self, params: MethodParams | None = None, secrets: Secrets | None = None) -> None:
        super().__init__(params, secrets)
        self._place: tuple[str, int, int] | None = None

    def begin(self, scene: Scene) -> None:
        """See :class:`~privseg.privacy.filters.base.Method`."""
        place = (scene.camera, scene.height, scene.width)
        if place == self._place:
            return
        self._place = place
        shape = (scene.height, scene.width)
        self._samples: Image = np.zeros((_SAMPLES, *shape, 3), np.uint8)
        self._known: BoolMask = np.zeros(shape, np.bool_)
        self._plate: Image = np.full((*shape, 3), rgb(self.params.color), np.uint8)
        self._looks: dict[int, int] = {}
        self._taught = 0
        self._filled: Image | None = None

    def observe(self, strip: Image, mask: BoolMask, top: int) -> None:
        """See :class:`~privseg.privacy.filters.base.Method`."""
        rows = slice(top, top + len(strip))
        samples, known = self._samples[:, rows], self._known[rows]
        new = ~(mask | known)
        if new.any():
            for sample in samples:
                cv2.copyTo(strip, new.view(np.uint8), sample)
            known |= new
            self._filled = None
        look = self._looks[top] = self._looks.get(top, -1) + 1
        cv2.copyTo(strip, np.logical_not(mask).view(np.uint8), samples[look % _SAMPLES])
        cv2.copyTo(_median_of_five(samples), known.view(np.uint8), self._plate[rows])
        self._taught += 1
        if self._taught % self.strips == 0:
            self._filled = None

    def protect(self, image: Image, mask: BoolMask, context: Context) -> Image:
        """Cover the masked pixels; see :class:`~privseg.privacy.filters.base.Method`."""
        person = context.person
        box = np.s_[person.top : person.top + person.height, person.left : person.left + person.width]
        background = self._plate[box].copy()
        unknown = mask > self._known[box]
        if unknown.any():
            cv2.copyTo(self._guess(person.top, person.left, *mask.shape), unknown.view(np.uint8), background)
        return background

    def _guess(self, top: int, left: int, height: int, width: int) -> Image:
        """What may be behind a box, from what is known around it; uint8 ``(height, width, 3)``."""
        if self._filled is None:
            self._filled = _fill_unknown(self._plate, self._known, rgb(self.params.color))
        down, across = (small / full for small, full in zip(self._filled.shape, self._known.shape, strict=False))
        window = np.array(
            [[across, 0, (left + 0.5) * across - 0.5], [0, down, (top + 0.5) * down - 0.5]], dtype=np.float64
        )
        guess: Image = cv2.warpAffine(
            self._filled,
            window,
            (width, height),
            flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP,
            borderMode=cv2.BORDER_REPLICATE,
        )
        return guess


def _median_of_five(samples: Image) -> Image:
    """Of each value of uint8 ``(5, h, W, 3)``; smaller and larger ones of pairs cost less than sorting."""
    a, b, c, d, e = samples
    low = cv2.max(cv2.min(a, b), cv2.min(c, d))
    high = cv2.min(cv2.max(a, b), cv2.max(c, d))
    median: Image = cv2.max(cv2.min(low, high), cv2.min(e, cv2.max(low, high)))
    return median


def _fill_unknown(plate: Image, known: BoolMask, color: tuple[int, int, int]) -> Image:
    """A small copy of the plate without gaps, its longer side at most 240 pixels."""
    scale = min(_SMALL_SIDE / max(known.shape), 1.0)
    size = tuple(max(round(side * scale), 1) for side in reversed(known.shape))
    weight = cv2.resize(known.view(np.uint8), size, interpolation=cv2.INTER_NEAREST)
    small = cv2.resize(plate, size, interpolation=cv2.INTER_NEAREST)
    small = cv2.bitwise_and(small, small, mask=weight)
    filled = _pull_push(np.dstack([small, weight]).astype(np.float32), color)
    whole: Image = np.rint(filled[:, :, :3]).astype(np.uint8)
    return whole


def _pull_push(level: Floats, color: tuple[int, int, int]) -> Floats:
    """Fill gaps from ever coarser copies (Gortler et al., The Lumigraph, 1996).

    Args:
        level: float32 ``(h, w, 4)``: red, green, blue, and 1 where they are known; all 0 elsewhere.
        color: Where nothing is known at all.
    """
    height, width = level.shape[:2]
    if height == width == 1:
        return level if level[0, 0, 3] else np.array([[[*color, 1]]], np.float32)
    half = cv2.resize(level, ((width + 1) // 2, (height + 1) // 2), interpolation=cv2.INTER_AREA)
    half /= np.where(half[:, :, 3:] > 0, half[:, :, 3:], 1)
    around = cv2.resize(_pull_push(half, color), (width, height), interpolation=cv2.INTER_LINEAR)
    filled: Floats = level + (1 - level[:, :, 3:]) * around
    return filled
