"""The human mask of real files equals, pixel for pixel, what their native labels say, read here by other means."""

from __future__ import annotations

import contextlib
import io
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from pycocotools.coco import COCO

from privseg.datasets.sources.base import Sample
from privseg.datasets.sources.registry import open_source
from privseg.params import SourceParams


def samples_of(root: Path, **fields: Any) -> list[Sample]:
    found = list(open_source("some", SourceParams.model_validate(fields), raw_root=root, size=64, seed=0).samples())
    assert [sample.name for sample in found] == sorted(sample.name for sample in found)
    return found


def loaded(sample: Sample) -> tuple[np.ndarray, np.ndarray]:
    """Image and mask, as a worker process gets them; the mask alone is the same one."""
    image, mask = pickle.loads(pickle.dumps(sample)).load()  # noqa: S301 - as worker processes get it
    assert image.dtype == mask.dtype == np.uint8
    assert image.shape == (*mask.shape, 3)
    assert set(np.unique(mask)) <= {0, 1, 255}
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(sample)).load_mask(), mask)  # noqa: S301
    return image, mask


def pixels_of(path: Path, mode: str | None = None) -> np.ndarray:
    """What Pillow gives: of palette files the indices."""
    with Image.open(path) as picture:
        return np.array(picture.convert(mode) if mode else picture)


def pools_of(samples: list[Sample]) -> dict[str, int]:
    return {pool: sum(sample.pool == pool for sample in samples) for pool in ("train", "test")}


def check(samples: list[Sample], labels: dict[str, Path], *, human: int, ignore: int, with_people: int) -> None:
    """Every sample's mask against its label file."""
    assert {sample.name for sample in samples} <= set(labels)
    seen = 0
    for sample in samples:
        assert labels[sample.name] in sample.files
        raw = pixels_of(labels[sample.name])
        _, mask = loaded(sample)
        np.testing.assert_array_equal(mask == 1, raw == human)
        np.testing.assert_array_equal(mask == 255, raw == ignore)
        seen += bool((raw == human).any())
    assert seen == with_people


def test_voc_people_are_class_15_and_the_border_stays_255(privseg_data: Path) -> None:
    root = privseg_data / "VOCdevkit/VOC2012"
    found = samples_of(privseg_data, kind="voc", path="VOCdevkit/VOC2012")
    labels = {file.stem: file for file in (root / "SegmentationClass").iterdir()}
    check(found, labels, human=15, ignore=255, with_people=2)
    assert pools_of(found) == {"train": 2, "test": 1}
    assert any((sample.load_mask() == 255).any() for sample in found)


def test_cocostuff_people_are_0_of_the_raw_maps(privseg_data: Path) -> None:
    found = samples_of(privseg_data, kind="cocostuff164k", path="cocostuff164k")
    labels = {file.stem: file for file in (privseg_data / "cocostuff164k/stuffthingmaps").rglob("*.png")}
    check(found, labels, human=0, ignore=255, with_people=13)
    assert pools_of(found) == {"train": 13, "test": 8}


def test_cocostuff_people_are_0_of_the_training_ids_made_from_them(privseg_data: Path, tmp_path: Path) -> None:
    for part in ("train2017", "val2017"):
        (tmp_path / "annotations" / part).mkdir(parents=True)
        (tmp_path / "images" / part).mkdir(parents=True)
        for file in (privseg_data / "cocostuff164k/stuffthingmaps" / part).iterdir():
            raw = pixels_of(file)
            kept = sorted({*range(182)} - {11, 25, 28, 29, 44, 65, 67, 68, 70, 82, 90})  # ids COCO-Stuff never gives
            train_ids = np.full(256, 255, np.uint8)
            train_ids[kept] = np.arange(len(kept))
            Image.fromarray(train_ids[raw]).save(tmp_path / "annotations" / part / f"{file.stem}_labelTrainIds.png")
            image = f"images/{part}/{file.stem}.jpg"
            (tmp_path / image).write_bytes((privseg_data / "cocostuff164k" / image).read_bytes())
    found = samples_of(tmp_path, kind="cocostuff164k")
    raw_maps = {sample.name: sample for sample in samples_of(privseg_data, kind="cocostuff164k", path="cocostuff164k")}
    assert len(found) == len(raw_maps)
    for sample in found:
        assert sample.files[1].name.endswith("_labelTrainIds.png")
        np.testing.assert_array_equal(loaded(sample)[1], raw_maps[sample.name].load_mask())


