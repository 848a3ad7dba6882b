"""Pictures, masks and methods that several tests of methods use."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

Image = npt.NDArray[np.uint8]
Mask = npt.NDArray[np.bool_]

IRREVERSIBLE: list[tuple[str, dict[str, Any]]] = [
    ("avatar", {}),
    ("edges", {}),
    ("labels", {}),
    ("token", {}),
    ("hash", {}),
    ("hash", {"of": "block", "epoch": 2}),
]
OBFUSCATING: list[tuple[str, dict[str, Any]]] = [
    ("noise", {}),
    ("cartoon", {}),
    ("warp", {}),
    ("morph", {}),
    ("morph", {"target": "tracked"}),
    ("false_colors", {}),
    ("false_colors", {"palette": "thermal"}),
]


def noise(height: int, width: int, seed: int = 0) -> Image:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)


def noise_picture(seed: int = 0) -> Image:
    return np.random.default_rng(seed).integers(0, 256, (240, 320, 3), np.uint8)


def rectangle(height: int, width: int, top: int, left: int, tall: int, wide: int) -> Mask:
    mask = np.zeros((height, width), np.bool_)
    mask[top : top + tall, left : left + wide] = True
    return mask


def walkers(step: int = 0, people: int = 2) -> Mask:
    """People with head, body and two legs, a little further to the right in every frame."""
    mask = np.zeros((240, 320), np.uint8)
    for person in range(people):
        left, top = 40 + 110 * person + 3 * step, 30 + 20 * person
        cv2.circle(mask, (left + 25, top + 15), 14, 1, cv2.FILLED)
        cv2.rectangle(mask, (left, top + 28), (left + 50, top + 100), 1, cv2.FILLED)
        cv2.rectangle(mask, (left, top + 100), (left + 18, top + 175), 1, cv2.FILLED)
        cv2.rectangle(mask, (left + 32, top + 100), (left + 50, top + 175), 1, cv2.FILLED)
    return mask.view(np.bool_)
