"""Analyse: one table of all sources, scored and checked, and a summary that loses nothing."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest

from privseg.datasets.analyze import analyze, summarize
from privseg.datasets.manifest import empty_row, manifest_frame, write_manifest
from privseg.datasets.score import surveillance_score
from privseg.datasets.suspects import suspects
from privseg.errors import DataError, UsageError
from privseg.params import Params, load_params


@pytest.fixture(scope="module")
def params() -> Params:
    return load_params(Path(__file__).parents[2] / "params.yaml")


def person(sample_id: str, **values: Any) -> dict[str, Any]:
    """A picture of one distant person, whole, left of the middle."""
    look = hashlib.sha256(sample_id.encode()).hexdigest()[:16]
    figure = {"human_ratio": 0.02, "components": 1, "people": 1, "tallest_ratio": 0.2, "box_fill": 0.5}
    figure |= {"largest_component_ratio": 0.02, "foot_x": 0.2, "foot_y": 0.7, "contour_contrast": 30.0}
    made = {"source": sample_id.split("/")[0], "pool": "train", "is_human": True, "pixel_std": 50.0, "phash": look}
    return empty_row(**{"sample_id": sample_id, **made, **figure, **values})


def test_all_sources_scored_and_checked_and_nothing_else_touched(tmp_path: Path, params: Params) -> None:
    rows = {
        "b": [person("b/1"), person("b/2", box_fill=1.0)],
        "a": [
            person("a/1", tallest_ratio=1.0, borders_touched=3, truncated_ratio=1.0, foot_y=1.0, human_ratio=0.5),
            empty_row(sample_id="a/2", source="a", pool="test", status="removed", reason="unreadable", detail="x: y"),
        ],
    }
    for name, some in rows.items():
        write_manifest(tmp_path / f"{name}.parquet", manifest_frame(some))
    df = analyze(params, [tmp_path / "b.parquet", tmp_path / "a.parquet"])
    assert list(df["sample_id"]) == ["a/1", "a/2", "b/1", "b/2"]
    assert df["surveillance_score"].tolist() == surveillance_score(df).tolist()
    assert df["suspect"].tolist() == suspects(df, params.cleanse).tolist()
    score = df.set_index("sample_id")["surveillance_score"]
    assert score["b/1"] > score["a/1"] > score["a/2"] == 0.0
    assert "box" in df.set_index("sample_id")["suspect"]["b/2"]
    filled = ["surveillance_score", "suspect"]
    before = manifest_frame([*rows["a"], *rows["b"]])
    assert df.drop(columns=filled).equals(before.drop(columns=filled))


def test_a_sample_in_two_sources_is_named(tmp_path: Path, params: Params) -> None:
    for name in ("a", "b"):
        write_manifest(tmp_path / f"{name}.parquet", manifest_frame([person("a/1")]))
    with pytest.raises(DataError, match=r"a/1: is in more than one manifest"):
        analyze(params, [tmp_path / "a.parquet", tmp_path / "b.parquet"])
    with pytest.raises(UsageError):
        analyze(params, [])


def test_summary_breaks_down_by_score() -> None:
    df = manifest_frame(
        [
            person("a/1", surveillance_score=0.31, split="train", human_ratio=0.2, suspect="box"),
            person("a/2", surveillance_score=0.39, split="train", human_ratio=0.4),
            person("a/3", surveillance_score=0.35, status="removed", reason="specks", suspect="box"),
            person("a/4", surveillance_score=1.0, split="test", pool="test"),
            empty_row(sample_id="a/5", source="a", split="train"),
            empty_row(sample_id="a/6", source="a", status="removed", reason="unreadable"),
        ]
    )
    summary = json.loads(json.dumps(summarize(df)))
    assert summary["scores"] == {
        "0_3": {"images": 3, "kept": 2, "mean_human_ratio": 0.3},
        "0_9": {"images": 1, "kept": 1, "mean_human_ratio": 0.02},
        "no_people": {"images": 1, "kept": 1, "mean_human_ratio": 0.0},
    }
    assert summary["suspects"] == 1  # the kept one
    assert summary["total"]["removed"] == {"specks": 1, "unreadable": 1}
