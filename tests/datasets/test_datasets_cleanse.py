"""Cleansing: every rule with its limit, their order, copies, and the report a person judges the rules by."""

from __future__ import annotations

import io
import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from privseg.datasets.cleanse import COPIES, RULES, cleanse, write_cleansing_report
from privseg.datasets.manifest import empty_row, manifest_frame
from privseg.datasets.near_duplicates import hamming
from privseg.errors import DataError
from privseg.params import CleanseParams, Params, load_params

UNHURRIED = settings(deadline=None, max_examples=25)  # the first call of a process may be slow
LIMITS = CleanseParams(
    min_original_side=120,
    min_human_ratio=0.001,
    max_human_ratio=0.6,
    max_component_ratio=0.5,
    max_borders_touched=2,
    min_surveillance_score=0.2,
    min_component_height=20,
    max_ignore_ratio=0.6,
    min_pixel_std=3.0,
    near_duplicate_bits=4,
)
PARAMS = load_params(Path(__file__).parents[2] / "params.yaml").model_copy(update={"cleanse": LIMITS})
GOOD = {
    "height": 512,
    "width": 512,
    "original_height": 480,
    "original_width": 640,
    "is_human": True,
    "human_ratio": 0.1,
    "components": 1,
    "people": 1,
    "largest_component_ratio": 0.1,
    "min_component_height": 90,
    "max_component_height": 90,
    "tallest_ratio": 0.2,
    "surveillance_score": 0.7,
    "pixel_std": 50.0,
    "pool": "train",
}
NOBODY = {
    "is_human": False,
    "human_ratio": 0.0,
    "components": 0,
    "people": 0,
    "largest_component_ratio": 0.0,
    "max_component_height": 0,
    "tallest_ratio": 0.0,
    "surveillance_score": 0.0,
}


def row(sample_id: str, **fields: Any) -> dict[str, Any]:
    """A good picture that looks like no other: hashes of two names differ in about half their bits."""
    look = f"{int.from_bytes(sample_id.encode(), 'big') * 0x9E37_79B9_7F4A_7C15 % 2**64:016x}"
    keys = {"sample_id": sample_id, "source": sample_id.split("/")[0], "sha256": sample_id, "phash": look}
    return empty_row(**{**GOOD, **keys, **fields})


def cleansed(*rows: dict[str, Any], params: Params = PARAMS) -> pd.DataFrame:
    return cleanse(params, manifest_frame(rows)).set_index("sample_id")


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({}, ""),
        (NOBODY, ""),
        ({"original_width": 120}, ""),
        ({"original_width": 119}, "too_small"),
        ({"original_height": 2, "original_width": 60_000}, "too_small"),
        ({"pixel_std": 3.0}, ""),
        ({"pixel_std": 2.9}, "blank"),
        ({"ignore_ratio": 0.6}, ""),
        ({"ignore_ratio": 0.61}, "too_much_ignore"),
        ({"human_ratio": 0.001}, ""),
        ({"human_ratio": 0.0009}, "too_little_human"),
        ({"human_ratio": 0.6}, ""),
        ({"human_ratio": 0.61}, "too_much_human"),
        ({"max_component_height": 20, "min_component_height": 1}, ""),
        ({"max_component_height": 19}, "specks"),
        ({"surveillance_score": 0.2}, ""),
        ({"surveillance_score": 0.19}, "close_up"),
        ({"largest_component_ratio": 0.5}, ""),
        ({"largest_component_ratio": 0.51}, "close_up"),
        ({"borders_touched": 2}, ""),
        ({"borders_touched": 3}, "close_up"),
        # the first reason that applies is the one that is named
        ({"original_width": 20, "pixel_std": 0.0}, "too_small"),
        ({"pixel_std": 0.0, "human_ratio": 0.9}, "blank"),
        ({"ignore_ratio": 0.9, "human_ratio": 0.9}, "too_much_ignore"),
        ({"human_ratio": 0.0001, "max_component_height": 1}, "too_little_human"),
        ({"human_ratio": 0.9, "surveillance_score": 0.01}, "too_much_human"),
        ({"max_component_height": 5, "surveillance_score": 0.1}, "specks"),
    ],
)
def test_rules_and_their_order(fields: dict[str, Any], reason: str) -> None:
    df = cleansed(row("a/1", **fields), row("a/2"))
    assert list(df["reason"]) == [reason, ""]
    assert list(df["status"]) == ["removed" if reason else "kept", "kept"]


