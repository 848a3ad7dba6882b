"""Attacks on covered pictures that need no training: what anyone with the protected picture alone can compute.

Every attack takes one person's window and mask, and returns a guess of what was covered. Whoever scores the guesses
knows the truth and takes the best one: the attacker is assumed to be lucky in the choice.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import cv2
import numpy as np
import numpy.typing as npt

__all__ = ["align", "fuse", "known_keystream", "restorations", "with_keystream"]

Image = npt.NDArray[np.uint8]
BoolMask = npt.NDArray[np.bool_]
Floats = npt.NDArray[np.float32]

_SIGMAS = (0.02, 0.05, 0.1)  # of blur kernels and cells, as shares of the person's height
_ITERATIONS = 8
_NOISE = 0.01  # noise to signal that the Wiener filter assumes
_GUESSED_FIELDS = ((0.04, 1.0), (0.04, 2.0), (0.08, 1.0))  # amplitude as a share of the height, waves along it


def restorations(picture: Image, mask: BoolMask) -> Iterator[tuple[str, Image]]:
    """Every naive inversion of one covered person.

    Args:
        picture: uint8 ``(h, w, 3)`` RGB, the person's window in the protected frame.
        mask: bool ``(h, w)``: which of the pixels are covered; outside it nothing is used or changed.

    Yields:
        The attack's name and its guess, uint8 ``(h, w, 3)``.
    """
    if not mask.any():
        return
    figure = _spread(picture, mask)
    height = int(np.ptp(np.flatnonzero(mask.any(axis=1)))) + 1
    guesses = _all(figure, mask, height)
    for name, guess in guesses:
        result = picture.copy()
        result[mask] = np.clip(np.rint(guess[mask]), 0, 255).astype(np.uint8)
        yield name, result


def _all(figure: Floats, mask: BoolMask, height: int) -> Iterator[tuple[str, Floats]]:
    for share in _SIGMAS:
        sigma = max(share * height, 0.5)
        yield f"smoothing {share:.0%}", _blurred(figure, mask, sigma)
        yield f"Wiener deconvolution {share:.0%}", _wiener(figure, sigma)
        yield f"Richardson-Lucy deconvolution {share:.0%}", _richardson_lucy(figure, sigma)
    size = 2 * max(round(0.02 * height), 1) + 1
    yield "median", cv2.medianBlur(figure.astype(np.uint8), size).astype(np.float32)
    yield "upsampled cells", _upsampled(figure, max(round(height / 6), 1))
    luminance = figure @ np.array([0.299, 0.587, 0.114], np.float32)
    hue = cv2.cvtColor(figure.astype(np.uint8), cv2.COLOR_RGB2HSV)[:, :, 0].astype(np.float32)
    yield "colour table by luminance", _ramp(luminance, mask)
    yield "colour table by inverted luminance", _ramp(-luminance, mask)
    yield "colour table by hue", _ramp(hue, mask)
    yield "sorted, dark below", _sorted(figure, luminance, mask, dark_below=True)
    yield "sorted, dark above", _sorted(figure, luminance, mask, dark_below=False)
    for amplitude, waves in _GUESSED_FIELDS:
        for sign in (1, -1):
            yield f"unwarped {sign * amplitude:+.0%} {waves:g}", _unwarped(figure, sign * amplitude * height, waves)


def _spread(picture: Image, mask: BoolMask) -> Floats:
    """The figure with its own colours spread beyond its edge, so that no filter sees an edge; float32."""
    values = picture.astype(np.float32)
    soft = _blurred(values, mask, max(0.05 * mask.shape[0], 1.0))
    return np.where(mask[:, :, np.newaxis], values, soft).astype(np.float32)


def _blurred(values: Floats, mask: BoolMask, sigma: float) -> Floats:
    """Gaussian mean of the covered pixels only (normalised convolution, Knutsson and Westin 1993)."""
    weight = mask.astype(np.float32)
    mass = cv2.GaussianBlur(weight, (0, 0), sigma)[:, :, np.newaxis]
    total = cv2.GaussianBlur(values * weight[:, :, np.newaxis], (0, 0), sigma)
    average = values[mask].mean(axis=0)
    blurred: Floats = np.where(mass > 1e-4, total / np.maximum(mass, 1e-4), average).astype(np.float32)
    return blurred


def _wiener(figure: Floats, sigma: float) -> Floats:
    """Deconvolution with a Gaussian kernel in the frequency domain (Wiener 1949)."""
    pad = min(math.ceil(2 * sigma), *(side - 1 for side in figure.shape[:2]))
    wide = cv2.copyMakeBorder(figure, pad, pad, pad, pad, cv2.BORDER_REFLECT_101) if pad > 0 else figure
    down, across = np.fft.fftfreq(wide.shape[0]), np.fft.rfftfreq(wide.shape[1])
    response = np.exp(-2 * (np.pi * sigma) ** 2 * (down[:, np.newaxis] ** 2 + across[np.newaxis] ** 2))
    inverse = (response / (response**2 + _NOISE))[:, :, np.newaxis] * (1 + _NOISE)
    restored = np.fft.irfft2(np.fft.rfft2(wide, axes=(0, 1)) * inverse, s=wide.shape[:2], axes=(0, 1))
    inner = restored[pad : pad + figure.shape[0], pad : pad + figure.shape[1]]
    return np.clip(inner, 0, 255).astype(np.float32)


def _richardson_lucy(figure: Floats, sigma: float) -> Floats:
    """Iterated deconvolution with a Gaussian kernel (Richardson 1972, Lucy 1974)."""
    observed = figure + 1
    estimate = observed.copy()
    for _ in range(_ITERATIONS):
        estimate *= cv2.GaussianBlur(observed / cv2.GaussianBlur(estimate, (0, 0), sigma), (0, 0), sigma)
    return np.clip(estimate - 1, 0, 255).astype(np.float32)


def _upsampled(figure: Floats, cell: int) -> Floats:
    """The cells' means, interpolated again as smoothly as they allow."""
    rows, columns = figure.shape[:2]
    small = cv2.resize(figure, (max(columns // cell, 1), max(rows // cell, 1)), interpolation=cv2.INTER_AREA)
    smooth: Floats = cv2.resize(small, (columns, rows), interpolation=cv2.INTER_CUBIC)
    return smooth


def _ramp(rank: Floats, mask: BoolMask) -> Floats:
    """Undo a table of colours of which only the order is known: the ranks become an even ramp of greys."""
    values = np.unique(rank[mask])
    grey = 40 + 160 * (np.searchsorted(values, rank) + 0.5) / len(values)
    return np.repeat(grey[:, :, np.newaxis], 3, axis=2).astype(np.float32)


def _sorted(figure: Floats, luminance: Floats, mask: BoolMask, *, dark_below: bool) -> Floats:
    """Undo a permutation of which nothing is known: pixels in order of brightness, from the top to the bottom."""
    order = np.argsort(luminance[mask], kind="stable")
    result = figure.copy()
    result[mask] = figure[mask][order[::-1] if dark_below else order]
    return result


def _unwarped(figure: Floats, amplitude: float, waves: float) -> Floats:
    """Undo a smooth displacement, guessed as waves."""
    rows, columns = figure.shape[:2]
    down, across = np.mgrid[:rows, :columns].astype(np.float32)
    shift = np.float32(amplitude) * np.sin(np.float32(2 * np.pi * waves / rows) * down)
    moved: Floats = cv2.remap(figure, across + shift, down, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    return moved


def fuse(frames: Sequence[Image]) -> Iterator[tuple[str, Image]]:
    """Average several protected frames of the same scene, to cancel what changes from frame to frame.

    Args:
        frames: uint8 ``(h, w, 3)`` RGB each, of one size (Erdélyi, Winkler and Rinner 2018 judge filters like this).

    Yields:
        ``mean`` and ``median`` with the picture, uint8 ``(h, w, 3)``.
    """
    stack = np.stack(frames)
    yield "mean", np.rint(stack.mean(axis=0)).astype(np.uint8)
    yield "median", np.rint(np.median(stack, axis=0)).astype(np.uint8)


def align(frames: Sequence[Image]) -> list[Image]:
    """Warp frames onto the last by the optical flow (DIS, Kroeger 2016) that the protected pictures themselves show."""
    last = cv2.cvtColor(frames[-1], cv2.COLOR_RGB2GRAY)
    flow = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_FAST)
    rows, columns = last.shape
    down, across = np.mgrid[:rows, :columns].astype(np.float32)
    aligned = []
    for frame in frames[:-1]:
        moved = flow.calc(last, cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY), None)
        aligned.append(cv2.remap(frame, across + moved[..., 0], down + moved[..., 1], cv2.INTER_LINEAR))
    return [*aligned, frames[-1]]


def known_keystream(protected: Image, plain: Image) -> Image:
    """What a stream cipher added, where an attacker knows the plain picture; uint8 ``(h, w, 3)``."""
    stream: Image = np.bitwise_xor(protected, plain)
    return stream


def with_keystream(protected: Image, keystream: Image, mask: BoolMask) -> Image:
    """Decrypt with a keystream that may be the wrong one; only masked pixels change."""
    guess = protected.copy()
    guess[mask] = np.bitwise_xor(protected, keystream)[mask]
    return guess