def test_ade20k_people_are_13_and_0_is_unlabelled(privseg_data: Path) -> None:
    found = samples_of(privseg_data, kind="ade20k", path="ADEChallengeData2016")
    labels = {file.stem: file for file in (privseg_data / "ADEChallengeData2016/annotations").rglob("*.png")}
    check(found, labels, human=13, ignore=0, with_people=1)
    assert pools_of(found) == {"train": 2, "test": 3}


@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # pycocotools' own, with numpy 2
@pytest.mark.parametrize("part", ["train2017", "val2017"])
def test_coco_people_are_what_pycocotools_draws(part: str, privseg_data: Path) -> None:
    with contextlib.redirect_stdout(io.StringIO()):
        coco = COCO(str(privseg_data / f"coco2017/annotations/instances_{part}.json"))
    pool = "train" if part == "train2017" else "test"
    found = [
        sample for sample in samples_of(privseg_data, kind="coco_instances", path="coco2017") if sample.pool == pool
    ]
    images = {Path(image["file_name"]).stem: image for image in coco.imgs.values()}
    assert {sample.name for sample in found} == set(images)
    crowds = people = 0
    for sample in found:
        info = images[sample.name]
        human, crowd = np.zeros((2, info["height"], info["width"]), bool)
        for annotation in coco.loadAnns(coco.getAnnIds([info["id"]], catIds=coco.getCatIds(["person"]))):
            if annotation["iscrowd"]:
                crowd |= coco.annToMask(annotation).astype(bool)
            else:
                human |= coco.annToMask(annotation).astype(bool)
        image, mask = loaded(sample)
        np.testing.assert_array_equal(image, pixels_of(sample.files[0], "RGB"))
        np.testing.assert_array_equal(mask == 1, human)
        np.testing.assert_array_equal(mask == 255, crowd & ~human)
        crowds += bool(crowd.any())
        people += bool(human.any())
    assert people >= 20
    assert crowds >= 3


def test_coco_pictures_in_two_sources_show_the_same_people(privseg_data: Path) -> None:
    """Pictures that lie both as instances and as ready-made masks: other tools filled the outlines."""
    partitions = [
        {"pool": pool, "images": f"{part}/images", "masks": f"{part}/masks"}
        for pool, part in (("train", "train"), ("test", "val"))
    ]
    ready = samples_of(
        privseg_data, kind="pairs", path="pairs/coco_person", human=[1], ignore=[255], partitions=partitions
    )
    drawn = {sample.name: sample for sample in samples_of(privseg_data, kind="coco_instances", path="coco2017")}
    both = [sample for sample in ready if sample.name in drawn]
    assert len(both) >= 50
    shared = either = 0
    for sample in both:
        ours, theirs = (mask == 1 for mask in (drawn[sample.name].load_mask(), sample.load_mask()))
        assert ours.any() == theirs.any()
        shared += int((ours & theirs).sum())
        either += int((ours | theirs).sum())
    assert shared / either > 0.95


def test_pennfudan_instance_ids_are_all_people(privseg_data: Path) -> None:
    part = {"pool": "train", "images": "images", "masks": "masks", "mask_suffix": "_mask"}
    found = samples_of(privseg_data, kind="pairs", path="pairs/pennfudan", partitions=[part], limit=3)
    assert len(found) == 3
    for sample in found:
        raw = pixels_of(privseg_data / f"pairs/pennfudan/masks/{sample.name}_mask.png")
        np.testing.assert_array_equal(loaded(sample)[1], raw > 0)