def test_of_equal_files_the_test_copy_stays_else_the_first_by_name() -> None:
    copies = [row(f"a/{number}", sha256="same", pool=pool) for number, pool in enumerate(["train", "train", "test"])]
    df = cleansed(*copies, row("b/1", sha256="mine"), row("b/2", sha256="mine"))
    assert list(df["reason"]) == ["duplicate", "duplicate", "", "", "duplicate"]
    assert list(df["duplicate_of"]) == ["a/2", "a/2", "", "", "b/1"]


def test_a_copy_of_a_near_duplicate_names_the_picture_that_is_kept() -> None:
    df = cleansed(
        row("a/1", sha256="same", phash="0000000000000000"),
        row("a/2", sha256="same", phash="0000000000000000"),
        row("b/1", phash="0000000000000001", pool="test"),
    )
    assert list(df["reason"]) == ["near_duplicate", "duplicate", ""]
    assert list(df["duplicate_of"]) == ["b/1", "b/1", ""]


def test_of_pictures_that_look_alike_one_stays() -> None:
    df = cleansed(
        row("a/1", phash="00000000000000ff"),
        row("a/2", phash="00000000000000f0"),
        row("a/3", phash="00000000000000e0"),  # 5 bits from a/1, 1 from a/2, which is gone
        row("b/1", phash="ff00000000000000"),
        row("b/2", phash="ff00000000000001", pool="test"),
    )
    assert list(df["reason"]) == ["", "near_duplicate", "", "near_duplicate", ""]
    assert list(df["duplicate_of"]) == ["", "a/1", "", "b/2", ""]


def test_a_copy_of_a_removed_picture_is_judged_on_its_own() -> None:
    df = cleansed(row("a/1", phash="f" * 16, ignore_ratio=0.9), row("a/2", phash="f" * 16))
    assert list(df["reason"]) == ["too_much_ignore", ""]


def test_unreadable_stays_unreadable_and_is_no_duplicate() -> None:
    broken = {"status": "removed", "reason": "unreadable", "sha256": "", "phash": "", "original_width": 0}
    df = cleansed(row("a/1", **broken, detail="x: broken"), row("a/2", **broken), row("a/3"))
    assert list(df["reason"]) == ["unreadable", "unreadable", ""]
    assert list(df["detail"]) == ["x: broken", "", ""]


def test_what_was_not_analysed_is_refused() -> None:
    with pytest.raises(DataError, match=r"^a/2: has no surveillance score. Next: run the analyse stage first$"):
        cleansed(row("a/1"), row("a/2", surveillance_score=0.0))


def test_nothing_but_status_reason_and_duplicate_of_changes() -> None:
    rows = [row(f"a/{number}", pixel_std=float(number), suspect="box") for number in range(6)]
    before = manifest_frame([*rows, row("b/1", sha256="a/5")])
    after = cleanse(PARAMS, before)
    filled = ["status", "reason", "duplicate_of"]
    pd.testing.assert_frame_equal(after.drop(columns=filled), before.drop(columns=filled))
    assert (before["status"] == "kept").all()  # the argument is left alone


LOOKS = st.lists(
    st.tuples(st.integers(0, 255), st.sampled_from(["train", "test"]), st.booleans()), min_size=1, max_size=20
)


