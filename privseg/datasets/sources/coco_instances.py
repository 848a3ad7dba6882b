"""COCO instances: one JSON a part, people as polygons or run lengths (RLE), crowds ignored.

A pixel is human where an annotation of the category named person covers it. Where only a crowd (``iscrowd`` 1) does, it
is ignored: somewhere in there are people, nobody drew which pixels. So is the box of a person whose segmentation is
empty. A person drawn inside a crowd stays human. Without crowds this is the union of `pycocotools`' ``annToMask``.

The JSON is streamed, three times over: categories come last in the official files, and an annotation is of use only
with them and the images known. What people need is kept compressed. Generated like the official file, 100,000
annotations (30,500 of people) over 13,754 images, 63 MB: listed in 5.6 s on one core of the machine it was written on,
with 24 MB of memory for all samples (``json.load`` alone takes 440 MB). Both grow with the file: the official one has
448 MB and 860,000 annotations. The mask of a real picture takes a millisecond.
"""

from __future__ import annotations

import json
import math
import os
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import ijson
import numpy as np
from numpy.typing import NDArray
from pycocotools import mask as coco_mask

from privseg.datasets.sources._pictures import MAX_PIXELS, REPAIR
from privseg.datasets.sources.base import HUMAN, IGNORE, Image, Mask, Pool, Sample, choose, read_image
from privseg.errors import DataError
from privseg.params import SourceParams

__all__ = ["CocoInstancesSource"]

_PARTS: tuple[tuple[str, Pool], ...] = (("train2017", "train"), ("val2017", "test"))
_EXPECTED = "annotations/instances_{train2017,val2017}.json with {train2017,val2017}/*.jpg, which may lie in images/"
_CORRECT = "correct the file, or unpack annotations_trainval2017.zip again"
_BUFFER = 1 << 20


@dataclass(frozen=True)
class CocoInstancesSource:
    """``instances_train2017.json`` feeds the training pool, ``instances_val2017.json`` the test pool.

    One of them may be absent. Images that a JSON does not list are not samples: nobody looked for people there.
    """

    name: str
    root: Path
    params: SourceParams

    def samples(self) -> Iterator[Sample]:
        """Samples sorted by name; one whose image is missing, or whose people are misdrawn, raises when it is loaded.

        Raises:
            DataError: A JSON is truncated or none; it lists an image id or a file twice, or a file elsewhere; an
                annotation is of no listed image; there is no category named person, or no sample at all.
        """
        found: list[_Picture] = []
        for part, pool in _PARTS:
            labels = self.root / "annotations" / f"instances_{part}.json"
            folders = [folder for folder in (self.root / part, self.root / "images" / part) if folder.is_dir()]
            if folders and not labels.is_file():
                raise DataError(labels, f"is missing; expected {_EXPECTED}", "unpack annotations_trainval2017.zip")
            if labels.is_file():
                if not folders:
                    raise DataError(self.root / part, f"is no folder; expected {_EXPECTED}", f"unpack {part}.zip there")
                found += _read(labels, folders[0], pool, os.path.realpath(self.root))
        for picture in choose(found, limit=self.params.limit, folder=self.root, expected=_EXPECTED):
            files = (picture.image, picture.labels)
            yield Sample(picture.name, picture.pool, picture.image, picture.load, picture.load_mask, files)


@dataclass(slots=True)
class _Picture:
    """An image that a JSON lists, and its people: each ``[annotation id, iscrowd, segmentation, box]``, compressed."""

    name: str
    pool: Pool
    image: str
    labels: str
    root: str
    height: int
    width: int
    people: tuple[bytes, ...] = ()

    def load(self) -> tuple[Image, Mask]:
        image = read_image(self.image, root=self.root, shape=(self.height, self.width))
        if image.shape[:2] != (self.height, self.width):
            said = f"{Path(self.labels).name} says {self.width}x{self.height}"
            raise DataError(self.image, f"is {image.shape[1]}x{image.shape[0]} pixels, {said}", REPAIR)
        return image, self.load_mask()

    def load_mask(self) -> Mask:
        human, unclear = np.zeros((2, self.height, self.width), bool)
        for packed in self.people:
            number, crowd, segmentation, box = json.loads(zlib.decompress(packed))
            try:
                pixels = _pixels(segmentation, self.height, self.width)
                if pixels is None:
                    unclear[_rows_and_columns(box)] = True
                elif crowd:
                    unclear |= pixels
                else:
                    human |= pixels
            except (ValueError, OverflowError) as error:
                fault = f"annotation {number} of {Path(self.image).name} {error}"
                raise DataError(self.labels, fault, "correct or remove the annotation, then ingest again") from None
        mask = np.zeros((self.height, self.width), np.uint8)
        mask[unclear] = IGNORE
        mask[human] = HUMAN
        return mask


