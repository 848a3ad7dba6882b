"""How alike two pictures are where people were."""

from __future__ import annotations

import math

import cv2
import numpy as np
import numpy.typing as npt

__all__ = ["IDENTICAL_DB", "BoolMask", "Image", "psnr", "ssim"]

Image = npt.NDArray[np.uint8]
BoolMask = npt.NDArray[np.bool_]
#: what identical pixels are given in place of infinity, so that means exist
IDENTICAL_DB = 99.0


def psnr(found: Image, truth: Image, mask: BoolMask) -> float:
    """Peak signal to noise ratio in dB over the masked pixels of two uint8 ``(H, W, 3)`` pictures; 99 if equal."""
    error = (found[mask].astype(np.float32) - truth[mask].astype(np.float32)) ** 2
    if not error.size or not error.any():
        return IDENTICAL_DB
    return 10 * math.log10(255**2 / float(error.mean(dtype=np.float64)))


def ssim(found: Image, truth: Image, mask: BoolMask) -> float:
    """Mean structural similarity (Wang 2004; Gaussian window, sigma 1.5) of luminance over the masked pixels.

    Args:
        found: uint8 ``(H, W, 3)`` RGB.
        truth: The same.
        mask: bool ``(H, W)``.

    Returns:
        -1 to 1; 1 for an empty mask.
    """
    if not mask.any():
        return 1.0
    a, b = (cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY).astype(np.float32) for picture in (found, truth))

    def smooth(values: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        blurred: npt.NDArray[np.float32] = cv2.GaussianBlur(values, (11, 11), 1.5)
        return blurred

    mean_a, mean_b = smooth(a), smooth(b)
    var_a, var_b = smooth(a * a) - mean_a**2, smooth(b * b) - mean_b**2
    both = smooth(a * b) - mean_a * mean_b
    first, second = (0.01 * 255) ** 2, (0.03 * 255) ** 2
    likeness = (2 * mean_a * mean_b + first) * (2 * both + second)
    likeness /= (mean_a**2 + mean_b**2 + first) * (var_a + var_b + second)
    return float(likeness[mask].mean())
