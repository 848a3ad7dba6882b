"""Blurring: people become smooth patches, sized by the person."""

from __future__ import annotations

import math
from typing import ClassVar, Literal

import cv2
import numpy as np
from pydantic import Field

from privseg.privacy.filters.base import BoolMask, Context, Image, Method, MethodParams, PrivacyClass
from privseg.privacy.filters.cells import FEWEST_PIXELS, NEUTRAL, Floats, sample, sums

__all__ = ["Blur", "BlurParams"]

# The response of a Gaussian of standard deviation s is exp(-2 (pi s f) ** 2) at f cycles a pixel, so a tenth at
# sqrt(ln 10 / 2) / (pi s); n cells across a length carry at most n / 2 cycles. So n = _GAUSSIAN * length / s.
_GAUSSIAN = math.sqrt(2 * math.log(10)) / math.pi
# The same for a triangle, which two box blurs of w pixels make: the response is sinc(w f) ** 2, and
# n = _TRIANGLE * length / w.
_TRIANGLE = 1.477
_LEAST_SIGMA = 2.0
_SMALL_SIDE = 32
_SAMPLES_A_PIXEL = 3
_DRAWN_OUT = 6.0


class BlurParams(MethodParams):
    """How strong, and along what."""

    kind: Literal["gaussian", "motion", "stack"] = Field("gaussian", description="gaussian, motion or stack")
    cells: float = Field(4.0, ge=1.0, le=6.0, description="effective cells left across the longer side of each person")
    angle: float = Field(0.0, ge=0.0, le=180.0, description="direction of a motion blur, degrees from the horizontal")


class Blur(Method):
    """Average every pixel with its surroundings, of this person only. A blur can be undone in part.

    What is left is counted by bandwidth: details count up to the frequency at which the blur leaves a tenth of their
    contrast, and as many cells across the person have that frequency as their highest. A Gaussian of standard deviation
    s leaves ``0.683 * length / s`` cells across a length, so by default s is 0.17 of the person's longer side. A stack
    blur (a triangle, as two box blurs make it) is as wide as leaves the same number. Motion is the Gaussian drawn out
    along one direction. Counted to half the power, as a filter's bandwidth usually is, it would be 2.6 times fewer:
    what lies between is faint but there, and showed heads and faces in close-ups. Fainter details still remain; an
    attacker who knows the kernel sharpens them, as Revelio does with a diffusion model (2025).

    Averages are over covered pixels (normalised convolution: Knutsson and Westin, 1993), so that neither the background
    nor the erased others run in. They are taken on a small copy.
    """

    name: ClassVar[str] = "blur"
    privacy_class: ClassVar[PrivacyClass] = "obfuscation"
    does_not_hide: ClassVar[str] = "colours of clothing, posture; a blur can be undone in part, even a strong one"
    params_type: ClassVar[type[MethodParams]] = BlurParams
    params: BlurParams

    def protect(self, image: Image, mask: BoolMask, context: Context) -> Image:
        """Cover the masked pixels; see :class:`~privseg.privacy.filters.base.Method`."""
        height, width = mask.shape
        longer = max(height, width)
        scale = min(_SMALL_SIDE / longer, 1.0)
        rows, columns = max(round(height * scale), 1), max(round(width * scale), 1)
        down, across = (min(few * _SAMPLES_A_PIXEL, all_) for few, all_ in ((rows, height), (columns, width)))
        few, covered = sample(image, mask, down, across)
        pixels = cv2.countNonZero(covered)
        if pixels < FEWEST_PIXELS:
            return np.full(image.shape, NEUTRAL, np.uint8)
        average = np.array(cv2.sumElems(few)[:3]) / pixels
        small = sums(few, covered, rows, columns) * (rows * columns / covered.size)
        sigma = max(_GAUSSIAN * longer / self.params.cells, _LEAST_SIGMA) * scale
        spread = self._convolved(small, sigma)
        # Where hardly any covered pixel is near, one would be seen nearly as it was: there the person's average joins
        # in, with the weight of three pixels in the middle of the kernel.
        least = (FEWEST_PIXELS - 1) * rows * columns / covered.size / (2 * math.pi * sigma * sigma)
        mean = (spread[:, :, :3] + least * average) / (spread[:, :, 3:] + least)
        smooth: Image = cv2.resize(np.rint(mean).astype(np.uint8), (width, height), interpolation=cv2.INTER_LINEAR)
        return smooth

    def cells_across(self) -> float:
        """See :class:`~privseg.privacy.filters.base.Method`."""
        return self.params.cells

    def _convolved(self, small: Floats, sigma: float) -> Floats:
        """Blurred as the parameters ask; beyond the picture there is nothing. ``sigma`` is in its pixels."""
        outside = cv2.BORDER_CONSTANT
        if self.params.kind == "stack":
            side = 2 * math.ceil(sigma * _TRIANGLE / _GAUSSIAN / 2) + 1
            once = cv2.blur(small, (side, side), borderType=outside)
            twice: Floats = cv2.blur(once, (side, side), borderType=outside)
            return twice
        spread: Floats = cv2.GaussianBlur(small, (0, 0), sigma, borderType=outside)
        if self.params.kind == "motion":
            spread = cv2.filter2D(spread, -1, _line(_DRAWN_OUT * sigma, self.params.angle), borderType=outside)
        return spread


def _line(length: float, angle: float) -> Floats:
    """A kernel that averages along a line of so many pixels; float32, square, its sum 1."""
    reach = max(math.ceil(length / 2), 1)
    kernel = np.zeros((2 * reach + 1, 2 * reach + 1), np.float32)
    along = np.array([math.cos(math.radians(angle)), -math.sin(math.radians(angle))]) * length / 2
    start, end = ((reach + sign * along) * 16 for sign in (-1, 1))
    cv2.line(kernel, [round(v) for v in start], [round(v) for v in end], [1.0], 1, cv2.LINE_AA, 4)
    line: Floats = kernel / max(kernel.sum(), 1e-6)
    return line
