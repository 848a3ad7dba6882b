"""Contact sheets: one frame of a clip under every method, labelled with name and class."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Final

import cv2
import numpy as np

from privseg.assessment import data as material
from privseg.assessment.coverage import Eye
from privseg.assessment.quality import BoolMask, Image
from privseg.assessment.subject import Subject, Variant
from privseg.privacy.people import find_people
from privseg.streaming.places import write_whole

__all__ = ["draw_sheet", "write_sheets"]

_TILE: Final = (192, 256)  # height, width
_CAPTION: Final = 34
_COLUMNS: Final = 5
_PERSON: Final = 0.45  # height of the tallest person in a tile, where the frame permits
_MOST_BYTES: Final = 300_000
_WHITE, _INK, _GREY = (255, 255, 255), (30, 30, 30), (110, 110, 110)


def write_sheets(names: Sequence[str], data: Path | None, eye: Eye, folder: Path) -> list[Path]:
    """Write one JPEG of at most 300 kB for every clip.

    Args:
        names: The methods.
        data: Real data, or None for a drawn clip.
        eye: Makes the masks.
        folder: Where the sheets go: ``methods_CLIP.jpg``.
    """
    paths = []
    for clip, (_, first) in material.CLIPS.items() if data else [("drawn", ("", 20))]:
        (frame,) = material.video_frames(data, clip, first, 1)
        # A method that learns the empty scene is shown it from behind the people, as a camera would.
        earlier = material.sampled_frames(data, clip, 48)
        sheet = draw_sheet(names, frame, eye.covered(frame), [(other, eye.covered(other)) for other in earlier])
        path = folder / f"methods_{clip.replace('-', '_')}.jpg"
        write_whole(path, _jpeg(sheet))
        paths.append(path)
    return paths


def draw_sheet(
    names: Sequence[str], frame: Image, mask: BoolMask, earlier: Sequence[tuple[Image, BoolMask]] = ()
) -> Image:
    """The part of a frame where people are, under each method; uint8 ``(H, W, 3)`` RGB.

    The frame itself is not on it: a sheet is published.
    """
    window = _window(mask)
    tiles: list[Image] = []
    for name in names:
        subject = Subject(Variant(name))
        if subject.method.strips:
            for picture, people in earlier:
                subject.cover(picture, people)
        covered = subject.cover(frame, mask)
        tiles.append(_tile(covered[window], name, subject.method.privacy_class))
    tiles += [np.full_like(tiles[0], 255)] * (-len(tiles) % _COLUMNS)
    rows = [np.hstack(tiles[start : start + _COLUMNS]) for start in range(0, len(tiles), _COLUMNS)]
    return np.vstack(rows)


def _window(mask: BoolMask) -> tuple[slice, slice]:
    """The window of a tile's shape with the most people in it, near enough to see what covers them."""
    height, width = mask.shape
    ratio = _TILE[1] / _TILE[0]
    tallest = max((person.height for person, _ in find_people(mask)), default=height)
    tall = round(min(tallest / _PERSON, height, width / ratio))
    wide = round(tall * ratio)
    inside = cv2.boxFilter(mask.astype(np.float32), -1, (wide, tall), anchor=(0, 0), borderType=cv2.BORDER_CONSTANT)
    top, left = np.unravel_index(
        inside[: height - tall + 1, : width - wide + 1].argmax(), (height - tall + 1, width - wide + 1)
    )
    return np.s_[int(top) : int(top) + tall, int(left) : int(left) + wide]


def _tile(picture: Image, name: str, below: str) -> Image:
    tile = np.full((_TILE[0] + _CAPTION + 8, _TILE[1] + 8, 3), 255, np.uint8)
    shrinks = picture.shape[0] > _TILE[0]
    tile[4 : 4 + _TILE[0], 4 : 4 + _TILE[1]] = cv2.resize(
        picture, _TILE[::-1], interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_CUBIC
    )
    font = cv2.FONT_HERSHEY_SIMPLEX
    cv2.putText(tile, name, (6, _TILE[0] + 19), font, 0.5, _INK, 1, cv2.LINE_AA)
    cv2.putText(tile, below, (6, _TILE[0] + 36), font, 0.42, _GREY, 1, cv2.LINE_AA)
    return tile


def _jpeg(sheet: Image) -> bytes:
    """As good as fits."""
    bgr = cv2.cvtColor(sheet, cv2.COLOR_RGB2BGR)
    for quality in range(88, 20, -4):
        content = bytes(cv2.imencode(".jpg", bgr, [cv2.IMWRITE_JPEG_QUALITY, quality])[1].tobytes())
        if len(content) <= _MOST_BYTES:
            break
    return content
