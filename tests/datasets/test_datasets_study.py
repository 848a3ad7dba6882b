"""The study's figures that real pictures can be held against."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from privseg.datasets.analyze import analyze
from privseg.datasets.cleanse import cleanse
from privseg.datasets.identify import identify
from privseg.datasets.ingest import ingest
from privseg.datasets.isolate import add_no_human, isolate, write_chosen
from privseg.datasets.merge import merge
from privseg.params import check_params, read_params_file

PARAMS_FILE = Path(__file__).parents[2] / "params.yaml"
STUDYLIKE = ("voc", "cocostuff164k", "ade20k", "coco_instances", "coco_person")  # pictures of the study's datasets
STUDY = 0.11 / 0.126  # mean human share after cleansing over that before it, in training


def test_the_default_thresholds_move_the_mean_human_share_about_as_far_as_the_study(
    privseg_data: Path, tmp_path: Path
) -> None:
    values = read_params_file(PARAMS_FILE)
    sources = {name: values["public_sources"][name] for name in STUDYLIKE}
    params = check_params({**values, "raw_root": str(privseg_data), "sources": sources}, PARAMS_FILE)
    for name, source in params.sources.items():
        identified = identify(params, name, tmp_path / "identified" / name)
        chosen = add_no_human(identified, isolate(identified), source.no_human_share)
        write_chosen(tmp_path / "chosen" / name, {name: chosen})
        ingest(params, name, tmp_path / "ingested" / name, chosen=tmp_path / "chosen" / name / f"{name}.parquet")
    analysed = analyze(params, [tmp_path / "ingested" / name / "manifest.parquet" for name in STUDYLIKE])
    copies = cleanse(params, analysed)["reason"].isin(["duplicate", "near_duplicate"])
    before = analysed[~copies].reset_index(drop=True)  # the samples overlap, the study's datasets did not

    after = merge(params, cleanse(params, before))

    kept = after[after["status"] == "kept"]
    factor = kept["human_ratio"].mean() / before["human_ratio"].mean()
    assert abs(factor - STUDY) < 0.1, f"{factor:.3f}"
    assert len(kept) > len(before) / 2
    heights = [rows.loc[rows["is_human"], "tallest_ratio"].mean() for rows in (before, kept)]
    assert heights[1] < heights[0]
    pools = pd.crosstab(kept["pool"], kept["is_human"])
    assert (pools[False] <= (params.merge.no_human_share * pools[True]).round()).all()
