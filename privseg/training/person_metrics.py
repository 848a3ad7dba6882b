"""How many people are missed, and how much of them is found, by their height in the picture.

People are 8-connected groups of human pixels, as in the manifest: masks do not tell individuals apart. People who
touch are one, and one whom an ignored strip or an obstacle cuts apart is several.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import cv2
import numpy as np
from numpy.typing import NDArray

from privseg.training.metrics import HUMAN, check_shapes

__all__ = [
    "COVERED_PERCENT",
    "HEIGHT_BUCKETS",
    "LARGE_ABOVE",
    "MIN_PERSON_PIXELS",
    "SMALL_BELOW",
    "BucketCounts",
    "PersonCounts",
]

SMALL_BELOW = 32  # pixels of height
LARGE_ABOVE = 96
HEIGHT_BUCKETS = ("small", "medium", "large")
COVERED_PERCENT = 80  # a person of whom less is found is missed
# Where an outline drawn by hand frays, or an ignored border comes close, a few pixels break off that are nobody: in
# street scenes (CamVid) one group in eight is smaller than this and together they hold 0.1 % of the human pixels.
# Sixteen are a figure of eight by two: nobody could label a lower one, or be recognised by it.
MIN_PERSON_PIXELS = 16


@dataclass
class BucketCounts:
    """Counts of people of similar height.

    Attributes:
        people: People there.
        missed: Those of whom less than 80 % of the pixels was found.
        pixels: Pixels of all of them.
        covered: Those found.
    """

    people: int = 0
    missed: int = 0
    pixels: int = 0
    covered: int = 0

    @property
    def miss_rate(self) -> float | None:
        """Share of the people missed; None without people."""
        return self.missed / self.people if self.people else None

    @property
    def recall(self) -> float | None:
        """Share of the people's pixels found; None without people."""
        return self.covered / self.pixels if self.pixels else None


@dataclass
class PersonCounts:
    """Counts of people by the height of their bounding box, summed over pictures.

    Groups of fewer than 16 pixels are label noise: they count as nobody. Ignored pixels belong to nobody, and what is
    predicted on them changes nothing. Heights are those in the picture that is measured.

    Attributes:
        small: People lower than 32 pixels.
        medium: People of 32 to 96 pixels.
        large: People taller than 96 pixels.
    """

    small: BucketCounts = field(default_factory=BucketCounts)
    medium: BucketCounts = field(default_factory=BucketCounts)
    large: BucketCounts = field(default_factory=BucketCounts)

    def update(self, prediction: NDArray[np.bool_], truth: NDArray[np.uint8]) -> None:
        """Count the people of one more picture.

        Args:
            prediction: bool ``[H, W]``, true where a person is seen.
            truth: uint8 ``[H, W]``, 0 background, 1 human, 255 not labelled.

        Raises:
            ValueError: The shapes differ.
        """
        check_shapes(prediction, truth)
        human = (truth == HUMAN).view(np.uint8)
        left, top, width, height = cv2.boundingRect(human)
        if not width:
            return
        people = np.s_[top : top + height, left : left + width]  # labelling only where they are is several times faster
        _, labels, stats, _ = cv2.connectedComponentsWithStats(human[people], connectivity=8)
        areas, heights = stats[:, cv2.CC_STAT_AREA], stats[:, cv2.CC_STAT_HEIGHT]
        covered = np.bincount(labels[prediction[people]], minlength=len(stats))
        counted = areas >= MIN_PERSON_PIXELS
        counted[0] = False  # the background
        missed = covered * 100 < areas * COVERED_PERCENT
        for bucket, fits in (
            (self.small, heights < SMALL_BELOW),
            (self.medium, (heights >= SMALL_BELOW) & (heights <= LARGE_ABOVE)),
            (self.large, heights > LARGE_ABOVE),
        ):
            chosen = counted & fits
            bucket.people += int(np.count_nonzero(chosen))
            bucket.missed += int(np.count_nonzero(chosen & missed))
            bucket.pixels += int(areas[chosen].sum())
            bucket.covered += int(covered[chosen].sum())

    @property
    def all(self) -> BucketCounts:
        """People of every height."""
        buckets = (self.small, self.medium, self.large)
        return BucketCounts(
            people=sum(bucket.people for bucket in buckets),
            missed=sum(bucket.missed for bucket in buckets),
            pixels=sum(bucket.pixels for bucket in buckets),
            covered=sum(bucket.covered for bucket in buckets),
        )
