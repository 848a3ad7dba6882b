"""Pixel metrics of a binary person mask, counted over labelled pixels."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

__all__ = ["BACKGROUND", "HUMAN", "IGNORE", "BinaryConfusion", "check_shapes"]

BACKGROUND, HUMAN, IGNORE = 0, 1, 255


def check_shapes(prediction: NDArray[np.bool_], truth: NDArray[np.uint8]) -> None:
    """Raise ValueError unless the two masks are of one shape."""
    if prediction.shape != truth.shape:
        raise ValueError(f"prediction {prediction.shape} and truth {truth.shape} differ in shape")


@dataclass
class BinaryConfusion:
    """Counts of labelled pixels, and the metrics that follow from them.

    Human is the positive class. Where a metric's denominator is zero (nobody there, nobody found), it is 1 if nothing
    was decided wrongly and 0 otherwise.

    Attributes:
        tp: Human pixels found.
        fp: Background pixels taken for human.
        fn: Human pixels missed.
        tn: Background pixels left alone.
    """

    tp: int = 0
    fp: int = 0
    fn: int = 0
    tn: int = 0

    def update(self, prediction: NDArray[np.bool_], truth: NDArray[np.uint8]) -> None:
        """Count one more image.

        Args:
            prediction: bool ``[H, W]``, true where a person is seen.
            truth: uint8 ``[H, W]``, 0 background, 1 human, 255 not labelled (left out).

        Raises:
            ValueError: The shapes differ.
        """
        check_shapes(prediction, truth)
        human, background = truth == HUMAN, truth == BACKGROUND
        self.tp += int(np.count_nonzero(prediction & human))
        self.fn += int(np.count_nonzero(~prediction & human))
        self.fp += int(np.count_nonzero(prediction & background))
        self.tn += int(np.count_nonzero(~prediction & background))

    def _ratio(self, part: float, whole: float) -> float:
        if whole:
            return part / whole
        return 0.0 if self.fp or self.fn else 1.0

    @property
    def pixel_accuracy(self) -> float:
        """Share of labelled pixels decided rightly."""
        return self._ratio(self.tp + self.tn, self.tp + self.tn + self.fp + self.fn)

    @property
    def iou_human(self) -> float:
        """Intersection over union of the human class."""
        return self._ratio(self.tp, self.tp + self.fp + self.fn)

    @property
    def iou_background(self) -> float:
        """Intersection over union of the background class."""
        return self._ratio(self.tn, self.tn + self.fp + self.fn)

    @property
    def mean_iou(self) -> float:
        """Mean of both classes' intersection over union."""
        return (self.iou_human + self.iou_background) / 2

    @property
    def dice(self) -> float:
        """Dice coefficient of the human class."""
        return self._ratio(2 * self.tp, 2 * self.tp + self.fp + self.fn)

    @property
    def precision(self) -> float:
        """Share of the pixels taken for human that are."""
        return self._ratio(self.tp, self.tp + self.fp)

    @property
    def recall(self) -> float:
        """Share of the human pixels found: for privacy, the one that counts most."""
        return self._ratio(self.tp, self.tp + self.fn)

    def f_beta(self, beta: float) -> float:
        """F-measure in which recall counts ``beta`` times as much as precision; ``f_beta(1)`` is Dice."""
        weight = beta * beta
        return self._ratio((1 + weight) * self.tp, (1 + weight) * self.tp + weight * self.fn + self.fp)
