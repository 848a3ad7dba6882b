"""Carrying a mask only ever adds to it, and covers whatever changed."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from privseg.privacy.carry import Carry, CarryPolicy, change_since

GRID = (24, 32)
glimpses = arrays.arrays(np.uint8, (*GRID, 3))
masks = arrays.arrays(np.bool_, (48, 64))
flows = arrays.arrays(np.float32, (*GRID, 2), elements=st.floats(-5, 5, width=32))


@given(masks, glimpses, glimpses, st.lists(flows, max_size=3), st.integers(2, 64))
def test_what_was_covered_stays_and_what_changed_is_covered(mask, then, now, motion, levels) -> None:  # type: ignore[no-untyped-def]
    carry = Carry(CarryPolicy(change=levels))
    carry.start(mask, then)
    for flow in motion:
        carry.follow(flow)
    covered = carry.cover(now)
    assert not (mask & ~covered).any()
    changed = (np.abs(then.astype(int) - now) >= levels).any(axis=2)
    assert not (changed.repeat(2, 0).repeat(2, 1) & ~covered).any()
    assert change_since(then, now, levels) == carry.change(now) == changed.mean()


def test_whoever_moves_is_covered_where_the_motion_leads() -> None:
    mask = np.zeros((48, 64), np.bool_)
    mask[10:30, 10:20] = True
    same = np.zeros((*GRID, 3), np.uint8)
    carry = Carry(CarryPolicy())
    carry.start(mask, same)
    for _ in range(4):  # flow tells where what is seen came from: two cells to the left each time
        carry.follow(np.full((*GRID, 2), (-2, 0), np.float32))
    covered = carry.cover(same)
    assert covered[12:28, 26:36].all()  # sixteen pixels further right
    assert covered.mean() < 0.3


def test_nothing_is_carried_before_there_is_a_mask_nor_over_a_change_of_size() -> None:
    carry = Carry(CarryPolicy())
    assert not carry.ready
    assert carry.change(np.zeros((*GRID, 3), np.uint8)) == 1
    with pytest.raises(ValueError, match="no mask"):
        carry.cover(np.zeros((*GRID, 3), np.uint8))
    carry.start(np.ones((48, 64), np.bool_), np.zeros((*GRID, 3), np.uint8))
    assert carry.ready
    assert carry.change(np.zeros((12, 16, 3), np.uint8)) == 1
    with pytest.raises(ValueError, match="no mask"):
        carry.cover(np.zeros((12, 16, 3), np.uint8))
    carry.drop()
    assert not carry.ready
