"""Parrot re-identification: a recogniser trained on protected pictures of people, asked who is on other ones.

The attacker owns protected pictures with names on them and learns what each name looks like under the cover (Newton,
Sweeney and Malin 2005; McPherson, Shokri and Shmatikov 2016). Views differ in place, scale, angle, light and side, and
they are varied before they are protected.

Two questions are asked apart. *Appearance*: everybody is given the same outline, so only what the cover lets through
tells people apart. *Shape*: everybody keeps the own outline, so the outline may tell. All views of somebody come from
one photograph, in one pose and one set of clothes: the shape figure is an upper bound, not what a camera would see of
gait from day to day.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

from privseg.assessment.data import Portrait
from privseg.assessment.quality import BoolMask, Image
from privseg.assessment.subject import Subject, Variant
from privseg.privacy.masks import dilate_by_size

__all__ = ["TEST_VIEWS", "TRAIN_VIEWS", "View", "recognition_rate", "views"]

TRAIN_VIEWS = 12
TEST_VIEWS = 20
_CANVAS = (192, 112)  # height, width
_GREY = 118
_FIGURE = (160, 72)  # height and width of the outline that all are given
_VALIDATION = 3  # of the training views, held back to choose the recogniser
_RIDGES = (1.0, 30.0, 1000.0)
Floats = npt.NDArray[np.float32]


@dataclass(frozen=True)
class View:
    """One picture of one person, not protected yet.

    Attributes:
        image: uint8 ``(192, 112, 3)`` RGB, grey where the person is not.
        mask: bool ``(192, 112)``, what is to be covered.
    """

    image: Image
    mask: BoolMask


def views(portraits: Sequence[Portrait], *, own_outline: bool, seed: int = 5) -> list[list[View]]:
    """For everybody the training views, then the test views."""
    rng = np.random.default_rng(seed)  # nothing secret: it varies pictures
    make = _own_view if own_outline else _same_view
    return [[make(person, rng) for _ in range(TRAIN_VIEWS + TEST_VIEWS)] for person in portraits]


def recognition_rate(variant: Variant, people: Sequence[Sequence[View]], *, seed: int = 6) -> float:
    """Protect every view, train on the training views, and name who is on the test views.

    The same camera and keys are used throughout, which is the attacker's best case. Nearest neighbour and linear
    (ridge) recognisers on small pixels and gradients compete on held-back training views; the winner is asked once.

    Returns:
        Top-1 rate on the test views; chance is one over the number of people.
    """
    features = _features(variant, people, seed)
    count, each = len(people), TRAIN_VIEWS + TEST_VIEWS
    names = np.repeat(np.arange(count), each)
    turn = np.tile(np.arange(each), count)
    fit, check = turn < TRAIN_VIEWS - _VALIDATION, (turn >= TRAIN_VIEWS - _VALIDATION) & (turn < TRAIN_VIEWS)
    train, test = turn < TRAIN_VIEWS, turn >= TRAIN_VIEWS
    # Nothing may be learnt from the order people come in: of equals the one that is drawn first is taken.
    labels = np.random.default_rng(seed).permutation(count)[names]
    scores = {
        ridge: (_named(features, labels, fit, check, ridge) == labels[check]).mean() for ridge in (None, *_RIDGES)
    }
    best = max(scores, key=lambda ridge: float(scores[ridge]))
    return float((_named(features, labels, train, test, best) == labels[test]).mean())


def _features(variant: Variant, people: Sequence[Sequence[View]], seed: int) -> Floats:
    """Standardised features of every protected view, in the order of ``people``; covered in random order."""
    flat = [view for person in people for view in person]
    subject = Subject(variant)
    rows: list[Floats] = [np.empty(0, np.float32)] * len(flat)
    for index in np.random.default_rng(seed).permutation(len(flat)):
        rows[index] = _describe(subject.cover(flat[index].image, flat[index].mask))
    table = np.stack(rows)
    spread = table.std(axis=0)
    standard: Floats = (table - table.mean(axis=0)) / np.where(spread > 1e-3, spread, 1)
    return standard


def _describe(picture: Image) -> Floats:
    """Small pixels, and histograms of oriented gradients (Dalal and Triggs 2005) on 8 by 8 cells."""
    small = cv2.resize(picture, (14, 24), interpolation=cv2.INTER_AREA).astype(np.float32) / 255
    grey = cv2.resize(cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY), (56, 96), interpolation=cv2.INTER_AREA)
    down, across = cv2.Sobel(grey, cv2.CV_32F, 0, 1), cv2.Sobel(grey, cv2.CV_32F, 1, 0)
    size, angle = cv2.cartToPolar(across, down)
    part = np.minimum((angle % np.pi) * (8 / np.pi), 7).astype(np.int64)
    rows, columns = np.mgrid[:96, :56] // 8
    cells = np.bincount(((rows * 7 + columns) * 8 + part).ravel(), size.ravel(), 12 * 7 * 8).astype(np.float32)
    norms = np.linalg.norm(cells.reshape(-1, 8), axis=1, keepdims=True)
    gradients = cells.reshape(-1, 8) / (norms + 50)
    return np.concatenate([small.ravel(), gradients.ravel()])


def _named(
    features: Floats, labels: npt.NDArray[np.int64], known: BoolMask, asked: BoolMask, ridge: float | None
) -> npt.NDArray[np.int64]:
    """Who is on each of the views asked about; without a ridge, whoever is on the nearest known view."""
    kernel = features[asked] @ features[known].T / features.shape[1]
    if ridge is None:
        lengths = (features[known] ** 2).sum(axis=1) / features.shape[1]
        nearest: npt.NDArray[np.int64] = labels[known][np.argmin(lengths - 2 * kernel, axis=1)]
        return nearest
    targets = np.eye(int(labels.max()) + 1)[labels[known]] - 1 / (labels.max() + 1)
    own = features[known] @ features[known].T / features.shape[1]
    weights = np.linalg.solve(own + ridge / 100 * np.eye(len(own)), targets)
    named: npt.NDArray[np.int64] = np.argmax(kernel @ weights, axis=1)
    return named


def _own_view(person: Portrait, rng: np.random.Generator) -> View:
    """The person on grey, moved, scaled and turned a little, with the outline moving along."""
    placed = _affine(person, rng, *_fit(person, 150))
    return _view(placed[0], placed[1], dilate_by_size(placed[1], 0.04, 2), rng)


def _same_view(person: Portrait, rng: np.random.Generator) -> View:
    """The person stretched into one outline that everybody is given, which never moves."""
    _, _, width, height = cv2.boundingRect(person.person.view(np.uint8))
    image, own = _affine(person, rng, _FIGURE[1] / width, _FIGURE[0] / height)
    return _view(image, own, _outline(), rng)


def _outline() -> BoolMask:
    canvas = np.zeros(_CANVAS, np.uint8)
    cv2.ellipse(canvas, (_CANVAS[1] // 2, _CANVAS[0] // 2), (_FIGURE[1] // 2, _FIGURE[0] // 2), 0, 0, 360, 1, -1)
    return canvas.view(np.bool_)


def _fit(person: Portrait, height: int) -> tuple[float, float]:
    """Scale across and down to a height, less where the person is too wide for the canvas."""
    _, _, width, tall = cv2.boundingRect(person.person.view(np.uint8))
    scale = min(height / tall, 0.86 * _CANVAS[1] / width)
    return scale, scale


def _affine(person: Portrait, rng: np.random.Generator, across: float, down: float) -> tuple[Image, BoolMask]:
    """Place the person's box in the middle of the canvas, give or take."""
    x, y, width, height = cv2.boundingRect(person.person.view(np.uint8))
    zoom, angle = rng.uniform(0.93, 1.07), np.deg2rad(rng.uniform(-4, 4))
    side = rng.choice([-1, 1])
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    linear = turn @ np.diag([side * across * zoom, down * zoom])
    centre = np.array([_CANVAS[1] / 2, _CANVAS[0] / 2]) + rng.uniform(-4, 4, 2)
    offset = centre - linear @ np.array([x + width / 2, y + height / 2])
    matrix, size = np.column_stack([linear, offset]), _CANVAS[::-1]
    image = cv2.warpAffine(person.image, matrix, size, flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    own = cv2.warpAffine(person.person.view(np.uint8), matrix, size, flags=cv2.INTER_NEAREST)
    return image, own.view(np.bool_)


def _view(image: Image, own: BoolMask, mask: BoolMask, rng: np.random.Generator) -> View:
    """Other light, and grey wherever the person is not: the place must not tell who it is."""
    light = rng.uniform(0.8, 1.2) * rng.uniform(0.95, 1.05, 3)
    lit = np.clip(image * light + rng.uniform(-12, 12), 0, 255).astype(np.uint8)
    canvas = np.where((own & mask)[:, :, np.newaxis], lit, np.uint8(_GREY))
    return View(np.ascontiguousarray(canvas), np.ascontiguousarray(mask))