@UNHURRIED
@given(LOOKS, st.integers(0, 8), st.randoms(use_true_random=False))
def test_kept_pictures_are_further_apart_and_row_order_does_not_matter(
    looks: list[tuple[int, str, bool]], bits: int, random: Any
) -> None:
    params = PARAMS.model_copy(update={"cleanse": LIMITS.model_copy(update={"near_duplicate_bits": bits})})
    df = manifest_frame(
        row(f"a/{number:02d}", phash=f"{look:016x}", pool=pool, pixel_std=50.0 if sharp else 0.0)
        for number, (look, pool, sharp) in enumerate(looks)
    )
    result = cleanse(params, df)
    kept = result[result["status"] == "kept"]
    pairs = kept[["phash"]].merge(kept[["phash"]], how="cross")
    apart = hamming(pairs["phash_x"], pairs["phash_y"]).reshape(len(kept), len(kept))
    assert (apart[np.triu_indices(len(kept), 1)] > bits).all()
    copies = result[result["duplicate_of"] != ""]
    assert set(copies["reason"]) <= {rule.__name__ for rule in COPIES}
    assert set(copies["duplicate_of"]) <= set(kept["sample_id"])
    pools = kept.set_index("sample_id")["pool"]
    assert not ((copies["pool"] == "test") & (copies["duplicate_of"].map(pools) == "train")).any()
    order = list(range(len(df)))
    random.shuffle(order)
    shuffled = cleanse(params, df.iloc[order].reset_index(drop=True))
    pd.testing.assert_frame_equal(shuffled.sort_values("sample_id", ignore_index=True), result)


def picture(root: Path, name: str, person: tuple[int, int, int, int]) -> dict[str, str]:
    """Write a 64 x 64 picture and its mask; give the paths as a manifest has them."""
    rng = np.random.default_rng(sum(person))
    mask = np.zeros((64, 64), np.uint8)
    left, top, width, height = person
    mask[top : top + height, left : left + width] = 1
    mask[:4] = 255
    paths = {"image_path": f"{name}.jpg", "mask_path": f"{name}.png"}
    (root / name).parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(rng.integers(0, 256, (64, 64, 3), np.uint8)).save(root / paths["image_path"])
    Image.fromarray(mask).save(root / paths["mask_path"])
    return paths


@pytest.fixture
def judged(tmp_path: Path) -> pd.DataFrame:
    """A cleansed manifest with files: one picture a reason, a suspect, a missing file and an unreadable one."""
    root = tmp_path / "data"
    fields: dict[str, dict[str, Any]] = {
        "a/blank": {"pixel_std": 1.0},
        "a/close": {"surveillance_score": 0.1, "tallest_ratio": 0.9, "human_ratio": 0.4},
        "a/good": {"phash": "00000000000000ff", "suspect": "box,fragments"},
        "a/ignored": {"ignore_ratio": 0.9},
        "a/large": {"human_ratio": 0.7},
        "a/nobody": NOBODY,
        "a/same": {"sha256": "a/good", "phash": "00000000000000ff"},
        "a/similar": {"phash": "00000000000000fc"},
        "a/small": {"original_width": 20},
        "a/specks": {"max_component_height": 3},
        "b/little": {"human_ratio": 0.0001, "suspect": "flat_contour"},
        "b/other": {"surveillance_score": 0.95, "human_ratio": 0.02},
    }
    rows = [row(name, **picture(root, name, (10, 20, 15, 30)), **more) for name, more in fields.items()]
    gone = {"image_path": "b/gone.jpg", "mask_path": "b/gone.png", "surveillance_score": 0.3}
    broken = {"status": "removed", "reason": "unreadable", "detail": "raw/x.jpg: <broken>", "is_human": False}
    return cleanse(PARAMS, manifest_frame([*rows, row("b/gone", **gone), row("b/broken", **broken)]))


def test_report_counts_before_and_after(judged: pd.DataFrame, tmp_path: Path) -> None:
    report = write_cleansing_report(PARAMS, judged, tmp_path / "data", tmp_path / "report")
    assert json.loads((tmp_path / "report" / "report.json").read_text()) == report
    assert report["images"] == 14
    assert report["kept"] == 4
    every = [*(rule.__name__ for rule in (*RULES, *COPIES)), "unreadable"]
    assert report["removed"] == dict.fromkeys(sorted(every), 1)
    assert report["removed_by_source"]["b"] == {"too_little_human": 1, "unreadable": 1}
    readable, kept = judged[judged["reason"] != "unreadable"], judged[judged["status"] == "kept"]
    for part, rows in ((report["before"], readable), (report["after"], kept)):
        assert part["images"] == len(rows)
        assert part["with_people"] == rows["is_human"].sum()
        assert part["mean_human_ratio"] == pytest.approx(rows["human_ratio"].mean(), abs=1e-6)
        assert part["mean_tallest_ratio"] == pytest.approx(rows.loc[rows["is_human"], "tallest_ratio"].mean(), abs=1e-6)
    assert report["by_source"]["b"]["after"]["images"] == 2
    assert [(one["before"], one["after"]) for one in report["by_surveillance_score"]] == [
        (1, 0), (1, 1), (0, 0), (9, 1), (1, 1),
    ]  # fmt: skip
    assert report["by_surveillance_score"][0]["mean_human_ratio"] == pytest.approx(0.4)
    assert report["by_surveillance_score"][2]["mean_human_ratio"] is None
    assert report["suspects"] == {"box": 1, "flat_contour": 1, "fragments": 1}
    assert report["suspects_kept"] == {"box": 1, "fragments": 1}
    listed = pd.read_csv(tmp_path / "report" / "suspects.csv")
    assert list(listed["sample_id"]) == ["a/good", "b/little"]


