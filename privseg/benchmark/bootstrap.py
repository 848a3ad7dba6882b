"""Is one model better than another, or did the choice of test pictures make it look so?

Paired bootstrap over pictures (B. Efron, R. Tibshirani, *An Introduction to the Bootstrap*, 1993; paired, with a score
of the whole set recomputed for each resample: P. Koehn, *Statistical Significance Tests for Machine Translation
Evaluation*, EMNLP 2004). Pictures, not pixels, are drawn: pixels of one picture are anything but independent.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

__all__ = ["Comparison", "f_beta", "paired_bootstrap", "required_samples", "required_wins"]

_IN_THE_TAIL = 10  # resamples expected where a share that is asked is missed: fewer tell little of so small a share
_DRAWS_AT_ONCE = 4_000_000  # 32 MB of weights


@dataclass(frozen=True)
class Comparison:
    """How much a challenger's score exceeds a champion's.

    Attributes:
        difference: On the pictures as they are.
        mean_difference: Mean over the resamples.
        interval: The central ``confidence`` of the resamples' differences (percentile method).
        wins: Share of the resamples in which the challenger's score is higher; ties are no wins.
        samples: Resamples drawn.
    """

    difference: float
    mean_difference: float
    interval: tuple[float, float]
    wins: float
    samples: int


def required_wins(confidence: float, candidates: int) -> float:
    """Share of the resamples that the best of several candidates must win.

    The best was found on the pictures on which it then meets the champion, and of many models that are no better than
    it some look better by chance. Bonferroni's correction shares what may go wrong, ``1 - confidence``, among all that
    were to choose from: so many models as good as the champion are promoted no oftener than one would be.

    Args:
        confidence: What a single candidate must win.
        candidates: How many there were to choose from.
    """
    return 1 - (1 - confidence) / candidates


def required_samples(asked: int, confidence: float, candidates: int) -> int:
    """Resamples to draw so that ``required_wins`` can be told: ``asked``, or more where it leaves too thin a tail."""
    return max(asked, math.ceil(round(_IN_THE_TAIL * candidates / (1 - confidence), 6)))


def f_beta(counts: NDArray[np.float64], beta: float) -> NDArray[np.float64]:
    """F-measure of human pixels in which recall counts ``beta`` times as much as precision.

    Args:
        counts: float64 ``[..., 3]``, pixels: true positives, false positives, false negatives.
        beta: Weight of recall.

    Returns:
        float64 ``[...]``, 0 to 1; 1 where nobody is shown and nobody found.
    """
    tp, fp, fn = counts[..., 0], counts[..., 1], counts[..., 2]
    weight = beta * beta
    whole = (1 + weight) * tp + weight * fn + fp
    return np.divide((1 + weight) * tp, whole, out=np.ones_like(whole), where=whole > 0)


def paired_bootstrap(
    challenger: NDArray[np.int64],
    champion: NDArray[np.int64],
    *,
    beta: float,
    samples: int,
    confidence: float,
    seed: int,
) -> Comparison:
    """Compare two models that segmented the same pictures.

    Each resample draws as many pictures as there are, with replacement, sums the pixels of both models over them and
    takes the difference of the two scores.

    Args:
        challenger: int64 ``[pictures, 3]``, pixels of each picture: true positives, false positives, false negatives.
        champion: The same of the other model, in the same order.
        beta: How many times recall counts as much as precision.
        samples: Resamples to draw.
        confidence: Share of the differences inside ``interval``.
        seed: The same seed gives the same comparison.

    Raises:
        ValueError: There is no picture, or the two do not fit together.
    """
    if challenger.shape != champion.shape or challenger.ndim != 2 or challenger.shape[1] != 3 or not len(challenger):
        raise ValueError(f"counts of shape {challenger.shape} and {champion.shape} cannot be compared")
    # Sums of pixels stay far below 2**53, so that floating point adds them exactly, in any order.
    ours, theirs = challenger.astype(np.float64), champion.astype(np.float64)
    pictures, generator = len(ours), np.random.default_rng(seed)
    even, at_once = np.full(pictures, 1 / pictures), max(1, _DRAWS_AT_ONCE // pictures)
    differences = np.empty(samples)
    for start in range(0, samples, at_once):
        count = min(at_once, samples - start)
        drawn = generator.multinomial(pictures, even, size=count).astype(np.float64)
        differences[start : start + count] = f_beta(drawn @ ours, beta) - f_beta(drawn @ theirs, beta)
    tail = (1 - confidence) / 2
    low, high = (float(value) for value in np.quantile(differences, [tail, 1 - tail]))
    return Comparison(
        difference=float(f_beta(ours.sum(axis=0), beta) - f_beta(theirs.sum(axis=0), beta)),
        mean_difference=float(differences.mean()),
        interval=(low, high),
        wins=float((differences > 0).mean()),
        samples=samples,
    )
