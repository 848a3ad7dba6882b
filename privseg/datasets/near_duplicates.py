"""Pictures that look the same: perceptual hashes that differ in few bits, found exactly without comparing all pairs.

Two 64-bit hashes that differ in at most *k* bits agree in at least one of *k* + 1 disjoint bands of bits (pigeonhole
principle; Norouzi, Punjani and Fleet: Fast search in Hamming space with multi-index hashing, CVPR 2012). So comparing
only hashes that share a band misses nothing.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from privseg.errors import DataError

__all__ = ["hamming", "near_duplicates", "preferred_order"]

_BLOCK = 2048  # hashes decided at a time
_PAIRS = 1 << 20  # compared at a time; bounds memory
_CROWDED = 256  # hashes that share a band; from here on one matrix is cheaper than a list of pairs
_BITS = 64

Codes = NDArray[np.uint64]
Places = NDArray[np.int64]


def preferred_order(df: pd.DataFrame) -> pd.DataFrame:
    """Rows in the order in which a picture is preferred to its copies: of test pools first, then by sample_id."""
    return df.sort_values(["pool", "sample_id"])  # "test" sorts before "train"


def near_duplicates(phash: pd.Series[str], max_bits: int) -> Places:
    """Say for every picture which one stands for it.

    Leader clustering in the given order: a picture that differs from an earlier kept one in at most ``max_bits`` bits
    is a duplicate of the first such picture; otherwise it is kept. So no two kept pictures are within ``max_bits``.

    Args:
        phash: Hashes of 16 hex digits, the preferred pictures first.
        max_bits: Bits of 64, 0..16.

    Returns:
        int64 ``(n,)``: for every row the position of its kept row, its own position if it is kept.

    Raises:
        DataError: A hash is not 16 hex digits.
    """
    codes, first, inverse = np.unique(_parse(phash), return_index=True, return_inverse=True)
    order = np.argsort(first)  # distinct hashes by first appearance: copies cost nothing, however many
    leaders = _leaders(codes[order], max_bits)
    keeper = np.empty(len(codes), np.int64)
    keeper[order] = first[order][leaders]
    return np.asarray(keeper[inverse])


def hamming(left: pd.Series[str], right: pd.Series[str]) -> NDArray[np.int64]:
    """Bits in which hashes of 16 hex digits differ, row by row: int64 ``(n,)``, 0..64."""
    return np.asarray(np.bitwise_count(_parse(left) ^ _parse(right)), np.int64)


def _parse(phash: pd.Series[str]) -> Codes:
    bad = phash[~phash.str.fullmatch("[0-9a-f]{16}")]
    if not bad.empty:
        raise DataError(repr(bad.iloc[0]), "is no perceptual hash of 16 hex digits", "run the ingest stage again")
    return np.fromiter((int(text, 16) for text in phash), np.uint64, len(phash))


def _leaders(codes: Codes, max_bits: int) -> Places:
    """For distinct hashes: the position of the one that stands for each."""
    kept = np.empty(len(codes), np.int64)
    leaders = np.arange(len(codes))
    count = 0
    for start in range(0, len(codes), _BLOCK):
        block = np.arange(start, min(start + _BLOCK, len(codes)))
        match = _first_match(codes[kept[:count]], codes[block], max_bits)
        leaders[block[match >= 0]] = kept[match[match >= 0]]
        undecided = block[match < 0]
        close = _differing(codes[undecided], codes[undecided]) <= max_bits
        alive = np.ones(len(undecided), np.bool_)
        for row in np.flatnonzero(np.tril(close, -1).any(axis=1)):
            earlier = np.flatnonzero(close[row, :row] & alive[:row])
            if len(earlier):
                alive[row] = False
                leaders[undecided[row]] = undecided[earlier[0]]
        survivors = undecided[alive]
        kept[count : count + len(survivors)] = survivors
        count += len(survivors)
    return leaders


def _first_match(kept: Codes, wanted: Codes, max_bits: int) -> Places:
    """For every wanted hash the lowest position in ``kept`` within ``max_bits``, or -1."""
    none = len(kept)
    best = np.full(len(wanted), none, np.int64)
    for shift, width in _bands(max_bits):
        keys, wanted_keys = _band(kept, shift, width), _band(wanted, shift, width)
        order = np.argsort(keys, kind="stable")  # radix sort of 16-bit numbers; ascending positions within a key
        sizes = np.bincount(keys, minlength=1 << width)
        size, low = sizes[wanted_keys], (np.cumsum(sizes) - sizes)[wanted_keys]
        crowded = size >= _CROWDED
        for key in np.unique(wanted_keys[crowded]):
            rows = np.flatnonzero(wanted_keys == key)
            members = order[low[rows[0]] : low[rows[0]] + size[rows[0]]]
            for some in np.array_split(rows, len(rows) * len(members) // _PAIRS + 1):
                close = _differing(wanted[some], kept[members]) <= max_bits
                best[some] = np.minimum(best[some], np.where(close.any(axis=1), members[close.argmax(axis=1)], none))
        for rows, places in _pairs(np.flatnonzero(~crowded), low, size):
            position = order[places]
            close = np.bitwise_count(wanted[rows] ^ kept[position]) <= max_bits
            np.minimum.at(best, rows[close], position[close])
    return np.where(best == none, -1, best)


def _pairs(rows: Places, low: Places, size: Places) -> Iterator[tuple[Places, Places]]:
    """Every row with each place of its range ``low .. low + size``, at most about a million pairs at a time."""
    if not len(rows):
        return
    for some in np.array_split(rows, int(size[rows].sum()) // _PAIRS + 1):
        repeated = np.repeat(some, size[some])
        offset = np.arange(len(repeated)) - np.repeat(np.cumsum(size[some]) - size[some], size[some])
        yield repeated, low[repeated] + offset


def _bands(max_bits: int) -> Iterator[tuple[int, int]]:
    """Shift and width of ``max_bits`` + 1 disjoint bands; they need not cover all bits."""
    width = min(16, _BITS // (max_bits + 1))
    return ((number * width, width) for number in range(max_bits + 1))


def _band(codes: Codes, shift: int, width: int) -> NDArray[np.uint16]:
    return ((codes >> np.uint64(shift)) & np.uint64((1 << width) - 1)).astype(np.uint16)


def _differing(left: Codes, right: Codes) -> NDArray[np.uint8]:
    """Bits in which every left hash differs from every right one."""
    return np.asarray(np.bitwise_count(left[:, None] ^ right))
