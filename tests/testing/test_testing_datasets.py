import numpy as np
import pytest
from PIL import Image

from privseg.datasets.sources.registry import open_source
from privseg.params import SourceParams
from privseg.testing.datasets import make_tiny_ade20k, make_tiny_cocostuff, make_tiny_pairs, make_tiny_voc


def stuffthingmaps(root, **options):
    return make_tiny_cocostuff(root, masks="stuffthingmaps", **options)


def label_train_ids(root, **options):
    return make_tiny_cocostuff(root, masks="labelTrainIds", **options)


def pairs(root, **options):
    return make_tiny_pairs(root, mask_suffix="_m", human=9, **options)


PAIRS = {
    "human": [9],
    "ignore": [255],
    "partitions": [
        {"pool": pool, "images": f"{pool}/images", "masks": f"{pool}/masks", "mask_suffix": "_m"}
        for pool in ("train", "test")
    ],
}
MAKERS = [
    (make_tiny_voc, "voc", {}),
    (stuffthingmaps, "cocostuff164k", {}),
    (label_train_ids, "cocostuff164k", {}),
    (make_tiny_ade20k, "ade20k", {}),
    (pairs, "pairs", PAIRS),
]


@pytest.mark.parametrize(("make", "kind", "params"), MAKERS)
def test_readers_get_back_what_the_makers_promise(tmp_path, make, kind, params):
    expected = make(tmp_path / "data", images=8, size=64)
    source = open_source("tiny", SourceParams(kind=kind, path="data", **params), raw_root=tmp_path, size=64, seed=0)
    samples = list(source.samples())
    assert {sample.name for sample in samples} == set(expected)
    assert [sample.pool for sample in samples].count("test") == 2
    for sample in samples:
        image, mask = sample.load()
        assert image.shape == (64, 64, 3)
        assert np.array_equal(mask, expected[sample.name])
    human = [mask for mask in expected.values() if (mask == 1).any()]
    assert len(human) >= 5
    assert sum(not (mask == 1).any() for mask in expected.values()) >= 2
    assert any((mask == 255).any() for mask in human)


def test_raw_labels_follow_the_public_datasets(tmp_path):
    voc = make_tiny_voc(tmp_path / "voc", images=1, size=64)
    coco = make_tiny_cocostuff(tmp_path / "coco", images=1, size=64)
    ade = make_tiny_ade20k(tmp_path / "ade", images=1, size=64)
    paths = [next((tmp_path / name).rglob("*.png")) for name in ("voc", "coco", "ade")]
    with Image.open(paths[0]) as picture:
        assert picture.mode == "P"
        assert picture.getpalette()[15 * 3 : 15 * 3 + 3] == [192, 128, 128]  # VOC's colour for person
        assert {0, 15, 255} <= set(np.unique(np.array(picture))) <= {0, 7, 15, 255}
    for path, masks, person, unlabelled in ((paths[1], coco, 0, 255), (paths[2], ade, 13, 0)):
        with Image.open(path) as picture:
            assert picture.mode == "L"
            labels = np.array(picture)
        mask = next(iter(masks.values()))
        assert np.array_equal(labels == person, mask == 1)
        assert np.array_equal(labels == unlabelled, mask == 255)
    assert len(voc) == 1


def test_seed_and_size_matter(tmp_path):
    first, again, other = (
        make_tiny_pairs(tmp_path / str(index), images=1, size=80, seed=seed) for index, seed in enumerate((1, 1, 2))
    )
    assert first["pair_0000"].shape == (80, 80)
    assert np.array_equal(first["pair_0000"], again["pair_0000"])
    assert not np.array_equal(first["pair_0000"], other["pair_0000"])
