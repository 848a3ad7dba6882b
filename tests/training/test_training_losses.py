"""The loss against a brute-force version in numpy."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from numpy.typing import NDArray

from privseg.training._mm import MODELS, quiet_build
from privseg.training.losses import PersonLoss, near_outline

shapes = st.tuples(st.integers(1, 3), st.integers(1, 12), st.integers(1, 12))
labels_of = shapes.flatmap(lambda shape: arrays.arrays(np.int64, shape, elements=st.sampled_from([0, 0, 1, 255])))
quick = settings(max_examples=40, deadline=None)


def logits_for(labels: NDArray[np.int64], seed: int) -> torch.Tensor:
    count, height, width = labels.shape
    return 3 * torch.randn(count, 2, height, width, generator=torch.Generator().manual_seed(seed))


def brute_near(labels: NDArray[np.int64]) -> NDArray[np.float64]:
    near = np.zeros(labels.shape)
    for image, row, column in np.ndindex(labels.shape):
        window = labels[image, max(0, row - 3) : row + 4, max(0, column - 3) : column + 4]
        near[image, row, column] = (window == 0).any() and (window == 1).any()
    return near


def brute_loss(
    logits: torch.Tensor, labels: NDArray[np.int64], human: float, share: float, dice: float, boundary: float
) -> float:
    scores = logits.double().numpy()
    near, pixels, terms = brute_near(labels), [], []
    for image in range(len(labels)):
        overlap = squares = people = 0.0
        for row, column in np.ndindex(labels.shape[1:]):
            label = labels[image, row, column]
            if label == 255:
                continue
            score = scores[image, :, row, column]
            probability = math.exp(score[1]) / (math.exp(score[0]) + math.exp(score[1]))
            entropy = -math.log(probability if label == 1 else 1 - probability)
            weight = (human if label == 1 else 1.0) * (1 + boundary * near[image, row, column])
            pixels.append((weight * entropy, weight))
            overlap += probability * (label == 1)
            squares += probability**2
            people += label == 1
        if people:
            terms.append(1 - 2 * overlap / (squares + people))
    kept = sorted(pixels, reverse=True)[: math.ceil(share * len(pixels))]
    entropy = sum(loss for loss, _ in kept) / sum(weight for _, weight in kept) if kept else 0.0
    return entropy + dice * (sum(terms) / len(terms) if terms else 0.0)


@quick
@given(
    labels_of,
    st.integers(0, 99),
    st.floats(0.5, 8),
    st.sampled_from([0.1, 0.25, 0.5, 1.0]),
    st.sampled_from([0.0, 0.5, 2.0]),
    st.sampled_from([0.0, 1.0, 4.0]),
)
def test_loss_is_that_of_its_definition(labels, seed, human, share, dice, boundary):
    logits = logits_for(labels, seed)
    found = PersonLoss(human, share, dice, boundary)(logits, torch.from_numpy(labels))
    assert float(found) == pytest.approx(brute_loss(logits, labels, human, share, dice, boundary), rel=1e-4, abs=1e-6)


@quick
@given(labels_of, st.integers(0, 99))
def test_defaults_are_class_weighted_cross_entropy(labels, seed):
    with quiet_build():
        plain = MODELS.build({"type": "CrossEntropyLoss", "class_weight": [1.0, 3.0]})
    logits, target = logits_for(labels, seed), torch.from_numpy(labels)
    assert float(PersonLoss()(logits, target)) == pytest.approx(
        float(plain(logits, target, ignore_index=255)), rel=1e-6
    )


@quick
@given(labels_of)
def test_outlines_run_between_people_and_background_only(labels):
    assert np.array_equal(near_outline(torch.from_numpy(labels)).numpy(), brute_near(labels))


@quick
@given(labels_of, st.integers(0, 99), st.sampled_from([0.3, 1.0]))
def test_unlabelled_pixels_change_nothing(labels, seed, share):
    loss = PersonLoss(3.0, share, 1.0, 2.0)
    logits, target = logits_for(labels, seed).requires_grad_(), torch.from_numpy(labels)
    value = loss(logits, target)
    (slope,) = torch.autograd.grad(value, logits)
    assert torch.isfinite(slope).all()
    assert not slope.permute(0, 2, 3, 1)[target == 255].any()
    other = torch.where((target == 255).unsqueeze(1), -logits.detach(), logits.detach())
    assert float(loss(other, target)) == pytest.approx(value.item(), rel=1e-5)


def test_nothing_labelled_costs_nothing():
    logits = torch.randn(2, 2, 4, 4, requires_grad=True)
    loss = PersonLoss(3.0, 0.5, 1.0, 1.0)(logits, torch.full((2, 4, 4), 255))
    loss.backward()
    assert loss.item() == 0
    assert not logits.grad.any()


def test_a_loss_in_half_precision_is_computed_in_single():
    logits, labels = 300 * torch.randn(1, 2, 64, 64), torch.randint(0, 2, (1, 64, 64))
    loss = PersonLoss(dice=1.0)
    assert float(loss(logits.half(), labels)) == pytest.approx(float(loss(logits.half().float(), labels)))


def test_the_factor_scales_the_whole_and_the_name_is_the_log_s():
    logits, labels = torch.randn(1, 2, 8, 8), torch.randint(0, 2, (1, 8, 8))
    aside = PersonLoss(3.0, 0.5, 1.0, 1.0, loss_name="loss_aside", loss_weight=0.4)
    assert float(aside(logits, labels)) == pytest.approx(0.4 * float(PersonLoss(3.0, 0.5, 1.0, 1.0)(logits, labels)))
    assert aside.loss_name == "loss_aside"
