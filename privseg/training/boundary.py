"""How well the outlines of people are met: the boundary F-measure."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cache

import cv2
import numpy as np
from numpy.typing import NDArray

from privseg.training.metrics import BACKGROUND, HUMAN, IGNORE, check_shapes

__all__ = ["TOLERANCE", "BoundaryCounts"]

TOLERANCE = 0.0075  # of the picture's diagonal
CROSS = cv2.getStructuringElement(cv2.MORPH_CROSS, (3, 3))


@dataclass
class BoundaryCounts:
    """Counts of outline pixels, and the F-measure that follows from them.

    The measure of Csurka, Larlus and Perronnin, "What is a good evaluation measure for semantic segmentation?" (BMVC
    2013), with their tolerance of 0.75 % of the picture's diagonal (5.4 pixels at 512 x 512; DAVIS takes 0.8 %): an
    outline pixel is met if the other outline comes as near as that (Euclidean distance). They average over pictures;
    here the pixels of all pictures are summed, as for the other metrics, since a picture without people has no
    outline to average.

    An outline is every human pixel with background above, below, left or right of it; the picture's border is no
    background. Nothing is known of an outline that runs along ignored pixels or through them, so it is none, and
    outline pixels within the tolerance of an ignored pixel are met by others but not counted themselves: what they
    belong to may lie among the ignored ones.

    Attributes:
        predicted: Outline pixels of the prediction.
        predicted_met: Those near the true outline.
        true: Outline pixels of the truth.
        true_met: Those near the predicted outline.
    """

    predicted: int = 0
    predicted_met: int = 0
    true: int = 0
    true_met: int = 0

    def update(self, prediction: NDArray[np.bool_], truth: NDArray[np.uint8], *, tolerance: float = TOLERANCE) -> None:
        """Count the outlines of one more picture.

        Args:
            prediction: bool ``[H, W]``, true where a person is seen.
            truth: uint8 ``[H, W]``, 0 background, 1 human, 255 not labelled.
            tolerance: Distance at which outlines still meet, as a share of the picture's diagonal.

        Raises:
            ValueError: The shapes differ.
        """
        check_shapes(prediction, truth)
        disk = _disk(tolerance * math.hypot(*truth.shape))
        ignored = truth == IGNORE
        expected = _outline(truth == HUMAN, truth == BACKGROUND)
        found = _outline(prediction & ~ignored, ~prediction & ~ignored)
        judged = ~_dilate(ignored, disk)
        found_judged, expected_judged = found & judged, expected & judged
        self.predicted += int(np.count_nonzero(found_judged))
        self.predicted_met += int(np.count_nonzero(found_judged & _dilate(expected, disk)))
        self.true += int(np.count_nonzero(expected_judged))
        self.true_met += int(np.count_nonzero(expected_judged & _dilate(found, disk)))

    @property
    def precision(self) -> float:
        """Share of the predicted outline near a true one; without any, 1 if no true one is missed and 0 otherwise."""
        return self.predicted_met / self.predicted if self.predicted else float(self.true_met == self.true)

    @property
    def recall(self) -> float:
        """Share of the true outline near a predicted one; without any, 1 if none is seen elsewhere and 0 otherwise."""
        return self.true_met / self.true if self.true else float(self.predicted_met == self.predicted)

    @property
    def f_measure(self) -> float:
        """Harmonic mean of precision and recall; 0 if both are."""
        both = self.precision + self.recall
        return 2 * self.precision * self.recall / both if both else 0.0


def _outline(human: NDArray[np.bool_], background: NDArray[np.bool_]) -> NDArray[np.bool_]:
    return human & _dilate(background, CROSS)


def _dilate(mask: NDArray[np.bool_], kernel: NDArray[np.uint8]) -> NDArray[np.bool_]:
    if not mask.any():
        return mask
    widened: NDArray[np.uint8] = cv2.dilate(mask.view(np.uint8), kernel)
    return widened.view(np.bool_)


@cache
def _disk(radius: float) -> NDArray[np.uint8]:
    """All offsets no longer than ``radius`` pixels: to widen by it is to compare exact distances, only faster."""
    reach = int(radius)
    rows, columns = np.ogrid[-reach : reach + 1, -reach : reach + 1]
    return np.asarray(rows**2 + columns**2 <= radius**2, dtype=np.uint8)
