"""Cleanse: say which images are unfit, and why; no row is ever dropped."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pandas as pd

from privseg.datasets.manifest import merge_manifests
from privseg.params import CleanseParams, Params

__all__ = ["RULES", "cleanse"]

Rule = Callable[["pd.DataFrame", CleanseParams], "pd.Series[bool]"]


def too_small(df: pd.DataFrame, limits: CleanseParams) -> pd.Series[bool]:
    """The original picture holds too few pixels for a usable person."""
    return df[["original_height", "original_width"]].min(axis="columns") < limits.min_original_side


def portrait(df: pd.DataFrame, limits: CleanseParams) -> pd.Series[bool]:
    """People fill the picture: a portrait, not a camera's view."""
    return df["human_ratio"] > limits.max_human_ratio


def specks(df: pd.DataFrame, limits: CleanseParams) -> pd.Series[bool]:
    """There are people, but next to no pixels of them."""
    return df["is_human"] & (df["human_ratio"] < limits.min_human_ratio)


def too_short(df: pd.DataFrame, limits: CleanseParams) -> pd.Series[bool]:
    """There are people, but even the tallest is too low to be told from noise."""
    return df["is_human"] & (df["max_component_height"] < limits.min_component_height)


def too_much_ignore(df: pd.DataFrame, limits: CleanseParams) -> pd.Series[bool]:
    """Most of the picture is unlabelled."""
    return df["ignore_ratio"] > limits.max_ignore_ratio


def blank(df: pd.DataFrame, limits: CleanseParams) -> pd.Series[bool]:
    """The picture shows one colour, or nearly."""
    return df["pixel_std"] < limits.min_pixel_std


def duplicate(df: pd.DataFrame, limits: CleanseParams) -> pd.Series[bool]:
    """Image and mask equal another sample's byte for byte; the copy in a test pool stays, else the first by name."""
    ordered = df.sort_values(["pool", "sample_id"])  # "test" sorts before "train"
    return ordered["sha256"].duplicated().reindex(df.index)


RULES: tuple[Rule, ...] = (too_small, portrait, specks, too_short, too_much_ignore, blank, duplicate)
"""In order; an image gets the first reason that applies. A rule's name is its reason code."""


def cleanse(params: Params, manifests: list[Path]) -> pd.DataFrame:
    """Merge ingested manifests and mark what the rules of ``params.cleanse`` remove.

    Rules see the rows that are still kept: what could not be read stays ``unreadable``, and a copy of a removed
    image is judged on its own.

    Returns:
        The merged manifest; ``status`` and ``reason`` are filled.

    Raises:
        DataError: A manifest is missing or broken, or two of them hold the same sample.
    """
    df = merge_manifests(manifests)
    for rule in RULES:
        kept = df[df["status"] == "kept"]
        hit = kept.index[rule(kept, params.cleanse)]
        df.loc[hit, ["status", "reason"]] = ["removed", rule.__name__]
    return df
