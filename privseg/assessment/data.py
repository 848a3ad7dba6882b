"""What methods are assessed on: people cut out with their outlines, labelled pictures, and clips of fixed cameras.

With a folder of real data::

    pairs/clothing/{images,masks}    one person each, 1 human          (the identities)
    pairs/pennfudan/{images,masks}   NAME_mask.png, one value a person
    pairs/coco_person/val/…          1 human, 255 not labelled
    video/{vtest.avi,…}              fixed cameras

Without one privseg draws people, pictures and clips itself.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import av
import cv2
import numpy as np

from privseg.assessment.quality import BoolMask, Image
from privseg.datasets.sources.synthetic import iter_video, render_scene
from privseg.errors import DataError
from privseg.privacy.masks import dilate_by_size

__all__ = [
    "CLIPS",
    "Portrait",
    "check_folder",
    "labelled",
    "portraits",
    "sampled_frames",
    "video_frames",
]

#: clips that are assessed, with the first of the frames used: several people are in view there
CLIPS: Final = {
    "vtest": ("vtest.avi", 300),
    "store-aisle": ("intel_store-aisle-detection_preview.mp4", 20),
    "one-by-one": ("one-by-one-person-detection.mp4", 600),
}
_MARGIN: Final = 0.12  # of the person's height, around the person
_LEAST_HEIGHT: Final = 60
_DRAWN_FRAMES: Final = 60
Truth = Image


@dataclass(frozen=True)
class Portrait:
    """One person.

    Attributes:
        image: uint8 ``(h, w, 3)`` RGB, the person and some background.
        person: bool ``(h, w)``, the person as labelled.
        mask: bool ``(h, w)``, what the mask policy's margin makes of it.
    """

    image: Image
    person: BoolMask
    mask: BoolMask

    def fitted(self, mask: BoolMask) -> Image:
        """This person's box stretched to the box of ``mask`` (bool ``(h, w)``): uint8 ``(h, w, 3)``, black around."""
        left, top, width, height = cv2.boundingRect(mask.view(np.uint8))
        x, y, across, down = cv2.boundingRect(self.mask.view(np.uint8))
        picture = np.zeros((*mask.shape, 3), np.uint8)
        picture[top : top + height, left : left + width] = cv2.resize(
            self.image[y : y + down, x : x + across], (width, height), interpolation=cv2.INTER_AREA
        )
        return picture


def check_folder(data: Path | None) -> None:
    """Refuse a folder that lacks what is assessed.

    Raises:
        DataError: Something is missing; the message names it.
    """
    if data is None:
        return
    for place in ("pairs/clothing/images", "pairs/clothing/masks", "pairs/pennfudan/images", "video"):
        if not (data / place).is_dir():
            raise DataError(data, f"lacks {place}/", "see `privseg assess --help`, or leave --data out")
    for name, (file, _) in CLIPS.items():
        if not (data / "video" / file).is_file():
            raise DataError(data / "video" / file, f"is missing (the clip {name})", "add it, or leave --data out")


def portraits(data: Path | None, count: int, height: int) -> list[Portrait]:
    """Different people, each scaled to one height in pixels: the clothed ones of the real data, or drawn ones."""
    found: list[Portrait] = []
    pictures = _drawn(9000) if data is None else _pairs(data / "pairs" / "clothing", "")
    for image, truth in pictures:
        for box in _boxes(truth == 1):
            found.append(_portrait(image, truth == 1, box, height))
            if len(found) == count:
                return found
    raise DataError(data or "drawn scenes", f"show {len(found)} people, {count} are needed", "complete pairs/clothing")


