"""What a training reads: the train split, as often as each source's weight says."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pandas as pd

from privseg.training.data import PersonDataset, people_files, split_rows


def test_a_source_is_drawn_as_often_as_its_weight_says(tiny_dataset: tuple[Path, Path], tmp_path: Path) -> None:
    manifest, root = tiny_dataset
    rows = pd.read_parquet(manifest)
    train = rows.index[(rows["split"] == "train") & (rows["status"] == "kept")]
    rows.loc[train[0], "source"] = "rare"
    rows.to_parquet(tmp_path / "manifest.parquet")

    plain = PersonDataset(tmp_path / "manifest.parquet", root, "train", [])
    assert len(plain) == len(train)

    weighted = PersonDataset(tmp_path / "manifest.parquet", root, "train", [], {"rare": 3.0})
    drawn = Counter(weighted.get_data_info(i)["img_path"] for i in range(len(weighted)))
    rare = str(root / rows.loc[train[0], "image_path"])
    assert drawn.pop(rare) == 15
    assert set(drawn.values()) == {5}
    assert len(drawn) == len(train) - 1


def test_pictures_without_people_can_be_drawn_more_often(tiny_dataset: tuple[Path, Path]) -> None:
    manifest, root = tiny_dataset
    dataset = PersonDataset(manifest, root, "train", [], {}, 1.6)
    drawn = Counter(dataset.get_data_info(i)["img_path"] for i in range(len(dataset)))
    rows = split_rows(manifest, root, "train")
    assert {True, False} == set(rows["is_human"])
    for path, people in zip(rows["image_path"], rows["is_human"], strict=True):
        assert drawn[str(root / path)] == (5 if people else 8)


def test_drawn_people_are_cut_out_only_where_there_are_no_others(tiny_dataset: tuple[Path, Path]) -> None:
    manifest, root = tiny_dataset
    rows = split_rows(manifest, root, "train")
    assert people_files(root, rows, set(rows["source"])) == people_files(root, rows)
    person = rows.index[rows["is_human"]][0]
    rows.loc[person, "source"] = "drawn"
    files = people_files(root, rows, {"drawn"})
    assert len(files) == int(rows["is_human"].sum()) - 1
    assert str(root / rows.loc[person, "image_path"]) not in {image for image, _ in files}


def test_only_pictures_with_people_are_cut_from(tiny_dataset: tuple[Path, Path]) -> None:
    manifest, root = tiny_dataset
    rows = split_rows(manifest, root, "train")
    files = people_files(root, rows)
    assert len(files) == int(rows["is_human"].sum())
    assert all(Path(image).is_file() and Path(mask).is_file() for image, mask in files)