def _read(labels: Path, folder: Path, pool: Pool, root: str) -> list[_Picture]:
    """Everything one JSON lists."""
    categories = list(_items(labels, "categories"))
    persons = [category.get("id") for category in categories if category.get("name") == "person"]
    if not persons:
        names = ", ".join(str(category.get("name")) for category in categories[:3]) or "none at all"
        raise DataError(labels, f"has no category named person (it has {names}...)", _CORRECT)
    pictures: dict[int, _Picture] = {}
    files: set[str] = set()
    for item in _items(labels, "images"):
        number: Any = item.get("id")
        picture = _picture(item, labels, folder, pool, root)
        if number in pictures:
            raise DataError(labels, f"lists image id {number} twice", _CORRECT)
        if picture.image in files:
            raise DataError(labels, f"lists {item['file_name']} twice, again as image id {number}", _CORRECT)
        pictures[number] = picture
        files.add(picture.image)
    people: dict[int, list[bytes]] = {}
    annotated = False
    for item in _items(labels, "annotations"):
        annotated = True
        number, image = item.get("id"), item.get("image_id")
        if type(image) is not int or image not in pictures:
            raise DataError(labels, f"annotation {number} is of image {image}, which is not listed", _CORRECT)
        if item.get("category_id") in persons:
            people.setdefault(image, []).append(_packed(item, labels))
    if pictures and not annotated:  # else everybody in them would pass for background
        raise DataError(labels, "holds no annotation: nobody looked for people in its images", _CORRECT)
    for image, packed in people.items():
        pictures[image].people = tuple(packed)
    return list(pictures.values())


def _packed(item: dict[str, Any], labels: Path) -> bytes:
    person = [item.get(key) for key in ("id", "iscrowd", "segmentation", "bbox")]
    try:
        return zlib.compress(json.dumps(person, separators=(",", ":")).encode(), 1)
    except RecursionError:
        raise DataError(labels, f"annotation {item.get('id')} is nested beyond reading", _CORRECT) from None


def _items(labels: Path, key: str) -> Iterator[dict[str, Any]]:
    """The objects of one top-level list, one at a time."""
    try:
        with labels.open("rb") as file:
            for item in ijson.items(file, f"{key}.item", use_float=True, buf_size=_BUFFER):
                if not isinstance(item, dict):
                    raise DataError(labels, f"its list {key} holds something that is no object", _CORRECT)
                yield item
    except (ijson.JSONError, UnicodeDecodeError) as error:
        reason = (str(error).splitlines() or ["no reason given"])[0]
        raise DataError(labels, f"is no complete JSON ({reason})", _CORRECT) from None
    except OSError as error:
        raise DataError(labels, f"cannot be read ({error.strerror or error})", "check its permissions") from None


def _picture(item: dict[str, Any], labels: Path, folder: Path, pool: Pool, root: str) -> _Picture:
    number, file, height, width = (item.get(key) for key in ("id", "file_name", "height", "width"))
    if type(number) is not int or type(file) is not str or type(height) is not int or type(width) is not int:
        raise DataError(labels, f"image {number} lacks id, file_name, height or width, or they are no such", _CORRECT)
    path = PurePosixPath(file)
    if path.is_absolute() or ".." in path.parts or "\\" in file or not path.name or not file.isprintable():
        raise DataError(labels, f"image {number} names {file!r}, no file of its folder", _CORRECT)
    if height < 1 or width < 1 or height * width > MAX_PIXELS:
        raise DataError(labels, f"image {number} is said to be {width}x{height} pixels", _CORRECT)
    return _Picture(path.stem, pool, f"{folder}/{file}", str(labels), root, height, width)