def labelled(data: Path | None, count: int) -> Iterator[tuple[Image, Truth]]:
    """Pictures and masks (uint8 ``(H, W)``: 0, 1, 255 not labelled) of which about half are PennFudan's."""
    if data is None:
        yield from (picture for _, picture in zip(range(count), _drawn(7000), strict=False))
        return
    fudan = list(_paired(data / "pairs" / "pennfudan", "_mask"))
    coco = list(_paired(data / "pairs" / "coco_person" / "val", ""))
    for pairs, positive in ((fudan, True), (coco, False)):
        step = max(len(pairs) * 2 // count, 1)
        for image, mask in pairs[::step]:
            truth = _read(mask, cv2.IMREAD_UNCHANGED)
            yield _read(image), (truth > 0).astype(np.uint8) if positive else truth


def video_frames(data: Path | None, clip: str, first: int, count: int) -> list[Image]:
    """Consecutive frames of a clip, uint8 ``(H, W, 3)`` RGB; the last ones of it where it ends sooner."""
    kept: list[Image] = []
    for index, frame in _numbered(data, clip):
        if index >= first:
            kept.append(frame)
        if len(kept) == count:
            break
    return kept


def sampled_frames(data: Path | None, clip: str, count: int) -> list[Image]:
    """About ``count`` frames evenly spread over a clip."""
    total = _DRAWN_FRAMES if data is None else _length(data, clip)
    step = max(total // count, 1)
    return [frame for index, frame in _numbered(data, clip) if index % step == 0]


def _numbered(data: Path | None, clip: str) -> Iterator[tuple[int, Image]]:
    if data is None:
        yield from enumerate(image for image, _ in iter_video(77, frames=_DRAWN_FRAMES))
        return
    path = data / "video" / CLIPS[clip][0]
    try:
        with av.open(str(path)) as container:
            for index, frame in enumerate(container.decode(video=0)):
                yield index, np.ascontiguousarray(frame.to_ndarray(format="rgb24"))
    except (OSError, av.FFmpegError) as error:
        raise DataError(path, f"cannot be decoded ({error})", "replace the file") from None


def _length(data: Path, clip: str) -> int:
    with av.open(str(data / "video" / CLIPS[clip][0])) as container:
        return container.streams.video[0].frames or 500


def _drawn(seed: int) -> Iterator[tuple[Image, Truth]]:
    for index in range(400):
        yield render_scene(seed + index, height=384, width=512)


def _pairs(folder: Path, suffix: str) -> Iterator[tuple[Image, Truth]]:
    for image, mask in _paired(folder, suffix):
        yield _read(image), _read(mask, cv2.IMREAD_UNCHANGED)


def _paired(folder: Path, suffix: str) -> Iterator[tuple[Path, Path]]:
    for image in sorted((folder / "images").glob("*.[jp][pn]g")):
        mask = folder / "masks" / f"{image.stem}{suffix}.png"
        if mask.is_file():
            yield image, mask


def _read(path: Path, how: int = cv2.IMREAD_COLOR) -> Image:
    picture = cv2.imread(str(path), how)
    if picture is None:
        raise DataError(path, "is no picture", "replace the file, or remove it and its mask")
    return np.asarray(cv2.cvtColor(picture, cv2.COLOR_BGR2RGB) if how == cv2.IMREAD_COLOR else picture, np.uint8)


def _boxes(person: BoolMask) -> list[tuple[int, int, int, int]]:
    """Left, top, width, height of everyone who is tall enough and not cut off by the picture's edge."""
    _, _, stats, _ = cv2.connectedComponentsWithStats(person.view(np.uint8), connectivity=8)
    tall = [tuple(int(side) for side in row[:4]) for row in stats[1:] if row[3] >= max(_LEAST_HEIGHT, 1.3 * row[2])]
    return [(x, y, w, h) for x, y, w, h in tall if x > 0 and y > 0 and x + w < person.shape[1]]


def _portrait(image: Image, person: BoolMask, box: tuple[int, int, int, int], height: int) -> Portrait:
    left, top, width, tall = box
    margin = round(_MARGIN * tall)
    window = np.s_[max(top - margin, 0) : top + tall + margin, max(left - margin, 0) : left + width + margin]
    scale = height / tall
    size = tuple(max(round(side * scale), 8) for side in person[window].shape[::-1])
    cut = cv2.resize(image[window], size, interpolation=cv2.INTER_AREA)
    outline = cv2.resize(person[window].view(np.uint8), size, interpolation=cv2.INTER_NEAREST).view(np.bool_)
    return Portrait(np.ascontiguousarray(cut), outline, dilate_by_size(outline, 0.04, 2))
