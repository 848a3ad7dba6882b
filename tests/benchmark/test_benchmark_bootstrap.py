from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from privseg.benchmark.bootstrap import f_beta, paired_bootstrap
from privseg.training.metrics import BinaryConfusion

RULES = {"beta": 2.0, "samples": 200, "confidence": 0.95, "seed": 3}
Counts = arrays(np.int64, st.tuples(st.integers(1, 12), st.just(3)), elements=st.integers(0, 262_144))


@st.composite
def pairs(draw):
    ours = draw(Counts)
    return ours, draw(arrays(np.int64, ours.shape, elements=st.integers(0, 262_144)))


@given(Counts, st.floats(0.1, 10))
def test_the_score_is_that_of_the_metrics(counts, beta):
    for (tp, fp, fn), score in zip(counts, f_beta(counts.astype(np.float64), beta), strict=True):
        assert score == pytest.approx(BinaryConfusion(tp=int(tp), fp=int(fp), fn=int(fn)).f_beta(beta), abs=1e-12)


@given(pairs())
def test_swapping_the_two_swaps_the_sign(pair):
    ours, theirs = pair
    one, other = paired_bootstrap(ours, theirs, **RULES), paired_bootstrap(theirs, ours, **RULES)
    assert one.difference == -other.difference
    assert one.mean_difference == -other.mean_difference
    assert one.interval == pytest.approx((-other.interval[1], -other.interval[0]), abs=1e-12)
    assert one.wins + other.wins <= 1


@given(Counts)
def test_a_model_never_beats_itself(counts):
    same = paired_bootstrap(counts, counts.copy(), **RULES)
    assert (same.difference, same.mean_difference, same.interval, same.wins) == (0, 0, (0, 0), 0)


@given(pairs(), st.integers(0, 2**31 - 1))
def test_the_seed_decides_the_resamples(pair, seed):
    rules = RULES | {"seed": seed}
    assert paired_bootstrap(*pair, **rules) == paired_bootstrap(*pair, **rules)


@given(pairs())
def test_the_order_of_the_pictures_does_not_change_what_is_found_on_all(pair):
    ours, theirs = pair
    backwards = paired_bootstrap(ours[::-1], theirs[::-1], **RULES)
    assert backwards.difference == paired_bootstrap(ours, theirs, **RULES).difference


def test_it_agrees_with_resampling_written_out():
    generator = np.random.default_rng(0)
    ours, theirs = generator.integers(0, 1000, (2, 30, 3))
    found = paired_bootstrap(ours, theirs, **RULES | {"samples": 20_000})
    differences = []
    for _ in range(20_000):
        drawn = generator.integers(0, 30, 30)
        sums = [BinaryConfusion(*(int(x) for x in counts[drawn].sum(axis=0))) for counts in (ours, theirs)]
        differences.append(sums[0].f_beta(2.0) - sums[1].f_beta(2.0))
    spread = float(np.std(differences))
    assert found.mean_difference == pytest.approx(np.mean(differences), abs=5 * spread / np.sqrt(20_000))
    assert found.wins == pytest.approx(np.mean(np.array(differences) > 0), abs=0.02)
    assert found.interval == pytest.approx(np.quantile(differences, [0.025, 0.975]), abs=0.1 * spread)


def test_one_lucky_picture_does_not_convince():
    theirs = np.tile([500, 100, 100], (20, 1))
    lucky, steady = theirs.copy(), theirs + np.array([20, 0, -20])
    lucky[0] = [700, 100, 0]
    lucky[1:] -= [5, 0, -5]
    assert paired_bootstrap(lucky, theirs, **RULES).difference > 0
    assert paired_bootstrap(lucky, theirs, **RULES).wins < 0.95
    assert paired_bootstrap(steady, theirs, **RULES).wins == 1


def test_many_pictures_are_drawn_in_parts():
    generator = np.random.default_rng(1)
    theirs = generator.integers(100, 1000, (50_000, 3))
    found = paired_bootstrap(theirs + np.array([1, 0, -1]), theirs, **RULES | {"samples": 100})
    assert found.samples == 100
    assert found.wins == 1
    assert found.interval[0] <= found.mean_difference <= found.interval[1]


@pytest.mark.parametrize("shape", [(0, 3), (4, 2), (3,)])
def test_counts_that_cannot_be_compared(shape):
    with pytest.raises(ValueError, match="cannot be compared"):
        paired_bootstrap(np.zeros(shape, np.int64), np.zeros(shape, np.int64), **RULES)
    with pytest.raises(ValueError, match="cannot be compared"):
        paired_bootstrap(np.zeros((4, 3), np.int64), np.zeros((5, 3), np.int64), **RULES)
