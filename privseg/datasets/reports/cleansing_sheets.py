"""Which pictures the cleansing report shows: for every reason, every suspicion and three levels of the score."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from privseg.datasets.near_duplicates import hamming
from privseg.datasets.reports.contact_sheet import TILES, Tile
from privseg.datasets.sources.base import evenly_spaced

__all__ = ["SHOWN_REASONS", "Sheet", "choose_sheets"]

Row = Any  # of DataFrame.itertuples


@dataclass(frozen=True)
class Sheet:
    """What one contact sheet shows.

    Attributes:
        kind: ``reason``, ``suspect`` or ``score``.
        code: The reason, the suspicion, or ``low``, ``middle``, ``high``.
        count: Pictures it stands for.
        tiles: Those that are shown.
    """

    kind: str
    code: str
    count: int
    tiles: list[Tile]

    @property
    def file_name(self) -> str:
        """Of the JPEG beside the page."""
        return f"{self.kind}-{self.code}.jpg"


@dataclass(frozen=True)
class _View:
    """How the pictures of one code are put in order, and what is said below them.

    Attributes:
        order: Column to sort by.
        caption: Of one row.
        ascending: The direction that puts what lies nearest to the threshold first.
        spread: Show pictures evenly spaced over the order; else the first ones.
    """

    order: str
    caption: Callable[[Row], str]
    ascending: bool = True
    spread: bool = True


_REASONS: dict[str, _View] = {
    "unreadable": _View("sample_id", lambda row: ""),
    "too_small": _View("side", lambda row: f"{row.original_width}x{row.original_height} pixels", False),
    "blank": _View("pixel_std", lambda row: f"deviation {row.pixel_std:.2f}", False),
    "too_much_ignore": _View("ignore_ratio", lambda row: f"ignored {row.ignore_ratio:.1%}"),
    "too_little_human": _View("human_ratio", lambda row: f"human {row.human_ratio:.3%}", False),
    "too_much_human": _View("human_ratio", lambda row: f"human {row.human_ratio:.1%}"),
    "specks": _View("max_component_height", lambda row: f"tallest {row.max_component_height} pixels", False),
    "close_up": _View(
        "surveillance_score",
        lambda row: (
            f"score {row.surveillance_score:.2f}, largest {row.largest_component_ratio:.0%}, "
            f"borders {row.borders_touched}"
        ),
        False,
    ),
    "duplicate": _View("sample_id", lambda row: "the same bytes"),
    "near_duplicate": _View("bits", lambda row: f"{row.bits} of 64 bits differ", False),
}
SHOWN_REASONS = frozenset(_REASONS)
"""Those that have a sheet if they have a picture; what merging removes comes after the report."""
_SUSPICIONS: dict[str, _View] = {
    "box": _View("box_fill", lambda row: f"fills {row.box_fill:.1%} of its box"),
    "flat_contour": _View("contour_contrast", lambda row: f"contrast {row.contour_contrast:.2f}", False),
    "fragments": _View("components", lambda row: f"{row.components} components"),
    # By hash, because that puts most copies side by side.
    "copies_disagree": _View("phash", lambda row: f"human {row.human_ratio:.2%}", spread=False),
}
_SCORE = _View("surveillance_score", lambda row: f"score {row.surveillance_score:.2f}")
_LEVELS = {"low": (0.0, 0.4), "middle": (0.4, 0.7), "high": (0.7, 1.1)}


def choose_sheets(df: pd.DataFrame, root: Path) -> list[Sheet]:
    """The sheets of a cleansed manifest; codes that no picture has are left out.

    Of many pictures those shown are evenly spaced from the nearest to the threshold to the most extreme. A copy stands
    to the right of the picture that was kept instead of it. The score is shown by three levels of the kept pictures
    with people: below 0.4, below 0.7, and from there on.

    Args:
        df: A cleansed manifest.
        root: Folder that its paths are relative to.
    """
    rows = df.assign(side=df[["original_height", "original_width"]].min(axis="columns"), bits=_bits(df))
    rows.index = pd.Index(rows["sample_id"].to_numpy())
    removed = rows[rows["status"] == "removed"]
    suspect = rows["suspect"].str.split(",")
    people = rows[(rows["status"] == "kept") & rows["is_human"]]
    chosen = [("reason", code, view, removed[removed["reason"] == code]) for code, view in _REASONS.items()]
    chosen += [
        ("suspect", code, view, rows[[code in codes for codes in suspect]]) for code, view in _SUSPICIONS.items()
    ]
    for level, (least, below) in _LEVELS.items():
        part = people[people["surveillance_score"].between(least, below, inclusive="left")]
        chosen.append(("score", level, _SCORE, part))
    return [_sheet(kind, code, view, part, rows, root) for kind, code, view, part in chosen if len(part)]


def _bits(df: pd.DataFrame) -> pd.Series[int]:
    """Bits in which the hash of a copy differs from that of the picture it is a copy of; 0 for others."""
    copies = df.loc[df["duplicate_of"] != "", ["phash", "duplicate_of"]]
    keepers = df.set_index("sample_id")["phash"].reindex(copies["duplicate_of"])
    found = pd.Series(hamming(copies["phash"], keepers), index=copies.index)
    return found.reindex(df.index, fill_value=0)


def _sheet(kind: str, code: str, view: _View, part: pd.DataFrame, rows: pd.DataFrame, root: Path) -> Sheet:
    paired = (part["duplicate_of"] != "").all() and kind == "reason"
    ordered = part.sort_values([view.order, "sample_id"], ascending=[view.ascending, True])
    room = TILES // 2 if paired else TILES
    names = evenly_spaced(list(ordered["sample_id"]), room) if view.spread else list(ordered["sample_id"])[:room]
    tiles = []
    for row in part.loc[names].itertuples():
        if paired:
            tiles += [_tile(keeper, "kept", root) for keeper in rows.loc[[row.duplicate_of]].itertuples()]
        tiles.append(_tile(row, view.caption(row), root))
    return Sheet(kind, code, len(part), tiles)


def _tile(row: Row, caption: str, root: Path) -> Tile:
    lines = tuple(line for line in (row.sample_id, caption) if line)
    if not row.image_path:
        return Tile(None, None, lines, row.detail or "unreadable")
    return Tile(root / row.image_path, root / row.mask_path, lines)
