from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from privseg.training.person_metrics import HEIGHT_BUCKETS, BucketCounts, PersonCounts

SHAPE = (110, 20)  # high enough for a large person


@st.composite
def painted(draw, values):
    """A picture of a few blocks, among them tall ones; noise alone hardly ever makes a large person."""
    picture = np.full(SHAPE, values[0], np.uint8)
    for _ in range(draw(st.integers(0, 8))):
        top, left = draw(st.integers(0, SHAPE[0] - 1)), draw(st.integers(0, SHAPE[1] - 1))
        height, width = draw(st.integers(1, SHAPE[0])), draw(st.integers(1, 6))
        picture[top : top + height, left : left + width] = draw(st.sampled_from(values))
    return picture


TRUTHS = painted([0, 1, 255])
PREDICTIONS = painted([0, 1]).map(lambda picture: picture.astype(bool))


def counted(*pairs):
    people = PersonCounts()
    for prediction, truth in pairs:
        people.update(prediction, truth)
    return people


def people_by_hand(prediction, truth):
    """The pixels of every person, found by walking from neighbour to neighbour."""
    left = {(row, column) for row, column in np.ndindex(truth.shape) if truth[row, column] == 1}
    buckets = {name: {"people": 0, "missed": 0, "pixels": 0, "covered": 0} for name in HEIGHT_BUCKETS}
    while left:
        person, edge = set(), [left.pop()]
        while edge:
            row, column = edge.pop()
            person.add((row, column))
            for near in ((row + i, column + j) for i in (-1, 0, 1) for j in (-1, 0, 1)):
                if near in left:
                    left.remove(near)
                    edge.append(near)
        if len(person) < 16:
            continue
        rows = [row for row, _ in person]
        height = max(rows) - min(rows) + 1
        bucket = buckets["small" if height < 32 else "medium" if height <= 96 else "large"]
        found = sum(bool(prediction[pixel]) for pixel in person)
        bucket["people"] += 1
        bucket["missed"] += found / len(person) < 0.8
        bucket["pixels"] += len(person)
        bucket["covered"] += found
    return buckets


def standing(height, width=4, *, shape=(200, 40)):
    truth = np.zeros(shape, np.uint8)
    truth[10 : 10 + height, 10 : 10 + width] = 1
    return truth


@settings(deadline=None)
@given(PREDICTIONS, TRUTHS)
def test_counts_agree_with_walking_over_every_person(prediction, truth):
    people, expected = counted((prediction, truth)), people_by_hand(prediction, truth)
    assert {name: vars(getattr(people, name)) for name in HEIGHT_BUCKETS} == expected
    together = {key: sum(bucket[key] for bucket in expected.values()) for key in expected["small"]}
    assert vars(people.all) == together
    if together["people"]:
        assert people.all.miss_rate == together["missed"] / together["people"]
        assert people.all.recall == together["covered"] / together["pixels"]


@given(PREDICTIONS, TRUTHS, PREDICTIONS)
def test_ignored_pixels_belong_to_nobody(prediction, truth, noise):
    changed = np.where(truth == 255, noise, prediction)
    assert counted((changed, truth)) == counted((prediction, truth))


@given(PREDICTIONS, TRUTHS, PREDICTIONS, TRUTHS)
def test_counting_two_pictures_is_counting_them_apart_in_one(prediction, truth, prediction2, truth2):
    gap = np.zeros((1, SHAPE[1]), np.uint8)
    joined = (np.vstack([prediction, gap == 1, prediction2]), np.vstack([truth, gap, truth2]))
    assert counted((prediction, truth), (prediction2, truth2)) == counted(joined)


@given(TRUTHS)
def test_the_truth_itself_misses_nobody_and_blindness_everybody(truth):
    perfect, blind = counted((truth == 1, truth)).all, counted((np.zeros(SHAPE, bool), truth)).all
    assert perfect.missed == 0
    assert perfect.covered == perfect.pixels
    assert blind.missed == blind.people == perfect.people
    assert blind.covered == 0


@pytest.mark.parametrize(("height", "bucket"), [(31, "small"), (32, "medium"), (96, "medium"), (97, "large")])
def test_bounds_of_height_belong_to_medium_people(height, bucket):
    truth = standing(height)
    people = counted((truth == 1, truth))
    assert getattr(people, bucket) == people.all == BucketCounts(1, 0, height * 4, height * 4)


@pytest.mark.parametrize(("found", "missed"), [(80, 0), (79, 1)])
def test_a_person_is_missed_below_80_percent(found, missed):
    truth = standing(25)  # 100 pixels
    prediction = np.zeros(truth.shape, bool)
    prediction.flat[np.flatnonzero(truth)[:found]] = True
    people = counted((prediction, truth))
    assert people.all == BucketCounts(people=1, missed=missed, pixels=100, covered=found)
    assert (people.all.miss_rate, people.all.recall) == (missed, found / 100)


@pytest.mark.parametrize(("width", "people"), [(15, 0), (16, 1)])
def test_a_group_of_fewer_than_16_pixels_is_nobody(width, people):
    truth = standing(1, width)
    assert counted((truth == 1, truth)).all.people == people


def test_people_who_touch_at_a_corner_are_one_and_an_ignored_strip_parts_them():
    truth = np.zeros((20, 20), np.uint8)
    truth[:10, :10] = truth[10:, 10:] = 1
    assert counted((truth == 1, truth)).all.people == 1
    truth[9:11, 9:11] = 255
    assert counted((truth == 1, truth)).all.people == 2


def test_without_people_there_is_no_rate():
    people = counted((np.ones(SHAPE, bool), np.zeros(SHAPE, np.uint8)))
    assert people == PersonCounts()
    assert people.all.miss_rate is None
    assert people.all.recall is None


def test_shapes_must_agree():
    with pytest.raises(ValueError, match="differ in shape"):
        PersonCounts().update(np.ones((2, 2), bool), np.zeros((2, 3), np.uint8))
