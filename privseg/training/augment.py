"""Augmentation that makes a training picture look like a surveillance camera's.

People in a camera's picture are small, often badly lit, and the picture is compressed, blurred, sometimes grey. All
randomness comes from numpy's global generator, which mmengine and the trainer seed.
"""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from privseg.training._mm import TRANSFORMS, BaseTransform
from privseg.training.candidates import CLASSES

__all__ = ["CameraLook", "PersonCrop"]

HUMAN = CLASSES.index("human")
Image = NDArray[np.uint8]


@TRANSFORMS.register_module()
class PersonCrop(BaseTransform):
    """Cut a square out of the picture at a random scale, more often than chance around a person.

    A camera's picture is mostly background: crops placed blindly would seldom show a person, and training time is
    short. The rest of the crops stays blind, so that background is learnt as well. The window is cut first and scaled
    then, which costs a fraction of scaling the whole picture. Scales are drawn log-uniformly: halving a person is as
    likely as doubling one.

    Args:
        size: Height and width of the result in pixels; less where the scaled picture is smaller (padded later).
        person_share: Share of the crops that must contain a randomly chosen human pixel, if there is one.
        min_scale: Smallest factor by which a picture is scaled.
        max_scale: Largest.
    """

    def __init__(self, size: int, person_share: float, min_scale: float = 1.0, max_scale: float = 1.0) -> None:
        self.size = size
        self.person_share = person_share
        self.log_scales = np.log(min_scale), np.log(max_scale)

    def transform(self, results: dict[str, Any]) -> dict[str, Any]:
        """Crop and scale ``img`` uint8 ``[H, W, 3]`` and ``gt_seg_map`` uint8 ``[H, W]`` alike."""
        image, labels = results["img"], results["gt_seg_map"]
        scale = float(np.exp(np.random.uniform(*self.log_scales)))  # noqa: NPY002 - see the head of this file
        window = max(1, round(self.size / scale))
        low, high = np.zeros(2, int), np.maximum(np.array(labels.shape) - window, 0)
        if np.random.random() < self.person_share:  # noqa: NPY002
            people = np.flatnonzero(labels == HUMAN)
            if people.size:
                pixel = np.array(np.unravel_index(np.random.choice(people), labels.shape))  # noqa: NPY002
                low, high = np.maximum(pixel - window + 1, low), np.minimum(pixel, high)
        top, left = np.random.randint(low, high + 1)  # noqa: NPY002
        cut = np.s_[top : top + window, left : left + window]
        image, labels = image[cut], labels[cut]
        size = tuple(min(self.size, max(1, round(side * scale))) for side in labels.shape[::-1])
        if size != labels.shape[::-1]:
            image = cv2.resize(image, size, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR)
            labels = cv2.resize(labels, size, interpolation=cv2.INTER_NEAREST_EXACT)
        results["img"], results["gt_seg_map"] = np.ascontiguousarray(image), np.ascontiguousarray(labels)
        results["img_shape"] = labels.shape
        return results


@TRANSFORMS.register_module()
class CameraLook(BaseTransform):
    """Give a picture the faults of cheap, dark or far-away cameras; every share is a probability of its own.

    Args:
        photometric: Contrast and brightness, saturation, colour cast.
        night: Little light: gamma, dimming and the sensor's noise.
        blur: Defocus (Gaussian) or motion (a line), a few pixels.
        low_resolution: Scaled down to a half or a quarter and up again.
        compression: JPEG at quality 15 to 70.
        grey: Grey-scale, as an infra-red camera's.
    """

    def __init__(
        self,
        photometric: float = 0.0,
        night: float = 0.0,
        blur: float = 0.0,
        low_resolution: float = 0.0,
        compression: float = 0.0,
        grey: float = 0.0,
    ) -> None:
        # in the order in which light becomes a stream: scene, sensor, lens, scaler, encoder
        self.steps = (
            (_photometric, photometric),
            (_grey, grey),
            (_blur, blur),
            (_night, night),
            (_low_resolution, low_resolution),
            (_compression, compression),
        )

    def transform(self, results: dict[str, Any]) -> dict[str, Any]:
        """Change ``img``, uint8 ``[H, W, 3]`` BGR, and nothing else."""
        image = results["img"]
        for step, share in self.steps:
            if np.random.random() < share:  # noqa: NPY002
                image = step(image)
        results["img"] = image
        return results


def _uniform(low: float, high: float) -> float:
    return float(np.random.uniform(low, high))  # noqa: NPY002


def _clip(pixels: NDArray[np.floating[Any]]) -> Image:
    return np.asarray(np.clip(pixels, 0, 255), dtype=np.uint8)


def _photometric(image: Image) -> Image:
    grey = image.mean(axis=2, keepdims=True, dtype=np.float32)
    pixels = grey + (image - grey) * np.float32(_uniform(0.4, 1.6))  # saturation
    cast = np.random.uniform(0.88, 1.12, 3).astype(np.float32)  # noqa: NPY002 - white balance, a channel each
    middle = np.float32(pixels.mean())
    return _clip(((pixels - middle) * np.float32(_uniform(0.6, 1.5)) + middle + np.float32(_uniform(-40, 40))) * cast)


def _grey(image: Image) -> Image:
    return np.repeat(cv2.cvtColor(image, cv2.COLOR_BGR2GRAY)[:, :, None], 3, axis=2)


def _night(image: Image) -> Image:
    dark = 255 * (image.astype(np.float32) / 255) ** np.float32(_uniform(1.2, 2.2)) * np.float32(_uniform(0.3, 0.8))
    noise = np.random.normal(0, _uniform(3, 14), image.shape)  # noqa: NPY002
    return _clip(dark + noise.astype(np.float32))


def _blur(image: Image) -> Image:
    if np.random.random() < 0.5:  # noqa: NPY002
        return np.asarray(cv2.GaussianBlur(image, (0, 0), _uniform(0.5, 2.0)), dtype=np.uint8)
    length = int(np.random.randint(3, 10))  # noqa: NPY002
    line = np.zeros((length, length), np.float32)
    line[length // 2] = 1
    turn = cv2.getRotationMatrix2D(((length - 1) / 2, (length - 1) / 2), _uniform(0, 180), 1)
    line = cv2.warpAffine(line, turn, (length, length))
    return np.asarray(cv2.filter2D(image, -1, line / max(float(line.sum()), 1e-6)), dtype=np.uint8)


def _low_resolution(image: Image) -> Image:
    height, width = image.shape[:2]
    factor = _uniform(0.25, 0.6)
    small = (max(1, round(width * factor)), max(1, round(height * factor)))
    down = cv2.resize(image, small, interpolation=cv2.INTER_AREA)
    return np.asarray(cv2.resize(down, (width, height), interpolation=cv2.INTER_LINEAR), dtype=np.uint8)


def _compression(image: Image) -> Image:
    _, data = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, int(np.random.randint(15, 71))])  # noqa: NPY002
    return np.asarray(cv2.imdecode(data, cv2.IMREAD_COLOR), dtype=np.uint8)
