"""Split: assign kept images to train, validation and test by hash, so that new data never moves an old image."""

from __future__ import annotations

import hashlib

import pandas as pd

from privseg.params import Params

__all__ = ["SPLITS", "hash_share", "split"]

SPLITS = ("train", "validation", "test")


def split(params: Params, df: pd.DataFrame) -> pd.DataFrame:
    """Assign every kept image.

    The test pool of a source is its test split. The training pool is divided by a hash of the image's perceptual
    hash: an assignment depends on nothing but the image's look, whatever it is called and whatever else there is. Of
    images that look the same or nearly so cleansing keeps one, the one of a test pool if there is one; so no look is
    in two splits.

    In a small dataset no image may fall to validation; training must do without then.

    Args:
        params: ``split.validation_share`` is read.
        df: A cleansed manifest.

    Returns:
        A copy with ``split`` filled; '' for removed rows. Splitting its result again changes nothing.
    """
    result = df.copy()
    kept = result["status"] == "kept"
    validates = result["phash"].map(hash_share) < params.split.validation_share
    result["split"] = ""
    result.loc[kept, "split"] = "train"
    result.loc[kept & validates, "split"] = "validation"
    result.loc[kept & (result["pool"] == "test"), "split"] = "test"
    return result


def hash_share(key: str) -> float:
    """A number in [0, 1] that depends on ``key`` alone: the first 64 bits of its sha256 digest over 2**64."""
    return int.from_bytes(hashlib.sha256(key.encode()).digest()[:8], "big") / 2**64
