"""Tiny datasets in the native layouts of the public ones: generated scenes, right label values, milliseconds to make.

Every maker writes below ``root``, which is what a source's ``path`` must name, and returns what a reader must give
back: by sample name the mask, uint8 (size, size), of 0 background, 1 human and 255 ignore. The last quarter of the
images, at least one, belongs to the test pool. Every fourth image shows nobody; the others show people on at least a
hundredth of their pixels.
"""

from __future__ import annotations

import json
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image as pil  # noqa: N813 - Image is ours
from pycocotools import mask as coco_mask

from privseg.datasets.sources.base import BACKGROUND, HUMAN, IGNORE, Image, Mask
from privseg.datasets.sources.synthetic import render_scene

__all__ = [
    "make_tiny_ade20k",
    "make_tiny_coco_instances",
    "make_tiny_cocostuff",
    "make_tiny_pairs",
    "make_tiny_voc",
]

_CAR = 3  # a category of COCO that is not a person, whose id is 1


def make_tiny_voc(root: Path, *, images: int = 8, size: int = 96, seed: int = 0) -> dict[str, Mask]:
    """PASCAL VOC 2012: palette PNG, person 15, some cars (7), a border of 255 around every object.

    Args:
        root: The folder ``VOCdevkit/VOC2012`` stands for.
        images: How many.
        size: Height and width in pixels.
        seed: Changes every image.

    Returns:
        Masks by sample name.
    """
    expected, lists = {}, dict[str, list[str]](train=[], val=[])
    for index, (image, mask) in enumerate(_scenes(images, size, seed)):
        name = f"2007_{index:06d}"
        lists["val" if _is_test(index, images) else "train"].append(name)
        labels = np.where(mask == HUMAN, 15, _elsewhere(mask, 7)).astype(np.uint8)
        border = cv2.morphologyEx(labels, cv2.MORPH_GRADIENT, np.ones((3, 3), np.uint8)) > 0
        labels[border] = 255
        _save(root / "JPEGImages" / f"{name}.jpg", image)
        _save(root / "SegmentationClass" / f"{name}.png", labels, palette=_voc_palette())
        expected[name] = np.where(border, IGNORE, mask).astype(np.uint8)
    folder = root / "ImageSets" / "Segmentation"
    folder.mkdir(parents=True, exist_ok=True)
    for stem, names in (*lists.items(), ("trainval", sorted(expected))):
        (folder / f"{stem}.txt").write_text("".join(f"{name}\n" for name in names), encoding="utf-8")
    return expected


def make_tiny_cocostuff(
    root: Path,
    *,
    images: int = 8,
    size: int = 96,
    seed: int = 0,
    masks: Literal["stuffthingmaps", "labelTrainIds"] = "stuffthingmaps",
) -> dict[str, Mask]:
    """COCO-Stuff 164k: person 0, other things and stuff above it, 255 unlabelled.

    Args:
        root: The folder that holds ``images``.
        images: How many.
        size: Height and width in pixels.
        seed: Changes every image.
        masks: ``stuffthingmaps`` writes raw maps, ``stuffthingmaps/<part>/X.png``; ``labelTrainIds`` the prepared
            ones, ``annotations/<part>/X_labelTrainIds.png``.

    Returns:
        Masks by sample name.
    """
    expected = {}
    prepared = masks == "labelTrainIds"
    for index, (image, mask) in enumerate(_scenes(images, size, seed)):
        name, part = f"{index + 1:012d}", "val2017" if _is_test(index, images) else "train2017"
        labels = np.where(mask == HUMAN, 0, _elsewhere(mask, 2, rest=148)).astype(np.uint8)
        unlabelled = _strip(mask)
        labels[unlabelled] = 255
        _save(root / "images" / part / f"{name}.jpg", image)
        suffix = "_labelTrainIds" if prepared else ""
        _save(root / ("annotations" if prepared else "stuffthingmaps") / part / f"{name}{suffix}.png", labels)
        expected[name] = np.where(unlabelled, IGNORE, mask).astype(np.uint8)
    return expected


