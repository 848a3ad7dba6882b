"""COCO instances: polygons, run lengths and crowds as pycocotools reads them, and JSON that cannot be believed."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from PIL import Image
from pycocotools import mask as coco_mask

from privseg.datasets.sources.base import Sample
from privseg.datasets.sources.registry import open_source
from privseg.errors import DataError
from privseg.params import SourceParams
from privseg.testing.datasets import make_tiny_coco_instances

HEIGHT, WIDTH = 12, 16
BOX = [[2, 2, 9, 2, 9, 8, 2, 8]]  # a polygon; pycocotools fills rows 2 to 7 and columns 2 to 8
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # pycocotools, numpy 2


def annotation(segmentation: Any, **fields: Any) -> dict[str, Any]:
    return {"id": 1, "image_id": 1, "category_id": 1, "iscrowd": 0, "segmentation": segmentation} | fields


def content(*annotations: dict[str, Any], **lists: Any) -> dict[str, Any]:
    """One image ``a.jpg`` and these annotations; in the order of the official files."""
    return {
        "images": [{"id": 1, "file_name": "a.jpg", "height": HEIGHT, "width": WIDTH}],
        "annotations": list(annotations),
        "categories": [{"id": 1, "name": "person"}, {"id": 3, "name": "car"}],
    } | lists


def samples_of(root: Path, data: Any, **fields: Any) -> list[Sample]:
    """The source whose training JSON is ``data``: text, or something to write as JSON."""
    (root / "annotations").mkdir(exist_ok=True)
    if not (root / "images/train2017").is_dir():
        (root / "train2017").mkdir(exist_ok=True)
    text = data if isinstance(data, bytes) else json.dumps(data).encode()
    (root / "annotations/instances_train2017.json").write_bytes(text)
    params = SourceParams.model_validate({"kind": "coco_instances", **fields})
    return list(open_source("some", params, raw_root=root, size=64, seed=0).samples())


def mask_of(root: Path, *annotations: dict[str, Any], **lists: Any) -> np.ndarray:
    [sample] = samples_of(root, content(*annotations, **lists))
    return sample.load_mask()


def runs(pixels: np.ndarray) -> dict[str, Any]:
    """Compressed run lengths, made by pycocotools."""
    encoded = coco_mask.encode(np.asfortranarray(pixels.astype(np.uint8)))
    return {"size": list(pixels.shape), "counts": encoded["counts"].decode()}


def plain_runs(pixels: np.ndarray) -> dict[str, Any]:
    counts, last = [0], False
    for pixel in pixels.ravel(order="F").astype(bool).tolist():
        if pixel != last:
            counts.append(0)
        counts[-1] += 1
        last = pixel
    return {"size": list(pixels.shape), "counts": counts}


def refuses(root: Path, data: Any, fault: str) -> None:
    """The JSON as a whole is refused, by name and in one line."""
    with pytest.raises(DataError, match=fault) as caught:
        samples_of(root, data)
    assert caught.value.subject == str(root / "annotations/instances_train2017.json")
    assert "\n" not in str(caught.value)


def refuses_sample(root: Path, fault: str, *annotations: dict[str, Any]) -> None:
    """The image of the annotation is refused, naming the JSON and the annotation; another image is not."""
    images = [{"id": number, "file_name": f"{number}.jpg", "height": HEIGHT, "width": WIDTH} for number in (1, 2)]
    good = annotation(BOX, id=2, image_id=2)
    bad, fine = samples_of(root, content(*annotations, good, images=images))
    with pytest.raises(DataError, match=rf"annotation 1 of 1\.jpg .*{fault}") as caught:
        bad.load_mask()
    assert caught.value.subject == str(root / "annotations/instances_train2017.json")
    assert fine.load_mask().any()


# ---- what is read


def test_a_tiny_dataset_reads_back(tmp_path: Path) -> None:
    expected = make_tiny_coco_instances(tmp_path, images=8, size=64)
    source = open_source("tiny", SourceParams(kind="coco_instances"), raw_root=tmp_path, size=64, seed=0)
    found = list(source.samples())
    assert [sample.name for sample in found] == sorted(expected)
    assert [sample.pool for sample in found] == ["train"] * 6 + ["test"] * 2
    forms = set()
    for sample in found:
        image, mask = sample.load()
        assert image.shape == (64, 64, 3)
        np.testing.assert_array_equal(mask, expected[sample.name])
        np.testing.assert_array_equal(sample.load_mask(), mask)
        assert sample.files[1].name == f"instances_{sample.pool.replace('test', 'val')}2017.json"
        forms |= {len(np.unique(mask))}
    assert forms == {1, 3}  # without people, and with people and a crowd
    text = (tmp_path / "annotations/instances_train2017.json").read_text()
    kinds = {type(one["segmentation"]["counts"] if isinstance(one["segmentation"], dict) else None)
             for one in json.loads(text)["annotations"]}  # fmt: skip
    assert kinds == {str, list, type(None)}


def test_images_may_lie_in_a_folder_images(tmp_path: Path) -> None:
    (tmp_path / "images/train2017").mkdir(parents=True)
    Image.new("RGB", (WIDTH, HEIGHT)).save(tmp_path / "images/train2017/a.jpg")
    [sample] = samples_of(tmp_path, content(annotation(BOX)))
    assert sample.load()[1].sum() == 42


@settings(max_examples=40, deadline=None)
@given(pixels=arrays(bool, (HEIGHT, WIDTH)))
def test_run_lengths_of_any_mask_give_that_mask(pixels: np.ndarray) -> None:
    with tempfile.TemporaryDirectory() as folder:
        for encoded in (runs(pixels), plain_runs(pixels)):
            np.testing.assert_array_equal(mask_of(Path(folder), annotation(encoded)), pixels)


coordinate = st.floats(-10, 24).map(lambda value: round(value, 2))


@settings(max_examples=40, deadline=None)
@given(polygons=st.lists(st.lists(st.tuples(coordinate, coordinate), min_size=3, max_size=6), min_size=1, max_size=3))
def test_any_polygon_is_filled_as_pycocotools_does_and_cut_off_at_the_border(polygons: Any) -> None:
    flat = [[value for point in polygon for value in point] for polygon in polygons]
    expected = coco_mask.decode(coco_mask.merge(coco_mask.frPyObjects(flat, HEIGHT, WIDTH)))
    with tempfile.TemporaryDirectory() as folder:
        np.testing.assert_array_equal(mask_of(Path(folder), annotation(flat)), expected)


def test_a_crowd_is_ignored_but_a_person_drawn_inside_it_stays_human(tmp_path: Path) -> None:
    crowd, person = np.zeros((2, HEIGHT, WIDTH), bool)
    crowd[:, :8], person[4:6] = True, True
    for encode in (runs, plain_runs):
        mask = mask_of(
            tmp_path, annotation(encode(person)), annotation(encode(crowd), id=2, iscrowd=1), annotation(BOX, id=3)
        )
        expected = np.where(person, 1, np.where(crowd, 255, 0))
        expected[2:8, 2:9] = 1
        np.testing.assert_array_equal(mask, expected)


def test_only_the_category_named_person_counts_whatever_its_number(tmp_path: Path) -> None:
    categories = [{"id": 1, "name": "cat"}, {"id": 7, "name": "person"}]
    assert not mask_of(tmp_path, annotation(BOX), categories=categories).any()
    assert mask_of(tmp_path, annotation(BOX, category_id=7), categories=categories).sum() == 42


@pytest.mark.parametrize("nothing", [[], [[]], None, {"size": [HEIGHT, WIDTH], "counts": []}])
def test_empty_annotation_makes_its_box_ignored_but_for_people_in_it(nothing: Any, tmp_path: Path) -> None:
    mask = mask_of(tmp_path, annotation(nothing, bbox=[1.5, -3, 4, 7.2]), annotation(BOX, id=2))
    expected = np.zeros((HEIGHT, WIDTH), np.uint8)
    expected[:5, 1:6] = 255
    expected[2:8, 2:9] = 1
    np.testing.assert_array_equal(mask, expected)


def test_image_turned_by_exif_fits_the_size_the_json_says(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    (tmp_path / "train2017").mkdir()
    Image.new("RGB", (HEIGHT, WIDTH)).save(tmp_path / "train2017/a.jpg", exif=exif)
    [sample] = samples_of(tmp_path, content(annotation(BOX)))
    image, mask = sample.load()
    assert image.shape[:2] == mask.shape == (HEIGHT, WIDTH)


# ---- faults of one image


def test_json_with_a_missing_image_refuses_that_sample(tmp_path: Path) -> None:
    [sample] = samples_of(tmp_path, content(annotation(BOX)))
    with pytest.raises(DataError, match="the image is missing") as caught:
        sample.load()
    assert caught.value.subject == str(tmp_path / "train2017/a.jpg")
    assert sample.load_mask().any()


def test_image_of_another_size_than_the_json_says_names_both_sizes(tmp_path: Path) -> None:
    (tmp_path / "train2017").mkdir()
    Image.new("RGB", (20, 10)).save(tmp_path / "train2017/a.jpg")
    [sample] = samples_of(tmp_path, content(annotation(BOX)))
    with pytest.raises(DataError, match=r"is 20x10 pixels, instances_train2017\.json says 16x12") as caught:
        sample.load()
    assert caught.value.subject == str(tmp_path / "train2017/a.jpg")


def test_image_linked_from_elsewhere_is_refused(tmp_path: Path) -> None:
    (tmp_path / "data/train2017").mkdir(parents=True)
    Image.new("RGB", (WIDTH, HEIGHT)).save(tmp_path / "outside.jpg")
    (tmp_path / "data/train2017/a.jpg").symlink_to(tmp_path / "outside.jpg")
    [sample] = samples_of(tmp_path / "data", content(annotation(BOX)))
    with pytest.raises(DataError, match="points outside the source's folder"):
        sample.load()


@pytest.mark.parametrize(
    ("segmentation", "fault"),
    [
        ([[1, 1, 5, 5]], "polygon of 4 numbers"),
        ([[1, 1, 5, 5, 1, 5, 9]], "polygon of 7 numbers"),
        ([[1, 1, 5, "5", 1, 5]], "no list of numbers"),
        ([1, 1, 5, 5, 1, 5], "no list of numbers"),
        ([[0, 0, 1e9, 0, 1e9, 1e9]], "reaching 0..1e.09 where the picture has 16"),
        ("all of it", "neither polygons nor run lengths"),
        ({"size": [HEIGHT, WIDTH], "counts": [5, 5]}, "10 pixels together, its picture has 192"),
        ({"size": [HEIGHT, WIDTH], "counts": [0, 10**12]}, "pixels together"),
        ({"size": [HEIGHT, WIDTH], "counts": [200, -8]}, "no whole numbers"),
        ({"size": [HEIGHT, WIDTH], "counts": {"a": 1}}, "no whole numbers"),
        ({"size": [WIDTH, HEIGHT], "counts": [0, 192]}, "size"),
        ({"size": [HEIGHT, WIDTH], "counts": "52"}, "pixels together"),
        ({"size": [HEIGHT, WIDTH], "counts": "P"}, "end too early"),
        ({"size": [HEIGHT, WIDTH], "counts": "ooooooooooooo0"}, "no text of COCO's"),
        ({"size": [HEIGHT, WIDTH], "counts": "\u6771\u4eac"}, "no text of COCO's"),
        ([], "without pixels and without a box"),
    ],
)
def test_annotation_that_would_mislead_the_decoder_refuses_its_image_alone(
    segmentation: Any, fault: str, tmp_path: Path
) -> None:
    refuses_sample(tmp_path, fault, annotation(segmentation))


def test_box_beyond_all_numbers_refuses_its_image_alone(tmp_path: Path) -> None:
    refuses_sample(tmp_path, "", annotation([], bbox=[1.7e308, 0, 1.7e308, 1]))


# ---- faults of the JSON


@pytest.mark.parametrize("share", [0.0, 0.3, 0.7, 0.999])
def test_truncated_json_is_named(share: float, tmp_path: Path) -> None:
    text = json.dumps(content(annotation(BOX))).encode()
    refuses(tmp_path, text[: int(len(text) * share)], "is no complete JSON")


@pytest.mark.parametrize(
    "text", [b"no json", b'{"categories": ["\xff"]}', b'{"categories": []} and more', b'{"images": [1e999]}']
)
def test_what_is_no_json_is_named(text: bytes, tmp_path: Path) -> None:
    refuses(tmp_path, text, "is no complete JSON")


def test_duplicate_image_ids_are_named(tmp_path: Path) -> None:
    images = [{"id": 7, "file_name": f"{name}.jpg", "height": 4, "width": 4} for name in "ab"]
    refuses(tmp_path, content(images=images), "lists image id 7 twice")


def test_duplicate_file_names_are_named(tmp_path: Path) -> None:
    images = [{"id": number, "file_name": "a.jpg", "height": 4, "width": 4} for number in (1, 2)]
    refuses(tmp_path, content(images=images), "lists a.jpg twice, again as image id 2")


@pytest.mark.parametrize("category", [1, 3])
@pytest.mark.parametrize("image", [99, None, "1", [1]])
def test_annotation_of_no_listed_image_is_named(image: Any, category: int, tmp_path: Path) -> None:
    broken = annotation(BOX, id=55, image_id=image, category_id=category)
    refuses(tmp_path, content(broken), "annotation 55 is of image .* which is not listed")


@pytest.mark.parametrize("name", ["/etc/passwd", "../../a.jpg", "b/../../a.jpg", "..\\a.jpg", "", "a\n.jpg"])
def test_file_name_that_leaves_the_folder_is_named(name: str, tmp_path: Path) -> None:
    refuses(tmp_path, content(images=[{"id": 1, "file_name": name, "height": 4, "width": 4}]), "image 1 names")


@pytest.mark.parametrize("field", ["id", "file_name", "height", "width"])
@pytest.mark.parametrize("value", [None, [], 1.5])
def test_image_without_what_is_needed_is_named(field: str, value: Any, tmp_path: Path) -> None:
    image = {"id": 1, "file_name": "a.jpg", "height": 4, "width": 4} | {field: value}
    refuses(tmp_path, content(images=[image]), "lacks id, file_name, height or width")


@pytest.mark.parametrize(("height", "width"), [(0, 4), (4, -1), (10**6, 10**6)])
def test_image_of_an_impossible_size_is_named(height: int, width: int, tmp_path: Path) -> None:
    image = {"id": 1, "file_name": "a.jpg", "height": height, "width": width}
    refuses(tmp_path, content(images=[image]), "image 1 is said to be")


def test_json_without_a_category_named_person_says_what_it_has(tmp_path: Path) -> None:
    refuses(tmp_path, content(categories=[{"id": 1, "name": "Pedestrian"}]), "no category named person .it has Pedest")
    refuses(tmp_path, {"images": []}, "it has none at all")


def test_json_without_annotations_is_not_taken_for_pictures_without_people(tmp_path: Path) -> None:
    refuses(tmp_path, content(), "holds no annotation")


@pytest.mark.parametrize("key", ["images", "annotations", "categories"])
def test_list_of_something_else_is_named(key: str, tmp_path: Path) -> None:
    refuses(tmp_path, content(annotation(BOX)) | {key: [1]}, f"its list {key} holds something that is no object")


def test_json_nested_beyond_reading_is_named(tmp_path: Path) -> None:
    text = json.dumps(content(annotation("HERE"))).replace('"HERE"', "[" * 3000 + "]" * 3000)
    refuses(tmp_path, text.encode(), "annotation 1 is nested beyond reading")


def test_images_without_their_json_and_a_json_without_its_images_are_named(tmp_path: Path) -> None:
    (tmp_path / "val2017").mkdir()
    with pytest.raises(DataError, match=r"instances_val2017\.json: is missing"):
        samples_of(tmp_path, content(annotation(BOX)))
    (tmp_path / "val2017").rmdir()
    (tmp_path / "train2017").rename(tmp_path / "elsewhere")
    with pytest.raises(DataError, match="train2017: is no folder"):
        list(open_source("x", SourceParams(kind="coco_instances"), raw_root=tmp_path, size=64, seed=0).samples())
