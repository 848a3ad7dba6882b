"""Near-duplicates: exactly what comparing all pairs gives, whatever the hashes look like."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from privseg.datasets.manifest import empty_row, manifest_frame
from privseg.datasets.near_duplicates import hamming, near_duplicates, preferred_order
from privseg.errors import DataError

BITS = st.integers(0, 16)


def hashes(codes: list[int] | NDArray[np.uint64]) -> pd.Series[str]:
    return pd.Series([f"{int(code):016x}" for code in codes], dtype="str")


def brute_force(codes: list[int] | NDArray[np.uint64], max_bits: int) -> list[int]:
    """Leader clustering as it is defined: one picture after another, against all that were kept."""
    array = np.array([int(code) for code in codes], np.uint64)
    kept: list[int] = []
    keepers = []
    for number, code in enumerate(array):
        close = np.flatnonzero(np.bitwise_count(array[kept] ^ code) <= max_bits) if kept else []
        keepers.append(kept[close[0]] if len(close) else number)
        if not len(close):
            kept.append(number)
    return keepers


@st.composite
def lookalikes(draw: st.DrawFn) -> list[int]:
    """Some hashes, and others made of them by turning bits over."""
    bases = draw(st.lists(st.integers(0, 2**64 - 1), min_size=1, max_size=6))
    turned = st.builds(
        lambda base, bits: base ^ sum(1 << bit for bit in bits),
        st.sampled_from(bases),
        st.sets(st.integers(0, 63), max_size=20),
    )
    return draw(st.lists(st.one_of(st.sampled_from(bases), turned), max_size=40))


@settings(deadline=None)  # the first call of a process may be slow
@given(lookalikes(), BITS)
def test_equals_comparing_all_pairs(codes: list[int], max_bits: int) -> None:
    assert near_duplicates(hashes(codes), max_bits).tolist() == brute_force(codes, max_bits)


@pytest.mark.parametrize("max_bits", [0, 1, 4, 6, 11, 16])
@pytest.mark.parametrize("kind", ["spread", "crowded", "dark"])
def test_thousands_of_hashes(kind: str, max_bits: int) -> None:
    rng = np.random.default_rng(max_bits)
    codes = rng.integers(0, 2**63, 5000, np.uint64)
    if kind == "crowded":  # thousands share bands without looking the same
        codes &= np.uint64(0xFFFF_FFFF_0000_0000)
    if kind == "dark":  # thousands look nearly the same
        codes[::2] &= rng.integers(0, 2**63, 2500, np.uint64) & rng.integers(0, 2**63, 2500, np.uint64)
        codes[::4] &= rng.integers(0, 2**63, 1250, np.uint64) & rng.integers(0, 2**63, 1250, np.uint64)
    copies = rng.integers(0, 5000, 1500)
    codes[rng.choice(5000, 1500, replace=False)] = codes[copies] ^ np.uint64(0b101) << rng.integers(
        0, 60, 1500, np.uint64
    )
    assert near_duplicates(hashes(codes), max_bits).tolist() == brute_force(codes, max_bits)


def test_the_first_of_equal_pictures_stands_for_all() -> None:
    assert near_duplicates(hashes([9, 5, 9, 5, 9]), 0).tolist() == [0, 1, 0, 1, 0]


def test_a_duplicate_stands_for_nothing() -> None:
    # the second is within 2 bits of the first and is gone; the third, 2 bits from it but 4 from the first, stays
    assert near_duplicates(hashes([0b0000, 0b0011, 0b1111]), 2).tolist() == [0, 0, 2]


def test_no_pictures() -> None:
    assert near_duplicates(hashes([]), 4).tolist() == []


@pytest.mark.parametrize("bad", ["", "12", "xyz4567890123456", "0123456789abcdef0", "0123456789ABCDEF"])
def test_what_is_no_hash_is_refused(bad: str) -> None:
    with pytest.raises(DataError, match="no perceptual hash of 16 hex digits"):
        near_duplicates(pd.Series(["0" * 16, bad], dtype="str"), 4)


def test_hamming_counts_bits() -> None:
    assert hamming(hashes([0, 0b111, 2**64 - 1]), hashes([0, 0b100, 0])).tolist() == [0, 2, 64]


def test_pictures_of_test_pools_are_preferred() -> None:
    rows = [("a/1", "train"), ("b/1", "test"), ("a/0", "train"), ("c/0", "test")]
    df = manifest_frame(empty_row(sample_id=sample_id, pool=pool) for sample_id, pool in rows)
    assert list(preferred_order(df)["sample_id"]) == ["b/1", "c/0", "a/0", "a/1"]
