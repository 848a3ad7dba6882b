"""A mask falls into people who share no pixel; each is shown to the method on its own."""

from __future__ import annotations

import numpy as np
import pytest
from filter_cases import rectangle
from hypothesis import given, settings
from hypothesis import strategies as st

from privseg.privacy.people import MAX_PEOPLE, find_people


@settings(deadline=None, max_examples=40)
@given(
    size=st.sampled_from([(40, 60), (70, 1030), (61, 1921), (1929, 37), (64, 1920)]),
    boxes=st.lists(st.tuples(*[st.floats(0, 1)] * 2, st.integers(1, 20), st.integers(1, 20)), max_size=9),
)
def test_people_share_no_pixel_and_together_are_the_mask(
    size: tuple[int, int], boxes: list[tuple[float, float, int, int]]
) -> None:
    mask = np.zeros(size, np.bool_)
    for down, across, tall, wide in boxes:
        top, left = int(down * (size[0] - 1)), int(across * (size[1] - 1))
        mask[top : top + tall, left : left + wide] = True
    times = np.zeros(size, np.int64)
    for person, own in find_people(mask):
        assert own.shape == (person.height, person.width)
        assert own.any(axis=0)[[0, -1]].all()
        assert own.any(axis=1)[[0, -1]].all()
        times[person.top : person.top + person.height, person.left : person.left + person.width] += own
    assert np.array_equal(times, mask)


@pytest.mark.parametrize("width", [300, 1100, 1921])
def test_people_apart_are_apart_at_every_size_of_frame(width: int) -> None:
    mask = rectangle(60, width, 10, 20, 30, 10) | rectangle(60, width, 10, 42, 30, 10)
    assert [(person.left, person.width) for person, _ in find_people(mask)] == [(20, 10), (42, 10)]


def test_noise_of_a_mask_is_one_person_that_covers_all_of_it() -> None:
    mask = np.zeros((60, 60), np.bool_)
    mask[2:58:4, 3:58:4] = True
    assert mask.sum() > MAX_PEOPLE
    ((person, own),) = find_people(mask)
    assert (person.top, person.left) == (2, 3)
    assert own.sum() == mask.sum()


def test_a_person_can_not_be_made_smaller_by_who_is_handed_it() -> None:
    ((_, own),) = find_people(rectangle(20, 20, 5, 5, 9, 3))
    with pytest.raises(ValueError, match="read-only"):
        own[:] = False