def test_page_shows_a_sheet_for_every_reason_suspicion_and_level(judged: pd.DataFrame, tmp_path: Path) -> None:
    write_cleansing_report(PARAMS, judged, tmp_path / "data", tmp_path / "report")
    page = (tmp_path / "report" / "index.html").read_text()
    shown = re.findall(r'<img src="([^"]+)"', page)
    reasons = ["unreadable", *(rule.__name__ for rule in (*RULES, *COPIES))]
    expected = {f"reason-{code}.jpg" for code in reasons}
    expected |= {f"suspect-{code}.jpg" for code in ("box", "flat_contour", "fragments")}
    expected |= {"score-low.jpg", "score-middle.jpg", "score-high.jpg"} - {"score-middle.jpg"}
    assert set(shown) == expected
    assert {path.name for path in (tmp_path / "report").glob("*.jpg")} == expected
    for name in shown:
        Image.open(tmp_path / "report" / name).verify()
    assert not re.search(r'(?:src|href)="(?:https?:)?//', page)
    assert "0.2" in page  # the thresholds in force


def test_a_copy_is_shown_beside_the_picture_that_was_kept(judged: pd.DataFrame, tmp_path: Path) -> None:
    write_cleansing_report(PARAMS, judged, tmp_path / "data", tmp_path / "report")
    pair, single = (Image.open(tmp_path / "report" / f"reason-{code}.jpg") for code in ("near_duplicate", "blank"))
    first, second = (np.asarray(pair)[8:200, left : left + 192].std() for left in (8, 208))
    assert first > 20
    assert second > 20
    assert np.asarray(single)[8:200, 208:400].std() < 2  # paper


def test_equal_data_gives_equal_reports_and_leaves_no_old_sheet(judged: pd.DataFrame, tmp_path: Path) -> None:
    root, first, second = (tmp_path / name for name in ("data", "first", "second"))
    write_cleansing_report(PARAMS, judged, root, first)
    second.mkdir()
    (second / "reason-portrait.jpg").write_bytes(b"of an older report")
    write_cleansing_report(PARAMS, judged.sample(frac=1, random_state=1), root, second)
    assert {path.name: path.read_bytes() for path in first.iterdir()} == {
        path.name: path.read_bytes() for path in second.iterdir()
    }


def test_a_manifest_without_pictures_has_a_report(tmp_path: Path) -> None:
    report = write_cleansing_report(PARAMS, manifest_frame([]), tmp_path, tmp_path / "report")
    assert report["images"] == 0
    assert report["before"]["mean_human_ratio"] is None
    assert "<img" not in (tmp_path / "report" / "index.html").read_text()


def test_many_pictures_fill_one_sheet(tmp_path: Path) -> None:
    rows = [
        row(f"a/{number:03d}", **picture(tmp_path, f"a/{number:03d}", (number % 40, 10, 8, 20)), pixel_std=number / 50)
        for number in range(60)
    ]
    write_cleansing_report(PARAMS, cleanse(PARAMS, manifest_frame(rows)), tmp_path, tmp_path / "report")
    sheet = Image.open(io.BytesIO((tmp_path / "report" / "reason-blank.jpg").read_bytes()))
    assert sheet.size == (6 * 200 + 8, 4 * 250 + 8)
