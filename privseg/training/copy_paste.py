"""People cut out of training pictures, pasted at surveillance scale onto pictures without people.

Copy-paste augmentation (arXiv 2012.07177) for a camera's view: small whole people, some half hidden, standing on
backgrounds that show nobody, so that whatever is labelled human is known to be all there is.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from privseg.training._mm import TRANSFORMS, BaseTransform
from privseg.training.augment import HUMAN

__all__ = ["CopyPaste", "cut_out"]

MIN_HEIGHT = 48  # pixels of a person worth cutting out
MIN_FILL = 0.15  # of its bounding box; less is a fragment
TRIES = 4
MAX_PEOPLE = 4
SMALLEST, LARGEST = 0.06, 0.75  # heights pasted, relative to the crop's
Image = NDArray[np.uint8]


@TRANSFORMS.register_module()
class CopyPaste(BaseTransform):
    """Paste one to four people onto a crop that shows none.

    A person is scaled to between 6 and 75 % of the crop's height (log-uniform), brought half-way towards the
    brightness of the place it comes to, and its outline feathered by a pixel, so that no seam gives it away. Every
    third is hidden from below, as behind a table or a car.

    Args:
        people: Image and mask file of training pictures that show people.
        share: Share of the crops without a person, and without too much padding, that get some.
    """

    def __init__(self, people: Sequence[tuple[str, str]], share: float) -> None:
        self.people = list(people)
        self.share = share

    def transform(self, results: dict[str, Any]) -> dict[str, Any]:
        """Change ``img`` uint8 ``[H, W, 3]`` and ``gt_seg_map`` uint8 ``[H, W]`` in place."""
        labels = results["gt_seg_map"]
        if not self.people or np.random.random() >= self.share or (labels == HUMAN).any():  # noqa: NPY002
            return results
        image = results["img"].copy()
        labels = labels.copy()
        for _ in range(np.random.randint(1, MAX_PEOPLE + 1)):  # noqa: NPY002
            person = self._pick()
            if person is not None:
                _paste(image, labels, *person)
        results["img"], results["gt_seg_map"] = image, labels
        return results

    def _pick(self) -> tuple[Image, Image] | None:
        for _ in range(TRIES):
            image_file, mask_file = self.people[np.random.randint(len(self.people))]  # noqa: NPY002
            image = cv2.imread(image_file, cv2.IMREAD_COLOR)
            mask = cv2.imread(mask_file, cv2.IMREAD_UNCHANGED)
            if image is None or mask is None:
                raise ValueError(f"{image_file} or its mask cannot be decoded")
            found = cut_out(image, mask, np.random.random())  # noqa: NPY002
            if found is not None:
                return found
        return None


def cut_out(image: Image, mask: Image, choice: float) -> tuple[Image, Image] | None:
    """Cut one whole person out.

    Args:
        image: uint8 ``[H, W, 3]``.
        mask: uint8 ``[H, W]``, 0 background, 1 human, 255 not labelled.
        choice: 0 to 1, picks one of the people that are whole: tall enough, and not cut off by the picture's side or
            upper edge.

    Returns:
        The person's box, uint8 ``[h, w, 3]``, and where in it the person is, uint8 ``[h, w]`` 0 or 255; None where
        nobody is whole.
    """
    _, marks, boxes, _ = cv2.connectedComponentsWithStats((mask == HUMAN).astype(np.uint8), connectivity=8)
    width = mask.shape[1]
    whole = [
        number
        for number, (x, y, w, h, area) in enumerate(boxes)
        if number and h >= MIN_HEIGHT and x > 0 and y > 0 and x + w < width and area >= MIN_FILL * w * h
    ]
    if not whole:
        return None
    number = whole[min(int(choice * len(whole)), len(whole) - 1)]
    x, y, w, h, _ = boxes[number]
    box = np.s_[y : y + h, x : x + w]
    return image[box], np.where(marks[box] == number, 255, 0).astype(np.uint8)


def _paste(image: Image, labels: Image, person: Image, shape: Image) -> None:
    """Put one person somewhere into a picture, changing picture and labels."""
    height, width = labels.shape
    tall = height * np.exp(np.random.uniform(np.log(SMALLEST), np.log(LARGEST)))  # noqa: NPY002
    scale = tall / person.shape[0]
    size = (max(2, round(person.shape[1] * scale)), max(4, round(tall)))
    method = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
    person, alpha = cv2.resize(person, size, interpolation=method), cv2.resize(shape, size, interpolation=method)
    if np.random.random() < 0.5:  # noqa: NPY002
        person, alpha = person[:, ::-1], alpha[:, ::-1]
    if np.random.random() < 1 / 3:  # noqa: NPY002
        seen = round(size[1] * np.random.uniform(0.35, 0.85))  # noqa: NPY002
        person, alpha = person[:seen], alpha[:seen]
    tall, wide = alpha.shape
    # anywhere, also partly outside at the sides, as somebody entering the view
    top = int(np.random.randint(0, max(1, height - tall + 1)))  # noqa: NPY002
    left = int(np.random.randint(-wide // 4, max(1, width - wide * 3 // 4)))  # noqa: NPY002
    seen_x = np.s_[max(0, -left) : min(wide, width - left)]
    place = np.s_[top : top + tall, max(0, left) : min(width, left + wide)]
    person, alpha = person[:, seen_x], alpha[:, seen_x]
    if not alpha.size or (labels[place] == 255).any():
        return
    under, inside = image[place].astype(np.float32), alpha > 127
    if not inside.any():
        return
    shift = (under.mean() - person[inside].mean()) * np.random.uniform(0, 0.6)  # noqa: NPY002
    weight = cv2.GaussianBlur(alpha, (3, 3), 0).astype(np.float32)[:, :, None] / 255
    mixed = weight * np.clip(person + shift, 0, 255) + (1 - weight) * under
    image[place] = mixed.round().astype(np.uint8)
    labels[place][inside] = HUMAN
