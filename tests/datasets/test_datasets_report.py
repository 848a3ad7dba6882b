"""The reports of a small dataset made by the real stages: complete, reproducible, and about nothing but the dataset."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from privseg.datasets.analyze import analyze, write_analysis
from privseg.datasets.cleanse import cleanse, write_cleansing_report
from privseg.datasets.identify import identify
from privseg.datasets.ingest import ingest
from privseg.datasets.manifest import dataset_version, read_manifest, write_manifest
from privseg.datasets.merge import merge
from privseg.datasets.reevaluate import reevaluate
from privseg.datasets.split import split
from privseg.errors import DataError
from privseg.params import Params

MakeParams = Callable[..., Params]
MakePairs = Callable[..., Path]
TABLES = {
    *("composition", "cleansing", "cleansing_sizes", "sources", "reasons", "split", "split_sizes"),
    *("splits_by_source", "scores", "suspects", "suspect_pictures"),
}
PLOTS = {"human_share.csv", "person_height.csv", "people.csv", "score.csv", "feet.png"}


@dataclass(frozen=True)
class Made:
    """A dataset on disk."""

    params: Params
    root: Path
    summary: dict[str, Any]

    def report(self, report_dir: Path, root: Path | None = None) -> dict[str, Any]:
        root = root or self.root
        return reevaluate(
            self.params,
            identified=root / "identified",
            ingested=root / "ingested",
            analysed=root / "analysed.parquet",
            manifest=root / "manifest.parquet",
            report_dir=report_dir,
        )


@pytest.fixture(scope="module")
def made(
    tmp_path_factory: pytest.TempPathFactory,
    make_params: MakeParams,
    make_pairs: MakePairs,
    pairs_source: dict[str, Any],
) -> Made:
    root = tmp_path_factory.mktemp("factory")
    for source, pool, count in (("street", "train", 14), ("street", "test", 5), ("hall", "train", 6)):
        seed = sum(map(ord, source + pool))
        make_pairs(root / "raw" / source / pool, [f"{pool}_{number}" for number in range(count)], seed=seed)
    empty = root / "raw/street/train"  # a picture without people, and one that cannot be read
    Image.fromarray(np.zeros((150, 200), np.uint8)).save(empty / "masks/train_3.png")
    (empty / "images/train_4.jpg").write_bytes(b"no picture")
    hall = {**pairs_source, "partitions": pairs_source["partitions"][:1], "terms": "research <only> | & free"}
    sources = {"street": {**pairs_source, "path": "street", "terms": "CC BY 4.0"}, "hall": {**hall, "path": "hall"}}
    # Random blocks all look portrait-like or alike to some rule: only the human share decides here.
    lenient = {"min_surveillance_score": 0.0, "max_component_ratio": 1.0, "max_borders_touched": 4}
    lenient |= {"min_component_height": 4}
    rules = {**lenient, "near_duplicate_bits": 0, "max_human_ratio": 0.0665}
    params = make_params(root / "raw", sources, image={"size": 64}, cleanse=rules, split={"validation_share": 0.3})
    for name in params.sources:
        identify(params, name, root / "identified" / name, processes=1)
        ingest(params, name, root / "ingested" / name, processes=1)
    analysed = analyze(params, [root / "ingested" / name / "manifest.parquet" for name in params.sources])
    write_manifest(root / "analysed.parquet", analysed)
    write_analysis(
        params, analysed, identified=root / "identified", ingested=root / "ingested", report_dir=root / "analysis"
    )
    write_manifest(root / "manifest.parquet", split(params, merge(params, cleanse(params, analysed))))
    unreported = Made(params, root, {})
    return Made(params, root, unreported.report(root / "report"))


@pytest.fixture
def copy(made: Made, tmp_path: Path) -> Path:
    """A copy of the dataset's tables, to break."""
    keep = shutil.ignore_patterns("images", "masks", "raw", "report", "analysis")
    return Path(shutil.copytree(made.root, tmp_path / "copy", ignore=keep))


def test_everything_is_written(made: Made) -> None:
    report = made.root / "report"
    assert {path.name for path in report.iterdir()} == {"index.html", "README.md", "tables", "plots"}
    assert {path.stem for path in (report / "tables").iterdir()} == TABLES
    assert {path.name for path in (report / "plots").iterdir()} == PLOTS
    before = made.root / "analysis"
    assert {path.stem for path in (before / "tables").iterdir()} == {"composition", "scores", "suspects"}
    assert {path.name for path in (before / "plots").iterdir()} == PLOTS
    assert "after" not in (before / "plots/score.csv").read_text(encoding="utf-8")


def test_summary_agrees_with_the_manifest_and_the_tables(made: Made) -> None:
    df = read_manifest(made.root / "manifest.parquet")
    kept = df[df["status"] == "kept"]
    assert 0 < len(kept) < len(df)
    summary = json.loads(json.dumps(made.summary))
    assert summary["dataset_version"] == dataset_version(df)
    before, after = (summary["cleansing"][name] for name in ("before", "after"))
    assert before["images"] == len(df) - 1  # one could not be read
    assert after["images"] == len(kept) == summary["total"]["kept"]
    assert before["people"] > after["people"] == kept["people"].sum()
    assert after["mean_human_ratio"] == pytest.approx(kept["human_ratio"].mean(), abs=1e-6)
    composition = pd.read_csv(made.root / "report/tables/composition.csv").set_index("Original Dataset")
    assert composition["Total Size"].to_dict() == {"street": 19, "hall": 6, "TOTAL": 25}
    # of the picture that cannot be decoded the label is known, but there is nothing to ingest
    assert composition["Human Train Size"]["street"] == 13
    assert composition["Human Train Size (with no-human)"]["street"] == 13
    reasons = pd.read_csv(made.root / "report/tables/reasons.csv").set_index("Reason")["TOTAL"]
    assert reasons["unreadable"] == 1
    assert reasons["TOTAL"] == len(df) - len(kept)
    suspects = pd.read_csv(made.root / "report/tables/suspect_pictures.csv")
    assert list(suspects["sample_id"]) == list(kept.loc[kept["suspect"] != "", "sample_id"])
    assert len(suspects) == summary["suspects"] > 0


