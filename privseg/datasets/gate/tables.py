"""The tables the dataset gate looks at: the manifest's rows, and facts read from the files they name."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from privseg.datasets.drift import BINS, Baseline, Drift, bins_of, compare, distribution
from privseg.datasets.gate.files import inspect_files
from privseg.datasets.near_duplicates import near_duplicates, preferred_order
from privseg.datasets.split import SPLITS
from privseg.params import Params

__all__ = ["PHASH", "Tables", "build_tables"]

# Absolute, with a part that leads elsewhere, or with what is no separator everywhere. Without look-ahead, so that Arrow
# matches it for a hundred thousand rows at once.
_OUTSIDE = r"^/|(?:^|/)\.\.?(?:/|$)|[\\\x00\n]"
_AFTER_CLEANSING = ("surplus_no_human",)  # removed since it was chosen to stand for its copies
PHASH = r"^[0-9a-f]{16}$"
_EXAMPLES = 20
_MANIFEST = [
    "sample_id",
    "status",
    "human_ratio",
    "tallest_ratio",
    "surveillance_score",
    "source_fits",
    "paths_inside",
    "duplicate_fits",
    "people_consistent",
    "people_are_components",
]
_KEPT = [
    "sample_id",
    "reason",
    "height",
    "width",
    "ignore_ratio",
    "phash",
    "split",
    "pool_fits_split",
    "bytes_alone",
    "look_alone",
    "near_alone",
    "no_near_copy",
]


@dataclass(frozen=True)
class Tables:
    """What the checks run on.

    Attributes:
        frames: columns (the manifest without rows), manifest (all rows), kept, removed, files, hashed and pixels (what
            `inspect_files` found), sources (one row a source) and summary (one row of counts). They hold no more
            columns than are looked at.
        training_pool: Kept images that were divided into train and validation.
        baseline: The version compared with, '' if there is none.
        drift: How its people differ, by measure; empty if there is no baseline.
        distribution: That of this version.
        suspects: For a check on the summary, the sample ids to name when it fails.
        faults: What is wrong with a sample, by sample id, beginning with the file; or with a source, by its name.
        root: Folder that the images are relative to.
        images: Image path by sample id.
    """

    frames: dict[str, pd.DataFrame]
    training_pool: int
    baseline: str
    drift: dict[str, Drift]
    distribution: dict[str, object]
    suspects: dict[str, list[str]]
    faults: dict[str, str]
    root: Path
    images: pd.Series[str]

    def named(self, key: str) -> str:
        """The sample or source with what is wrong with it, else with its image file if it has one."""
        if key in self.faults:
            return f"{key} ({self.faults[key]})"
        image = next((path for path in self.images[self.images.index == key] if path), "")
        return f"{key} ({self.root / image})" if image else key


def build_tables(params: Params, df: pd.DataFrame, root: Path, baseline: Baseline | None) -> Tables:
    """Derive the tables, and look at the files."""
    columns = df.head(0)
    df = _judge_rows(df.sort_values("sample_id", ignore_index=True))
    kept, removed = (df[df["status"] == status] for status in ("kept", "removed"))
    kept = _judge_splits(kept, params.cleanse.near_duplicate_bits)
    found = inspect_files(params, kept, root)
    unreadable = removed[removed["reason"] == "unreadable"]
    sources = _sources(params, df, kept)
    spread = distribution(df)
    drift = {} if baseline is None else compare(baseline, spread)
    surplus = _surplus(kept, params.merge.no_human_share)
    counts = _summary(df, kept) | {
        "unreadable": len(unreadable),
        "surplus_no_human": sum(len(rows) for rows in surplus),
        **{f"psi_{measure}": drift[measure].psi if drift else 0.0 for measure in BINS},
    }
    suspects = {
        "unreadable": unreadable["sample_id"],
        "removed_share": removed["sample_id"],
        "surplus_no_human": pd.concat([rows["sample_id"] for rows in surplus]),
        "suspect_share": kept.loc[kept["suspect"] != "", "sample_id"],
    }
    for measure, one in drift.items():
        shifted = _shifted(kept, measure, one)
        suspects |= {f"drift_{measure}": shifted, f"drift_{measure}_warning": shifted}
    # Those that the two checks name: the first of each.
    twins = pd.concat([kept[~kept[column]].head(_EXAMPLES) for column in ("near_alone", "no_near_copy")])
    ids, paths, likes = (twins[column].tolist() for column in ("sample_id", "image_path", "looks_like"))
    copies = {name: f"{root / path}: looks like {like}" for name, path, like in zip(ids, paths, likes, strict=True)}
    details = dict(zip(unreadable["sample_id"], unreadable["detail"], strict=True))
    return Tables(
        frames={
            "columns": columns,
            "manifest": df[_MANIFEST],
            "kept": kept[_KEPT],
            "removed": removed[["sample_id", "reason"]],
            "files": found.files,
            "hashed": found.hashed,
            "pixels": found.pixels,
            "sources": sources,
            "summary": pd.DataFrame({name: [value] for name, value in counts.items()}),
        },
        training_pool=int(kept["split"].isin(("train", "validation")).sum()),
        baseline="" if baseline is None else baseline.dataset_version,
        drift=drift,
        distribution=spread,
        suspects={name: list(samples.head(_EXAMPLES)) for name, samples in suspects.items()},
        faults=copies | details | found.faults | _empty_sources(df, sources, params.gate.min_source_images),
        root=root,
        images=df.set_index("sample_id")["image_path"],
    )


def _judge_rows(df: pd.DataFrame) -> pd.DataFrame:
    """Add what must be true of every row."""
    stands = (df["status"] == "kept") | df["reason"].isin(_AFTER_CLEANSING)
    is_copy = df["reason"].isin(("duplicate", "near_duplicate"))
    names_one = df["duplicate_of"].isin(df.loc[stands, "sample_id"]) & (df["duplicate_of"] != df["sample_id"])
    shown = df["components"] > 0
    return df.assign(
        source_fits=df["sample_id"].str.replace(r"/.*$", "", regex=True) == df["source"],
        paths_inside=~(df["image_path"].str.contains(_OUTSIDE) | df["mask_path"].str.contains(_OUTSIDE)),
        duplicate_fits=np.where(is_copy, names_one, df["duplicate_of"] == ""),
        people_consistent=(df["is_human"] == shown) & ((df["human_ratio"] > 0) == shown),
        people_are_components=df["people"] <= df["components"],
    )


def _judge_splits(kept: pd.DataFrame, bits: int) -> pd.DataFrame:
    """Add what must be true of every kept row and the others that look like it.

    ``looks_like`` is the preferred row whose perceptual hash is near; '' if there is none.
    """
    hashed = preferred_order(kept[kept["phash"].str.match(PHASH)])  # another check is about the others
    keeper = hashed.iloc[near_duplicates(hashed["phash"], bits)]
    copies = hashed["sample_id"].to_numpy() != keeper["sample_id"].to_numpy()
    twin, twin_split = (
        pd.Series(keeper[name].to_numpy()[copies], hashed.index[copies]) for name in ("sample_id", "split")
    )
    return kept.assign(
        pool_fits_split=(kept["pool"] == "test") == (kept["split"] == "test"),
        bytes_alone=kept.groupby("sha256")["split"].transform("nunique") == 1,
        look_alone=kept.groupby("phash")["split"].transform("nunique") == 1,
        near_alone=kept["split"] == twin_split.reindex(kept.index).fillna(kept["split"]),
        looks_like=twin.reindex(kept.index).fillna(""),
        no_near_copy=~kept.index.isin(twin.index),
    )


def _sources(params: Params, df: pd.DataFrame, kept: pd.DataFrame) -> pd.DataFrame:
    """Images that every source in the manifest or in the parameters gives: kept ones, and those kept as a copy."""
    names = sorted({*params.sources, *df["source"].unique()})
    given = pd.concat([kept["source"], df.loc[df["duplicate_of"] != "", "source"]])
    counts = given.value_counts().reindex(names, fill_value=0)
    return pd.DataFrame({"source": names, "kept": counts.to_numpy()})


def _empty_sources(df: pd.DataFrame, sources: pd.DataFrame, least: int) -> dict[str, str]:
    """What became of sources that give fewer images than ``least``."""
    faults = {}
    for source, kept in sources[sources["kept"] < least].itertuples(index=False, name=None):
        rows = df[df["source"] == source]
        lost = rows[rows["status"] == "removed"].head(1)
        example = [f"; {row.sample_id} is removed: {row.reason}" for row in lost.itertuples()]
        faults[source] = f"source {source}: {kept} of {len(rows)} images are kept{''.join(example)}"
    return faults


def _surplus(kept: pd.DataFrame, share: float) -> list[pd.DataFrame]:
    """Pictures that show nobody, above ``share`` of those that show people, a pool; rounded up in favour."""
    surplus = []
    for _, rows in kept.groupby("pool"):
        nobody = rows[~rows["is_human"]]
        surplus.append(nobody.iloc[math.ceil(share * (len(rows) - len(nobody))) :])
    return surplus or [kept]


def _shifted(kept: pd.DataFrame, measure: str, drift: Drift) -> pd.Series[str]:
    """The pictures of the bin whose share grew most."""
    shares = [np.asarray(counts) / max(1, sum(counts)) for counts in (drift.previous, drift.current)]
    people = kept[kept["is_human"]]
    grown: pd.Series[str] = people["sample_id"][bins_of(people, measure) == np.argmax(shares[1] - shares[0])]
    return grown


def _summary(df: pd.DataFrame, kept: pd.DataFrame) -> dict[str, int | float]:
    people = kept.loc[kept["is_human"], "human_ratio"]
    by_split = {f"{name}_images": int((kept["split"] == name).sum()) for name in SPLITS}
    pool = by_split["train_images"] + by_split["validation_images"]
    return {
        "images": len(kept),
        **by_split,
        "validation_share": by_split["validation_images"] / max(1, pool),
        "human_share": len(people) / max(1, len(kept)),
        "mean_human_ratio": float(people.mean()) if len(people) else 0.0,
        "removed_share": 1 - len(kept) / max(1, len(df)),
        "suspect_share": float((kept["suspect"] != "").sum()) / max(1, len(kept)),
    }
