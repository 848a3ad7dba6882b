"""Augmentation keeps picture and labels together, and stays in its bounds."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from privseg.params import AugmentParams
from privseg.training._mm import TRANSFORMS
from privseg.training.augment import CameraLook, PersonCrop
from privseg.training.copy_paste import CopyPaste, cut_out
from privseg.training.data import training_pipeline

IGNORE = 255
LOOKS = ("photometric", "night", "blur", "low_resolution", "compression", "grey")


def picture(height: int = 96, width: int = 128) -> dict[str, Any]:
    """A grey scene with one white person, so that labels can be read off the pixels."""
    image = np.full((height, width, 3), 60, np.uint8)
    labels = np.zeros((height, width), np.uint8)
    image[30:80, 50:70], labels[30:80, 50:70] = 240, 1
    return {"img": image, "gt_seg_map": labels, "img_shape": labels.shape}


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), size=st.sampled_from([32, 64, 160]), low=st.floats(0.3, 1), high=st.floats(1, 3))
def test_a_crop_keeps_labels_on_their_pixels(seed: int, size: int, low: float, high: float) -> None:
    np.random.seed(seed)  # noqa: NPY002 - the generator that the transforms use
    cropped = PersonCrop(size, 0.5, low, high).transform(picture())
    image, labels = cropped["img"], cropped["gt_seg_map"]
    assert image.shape == (*labels.shape, 3)
    assert max(labels.shape) <= size
    assert set(np.unique(labels)) <= {0, 1}
    inside = cv2.erode(labels, np.ones((5, 5), np.uint8), borderValue=0) == 1
    outside = cv2.dilate(labels, np.ones((5, 5), np.uint8)) == 0
    assert (image[inside] > 200).all()
    assert (image[outside] < 100).all()


def test_a_crop_around_a_person_contains_one() -> None:
    np.random.seed(1)  # noqa: NPY002
    crop = PersonCrop(32, person_share=1.0, min_scale=0.5, max_scale=2.0)
    assert all((crop.transform(picture())["gt_seg_map"] == 1).any() for _ in range(50))


def test_a_small_scale_makes_people_small() -> None:
    shrunk = PersonCrop(128, 1.0, 0.4, 0.4).transform(picture())["gt_seg_map"]
    rows = np.flatnonzero((shrunk == 1).any(axis=1))
    assert 18 <= rows[-1] - rows[0] + 1 <= 22  # 50 pixels at 0.4


@pytest.mark.parametrize("look", LOOKS)
def test_every_look_changes_pixels_and_nothing_else(look: str) -> None:
    np.random.seed(3)  # noqa: NPY002
    before = picture()
    rng = np.random.default_rng(0)
    before["img"] = rng.integers(0, 256, before["img"].shape, dtype=np.uint8)
    original, labels = before["img"].copy(), before["gt_seg_map"].copy()
    after = CameraLook(**{look: 1.0}).transform(dict(before))
    assert after["img"].shape == original.shape
    assert after["img"].dtype == np.uint8
    assert (after["img"] != original).any()
    np.testing.assert_array_equal(before["img"], original)
    np.testing.assert_array_equal(after["gt_seg_map"], labels)


def test_without_shares_a_picture_stays_as_it_is() -> None:
    before = picture()
    np.testing.assert_array_equal(CameraLook().transform(dict(before))["img"], before["img"])


def test_grey_has_equal_channels_and_night_is_darker() -> None:
    np.random.seed(5)  # noqa: NPY002
    rng = np.random.default_rng(1)
    image = rng.integers(80, 256, (64, 64, 3), dtype=np.uint8)
    grey = CameraLook(grey=1.0).transform({"img": image})["img"]
    assert (grey[..., 0] == grey[..., 1]).all()
    assert (grey[..., 1] == grey[..., 2]).all()
    assert CameraLook(night=1.0).transform({"img": image})["img"].mean() < 0.85 * image.mean()


@pytest.fixture
def people(tmp_path: Path) -> list[tuple[str, str]]:
    scene = picture(120, 90)
    cv2.imwrite(str(tmp_path / "person.png"), scene["img"])
    cv2.imwrite(str(tmp_path / "mask.png"), scene["gt_seg_map"])
    return [(str(tmp_path / "person.png"), str(tmp_path / "mask.png"))]


def background() -> dict[str, Any]:
    return {"img": np.full((160, 160, 3), 60, np.uint8), "gt_seg_map": np.zeros((160, 160), np.uint8)}


def test_people_are_pasted_where_the_label_says_so(people: list[tuple[str, str]]) -> None:
    np.random.seed(11)  # noqa: NPY002
    heights = set()
    for _ in range(40):
        scene = background()
        pasted = CopyPaste(people, share=1.0).transform(dict(scene))
        labels = pasted["gt_seg_map"]
        assert set(np.unique(labels)) <= {0, 1}
        far = cv2.dilate(labels, np.ones((5, 5), np.uint8)) == 0
        np.testing.assert_array_equal(pasted["img"][far], scene["img"][far])
        inner = cv2.erode(labels, np.ones((3, 3), np.uint8), borderValue=0) == 1
        assert (pasted["img"][inner] > 90).all()  # the white person, darkened by the place at most
        heights.update(h for *_, h, _ in cv2.connectedComponentsWithStats(labels)[2][1:])
        assert not scene["gt_seg_map"].any()  # what was given is not changed
    assert min(heights) < 20
    assert max(heights) > 60


def test_nothing_is_pasted_beside_people_or_without_any(people: list[tuple[str, str]]) -> None:
    shown = picture()
    np.testing.assert_array_equal(CopyPaste(people, 1.0).transform(dict(shown))["img"], shown["img"])
    empty = background()
    np.testing.assert_array_equal(CopyPaste([], 1.0).transform(dict(empty))["img"], empty["img"])
    np.testing.assert_array_equal(CopyPaste(people, 0.0).transform(dict(empty))["img"], empty["img"])


def test_nobody_is_pasted_over_padding(people: list[tuple[str, str]]) -> None:
    scene = background()
    scene["gt_seg_map"][:] = IGNORE
    pasted = CopyPaste(people, 1.0).transform(dict(scene))
    assert (pasted["gt_seg_map"] == IGNORE).all()
    np.testing.assert_array_equal(pasted["img"], scene["img"])


def test_only_whole_people_are_cut_out() -> None:
    scene = picture(120, 128)
    box, alpha = cut_out(scene["img"], scene["gt_seg_map"], 0.5) or (None, None)
    assert box is not None
    assert alpha is not None
    assert box.shape == (50, 20, 3)
    assert (alpha == 255).all()
    at_the_edge = np.zeros((120, 128), np.uint8)
    at_the_edge[0:80, 50:70] = 1
    assert cut_out(scene["img"], at_the_edge, 0.5) is None
    tiny = np.zeros((120, 128), np.uint8)
    tiny[50:60, 50:55] = 1
    assert cut_out(scene["img"], tiny, 0.5) is None


def test_a_picture_to_cut_from_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    torn = tmp_path / "torn.jpg"
    torn.write_bytes(b"no picture")
    with pytest.raises(ValueError, match=r"torn\.jpg"):
        CopyPaste([(str(torn), str(torn))], 1.0).transform(background())


def test_the_pipeline_is_built_from_the_parameters(people: list[tuple[str, str]], tmp_path: Path) -> None:
    augment = AugmentParams(min_scale=0.5, max_scale=2.0)
    steps = training_pipeline(64, augment, people, edges=True)
    sample = {"img_path": people[0][0], "seg_map_path": people[0][1], "label_map": None, "reduce_zero_label": False}
    results: Any = sample | {"seg_fields": []}
    for step in steps:
        results = TRANSFORMS.build(step)(results)
    assert results["inputs"].shape[0] == 3
    assert results["data_samples"].gt_edge_map.data.shape == results["data_samples"].gt_sem_seg.data.shape
    assert not any(step["type"] == "GenerateEdge" for step in training_pipeline(64, augment))