def make_tiny_ade20k(root: Path, *, images: int = 8, size: int = 96, seed: int = 0) -> dict[str, Mask]:
    """ADE20K Scene Parsing: person 13, other classes from 1 up, 0 unlabelled.

    Args:
        root: The folder ``ADEChallengeData2016`` stands for.
        images: How many.
        size: Height and width in pixels.
        seed: Changes every image.

    Returns:
        Masks by sample name.
    """
    expected = {}
    for index, (image, mask) in enumerate(_scenes(images, size, seed)):
        test = _is_test(index, images)
        part, name = "validation" if test else "training", f"ADE_{'val' if test else 'train'}_{index + 1:08d}"
        labels = np.where(mask == HUMAN, 13, _elsewhere(mask, 21, rest=4)).astype(np.uint8)
        unlabelled = _strip(mask)
        labels[unlabelled] = 0
        _save(root / "images" / part / f"{name}.jpg", image)
        _save(root / "annotations" / part / f"{name}.png", labels)
        expected[name] = np.where(unlabelled, IGNORE, mask).astype(np.uint8)
    return expected


def make_tiny_coco_instances(root: Path, *, images: int = 8, size: int = 96, seed: int = 0) -> dict[str, Mask]:
    """COCO instances: people as polygons, compressed and plain run lengths in turn, a crowd along the top, a car each.

    Args:
        root: The folder that holds ``annotations``, ``train2017`` and ``val2017``.
        images: How many.
        size: Height and width in pixels.
        seed: Changes every image.

    Returns:
        Masks by sample name. Where a person is a polygon, they hold what pycocotools fills it with.
    """
    expected, parts = {}, {part: _instances_json() for part in ("train2017", "val2017")}
    person = 0
    for index, (image, mask) in enumerate(_scenes(images, size, seed)):
        part, number = "val2017" if _is_test(index, images) else "train2017", index + 1
        name, content = f"{number:012d}", parts[part]
        _save(root / part / f"{name}.jpg", image)
        content["images"].append({"id": number, "file_name": f"{name}.jpg", "height": size, "width": size})
        crowd, human = _strip(mask), np.zeros(mask.shape, bool)
        _annotate(content, number, _CAR, _plain_runs(_elsewhere(mask, _CAR) == _CAR))
        if mask.any():
            _annotate(content, number, 1, _plain_runs(crowd), crowd=True)
        _, components = cv2.connectedComponents(mask)
        for component in range(1, int(components.max()) + 1):
            segmentation, pixels = _segmentation(components == component, person)
            _annotate(content, number, 1, segmentation)
            human |= pixels
            person += 1
        expected[name] = np.where(human, HUMAN, np.where(crowd & mask.any(), IGNORE, BACKGROUND)).astype(np.uint8)
    (root / "annotations").mkdir(parents=True, exist_ok=True)
    for part, content in parts.items():
        (root / "annotations" / f"instances_{part}.json").write_text(json.dumps(content), encoding="utf-8")
    return expected


def make_tiny_pairs(
    root: Path, *, images: int = 8, size: int = 96, seed: int = 0, mask_suffix: str = "", human: int = 1
) -> dict[str, Mask]:
    """Plain folders: ``train/images``, ``train/masks``, ``test/images`` and ``test/masks``; 255 is ignore.

    Args:
        root: The folder that holds ``train`` and ``test``.
        images: How many.
        size: Height and width in pixels.
        seed: Changes every image.
        mask_suffix: What a mask's name adds to its image's stem.
        human: Mask value of people.

    Returns:
        Masks by sample name.
    """
    expected = {}
    for index, (image, mask) in enumerate(_scenes(images, size, seed)):
        name, part = f"pair_{index:04d}", "test" if _is_test(index, images) else "train"
        unlabelled = _strip(mask)
        _save(root / part / "images" / f"{name}.jpg", image)
        labels = np.where(unlabelled, 255, mask * np.uint8(human)).astype(np.uint8)
        _save(root / part / "masks" / f"{name}{mask_suffix}.png", labels)
        expected[name] = np.where(unlabelled, IGNORE, mask).astype(np.uint8)
    return expected