def test_readme_says_what_it_is_and_how_to_get_it(made: Made) -> None:
    text = (made.root / "report/README.md").read_text(encoding="utf-8")
    version = made.summary["dataset_version"]
    assert f"privseg dataset checkout {version}" in text
    assert "CC BY 4.0" in text
    assert "research &lt;only&gt; | &amp; free" in text  # Markdown would let HTML pass
    assert "0.0665" in text  # the threshold in force
    assert "| TOTAL |" in text
    for block in re.findall(r"(?:^\|.*\n)+", text, re.MULTILINE):  # every line of a table has the same cells
        assert len({len(re.findall(r"(?<!\\)\|", line)) for line in block.splitlines()}) == 1


def test_page_stands_alone_links_on_and_escapes(made: Made) -> None:
    page = (made.root / "report/index.html").read_text(encoding="utf-8")
    assert made.summary["dataset_version"] in page
    assert 'href="../cleansing/index.html"' in page
    assert 'href="../validation/validation.html"' in page
    assert not re.search(r'(?:src|href)="(?:https?:)?//', page)
    assert "<script" not in page
    assert "research &lt;only&gt; | &amp; free" in page
    assert page.count("<svg") == 6
    assert "prefers-color-scheme: dark" in page
    analysis = (made.root / "analysis/index.html").read_text(encoding="utf-8")
    assert analysis.count("<svg") == 5  # one heat map
    assert "../cleansing" not in analysis


def test_links_to_contact_sheets_lead_to_one(made: Made, copy: Path, tmp_path: Path) -> None:
    df = read_manifest(copy / "manifest.parquet")
    write_cleansing_report(made.params, df, copy / "ingested", tmp_path / "cleansing")
    kept = df.index[df["status"] == "kept"]
    df.loc[kept[0], ["status", "reason", "split"]] = ["removed", "surplus_no_human", ""]  # by merging: has no sheet
    write_manifest(copy / "manifest.parquet", df)
    made.report(tmp_path / "dataset", copy)
    page, sheets = (tmp_path / name / "index.html" for name in ("dataset", "cleansing"))
    linked = set(re.findall(r'href="\.\./cleansing/index\.html#([^"]+)"', page.read_text(encoding="utf-8")))
    assert linked == {f"reason-{reason}" for reason in df["reason"] if reason not in ("", "surplus_no_human")}
    assert linked <= set(re.findall(r'id="([^"]+)"', sheets.read_text(encoding="utf-8")))


def test_the_same_dataset_gives_the_same_bytes_and_names_no_machine(made: Made, copy: Path, tmp_path: Path) -> None:
    assert made.report(tmp_path / "again", copy) == made.summary
    for first in sorted((made.root / "report").rglob("*.*")):
        data = first.read_bytes()
        assert data == (tmp_path / "again" / first.relative_to(made.root / "report")).read_bytes()
        assert str(made.root.parent).encode() not in data


def test_a_missing_table_is_named_with_the_command(made: Made, copy: Path, tmp_path: Path) -> None:
    (copy / "ingested/hall/people.parquet").unlink()
    with pytest.raises(DataError, match=r"hall/people\.parquet: .*dvc repro"):
        made.report(tmp_path / "out", copy)
    assert not (tmp_path / "out").exists()


def test_tables_of_different_runs_are_refused(made: Made, copy: Path, tmp_path: Path) -> None:
    analysed = read_manifest(copy / "analysed.parquet")
    write_manifest(copy / "analysed.parquet", analysed[analysed["sample_id"] != "hall/train_2"])
    with pytest.raises(DataError, match="hall/train_2"):
        made.report(tmp_path / "out", copy)
    df = read_manifest(copy / "manifest.parquet")
    for name, rows in (("analysed", analysed), ("manifest", df)):
        write_manifest(copy / f"{name}.parquet", rows[rows["sample_id"] != "hall/train_2"])
    with pytest.raises(DataError, match=r"people\.parquet: has people of hall/train_2"):
        made.report(tmp_path / "out", copy)


def test_a_dataset_of_which_nothing_is_left_is_still_reported(made: Made, copy: Path, tmp_path: Path) -> None:
    df = read_manifest(copy / "manifest.parquet").assign(status="removed", split="")
    df.loc[df["reason"] == "", "reason"] = "specks"
    write_manifest(copy / "manifest.parquet", df)
    summary = made.report(tmp_path / "out", copy)
    assert summary["cleansing"]["after"] == {
        "images": 0,
        "with_people": 0,
        "people": 0,
        "mean_human_ratio": None,
        "mean_human_ratio_with_people": None,
        "mean_surveillance_score": None,
    }
    assert (tmp_path / "out/README.md").is_file()


def test_a_source_without_parameters_is_refused(made: Made, tmp_path: Path) -> None:
    fewer = made.params.model_copy(update={"sources": {"street": made.params.sources["street"]}})
    with pytest.raises(DataError, match="hall: is in the manifest"):
        Made(fewer, made.root, {}).report(tmp_path / "out")