def _pixels(segmentation: Any, height: int, width: int) -> NDArray[np.bool_] | None:
    """Pixels of an annotation, bool ``(height, width)``; none if nobody drew it.

    Polygons are checked before pycocotools fills them: it reads and writes elsewhere in memory where one is not as it
    should be, or billions of pixels long.

    Raises:
        ValueError: It is neither polygons nor run lengths, or damaged.
    """
    if isinstance(segmentation, dict):
        runs = _runs(segmentation, height, width)
    elif isinstance(segmentation, list | None):
        polygons = [polygon for polygon in segmentation or () if polygon != []]
        for polygon in polygons:
            _check_polygon(polygon, height, width)
        filled = coco_mask.merge(coco_mask.frPyObjects(polygons, height, width)) if polygons else {}
        runs = _decompressed(filled["counts"].decode("ascii")) if polygons else []
    else:
        raise ValueError("has a segmentation that is neither polygons nor run lengths")  # noqa: TRY004 - as all faults
    if not runs:
        return None
    return np.repeat(np.arange(len(runs)) % 2 == 1, runs).reshape(width, height).T


def _check_polygon(polygon: Any, height: int, width: int) -> None:
    if not isinstance(polygon, list) or any(type(value) not in (int, float) for value in polygon):
        raise ValueError("has a polygon that is no list of numbers")
    if len(polygon) < 6 or len(polygon) % 2:
        raise ValueError(f"has a polygon of {len(polygon)} numbers; three points or more are x, y in turn")
    for values, side in ((polygon[::2], width), (polygon[1::2], height)):
        if min(values) < -side or max(values) > 2 * side:  # a little outside is usual, and is cut off
            raise ValueError(f"has a polygon reaching {min(values):g}..{max(values):g} where the picture has {side}")


def _runs(encoded: dict[str, Any], height: int, width: int) -> list[int]:
    """Lengths of the runs of 0 and 1 in turn, down one column after the other; empty if nobody drew any.

    Raises:
        ValueError: They do not add up to the picture.
    """
    counts = encoded.get("counts")
    if not counts:
        return []
    if encoded.get("size") != [height, width]:
        raise ValueError(f"has run lengths of a picture of size {encoded.get('size')}, not {[height, width]}")
    runs = _decompressed(counts) if isinstance(counts, str) else counts
    if not isinstance(runs, list) or any(type(run) is not int or run < 0 for run in runs):
        raise ValueError("has run lengths that are no whole numbers")
    if sum(runs) != height * width:
        raise ValueError(f"has run lengths of {sum(runs)} pixels together, its picture has {height * width}")
    return runs


def _decompressed(text: str) -> list[int]:
    """Run lengths from COCO's own text form: five bits a character from 0 on, the sixth says that more follow.

    From the fourth number on the difference to the last but one is meant (``rleFrString`` of COCO's maskApi.c).
    """
    runs: list[int] = []
    value = shift = 0
    for character in text:
        bits = ord(character) - 48
        if not 0 <= bits < 64 or shift > 30:
            raise ValueError("has run lengths that are no text of COCO's")
        value |= (bits & 31) << shift
        shift += 5
        if bits & 32:
            continue
        if bits & 16:
            value -= 1 << shift
        runs.append(value + (runs[-2] if len(runs) > 2 else 0))
        value = shift = 0
    if shift:
        raise ValueError("has run lengths that end too early")
    return runs


def _rows_and_columns(box: Any) -> tuple[slice, slice]:
    """Every pixel that a box ``[x, y, width, height]`` touches.

    Raises:
        ValueError: It is no such box.
    """
    if not isinstance(box, list) or len(box) != 4 or any(type(value) not in (int, float) for value in box):
        raise ValueError("is a person without pixels and without a box [x, y, width, height]")
    left, top, width, height = box
    return (
        slice(max(0, math.floor(top)), max(0, math.ceil(top + height))),
        slice(max(0, math.floor(left)), max(0, math.ceil(left + width))),
    )


READER = CocoInstancesSource  # what `registry` opens for this kind