def _instances_json() -> dict[str, Any]:
    """An empty instances file; as in the official ones, categories come last."""
    categories = [{"id": 1, "name": "person"}, {"id": _CAR, "name": "car"}]
    return {"info": {"year": 2017}, "licenses": [], "images": [], "annotations": [], "categories": categories}


def _annotate(content: dict[str, Any], image: int, category: int, segmentation: Any, *, crowd: bool = False) -> None:
    number = len(content["annotations"]) + 1
    content["annotations"].append(
        {"id": number, "image_id": image, "category_id": category, "iscrowd": int(crowd), "segmentation": segmentation}
    )


def _segmentation(pixels: NDArray[np.bool_], turn: int) -> tuple[Any, NDArray[np.bool_]]:
    """A person in one of COCO's three forms, and the pixels it covers."""
    height, width = pixels.shape
    if turn % 3 == 0:
        contours, _ = cv2.findContours(pixels.astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
        polygons = [contour.astype(float).ravel().tolist() for contour in contours if len(contour) >= 3]
        if polygons:
            encoded = coco_mask.merge(coco_mask.frPyObjects(polygons, height, width))
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", DeprecationWarning)  # pycocotools' own, with numpy 2
                return polygons, coco_mask.decode(encoded).astype(bool)
    if turn % 3 == 1:
        encoded = coco_mask.encode(np.asfortranarray(pixels.astype(np.uint8)))
        return {"size": [height, width], "counts": encoded["counts"].decode("ascii")}, pixels
    return _plain_runs(pixels), pixels


def _plain_runs(pixels: NDArray[np.bool_]) -> dict[str, Any]:
    """Lengths of the runs of 0 and 1 in turn, column after column, starting with 0."""
    flat = pixels.ravel(order="F")
    changes = np.flatnonzero(np.diff(flat)) + 1
    edges = [0, *([0] if flat[0] else []), *changes.tolist(), flat.size]
    return {"size": list(pixels.shape), "counts": np.diff(edges).tolist()}


def _scenes(images: int, size: int, seed: int) -> Iterator[tuple[Image, Mask]]:
    """Scenes with people, every fourth without."""
    candidate = seed * 100_003
    for index in range(images):
        while True:
            image, mask = render_scene(candidate, height=size, width=size)
            candidate += 1
            if (not mask.any()) if index % 4 == 3 else mask.mean() >= 0.01:
                yield image, mask
                break


def _is_test(index: int, images: int) -> bool:
    return index >= images - max(1, images // 4)


def _elsewhere(mask: Mask, label: int, rest: int = BACKGROUND) -> Mask:
    """Labels of what is not human: an object in the lower left quarter, the rest around it."""
    labels = np.full_like(mask, rest)
    height, width = mask.shape
    labels[height * 3 // 4 :, : width // 4] = label
    return labels


def _strip(mask: Mask) -> NDArray[np.bool_]:
    """The top sixteenth of the picture, for labels nobody gave."""
    strip = np.zeros(mask.shape, dtype=bool)
    strip[: max(1, mask.shape[0] // 16)] = True
    return strip


def _voc_palette() -> list[int]:
    """The VOC colour map: bit n of a label goes, three bits a round, to the high bits of red, green and blue."""
    return [
        sum(((label >> (3 * place + channel)) & 1) << (7 - place) for place in range(3))
        for label in range(256)
        for channel in range(3)
    ]


def _save(path: Path, pixels: Image, palette: list[int] | None = None) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    picture = pil.fromarray(pixels)
    if palette is not None:
        picture.putpalette(palette)  # an 8-bit grey picture turns into a palette one, its values into indices
    picture.save(path, quality=92) if path.suffix == ".jpg" else picture.save(path)
