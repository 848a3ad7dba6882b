"""Golden clips: videos of which every person's outline is known.

::

    <folder>/NAME/clip.mp4          what a camera would send
    <folder>/NAME/masks/000000.png  one a frame: 0 background, 1 human, 255 not labelled

privseg draws its own, ``drawn-SEED-FRAMES``, once. A folder of yours beside them is used like them.
"""

from __future__ import annotations

import os
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from privseg.datasets.sources.synthetic import write_video
from privseg.errors import DataError, StorageError
from privseg.params import AuditParams

__all__ = ["Clip", "golden_clips"]

VIDEO: Final = "clip.mp4"
MASKS: Final = "masks"
DRAWN: Final = "drawn-"
_SIZE: Final = (360, 640)  # height, width
_FIRST_SEED: Final = 900  # far from the seeds that training scenes are drawn with


@dataclass(frozen=True)
class Clip:
    """A video and the folder of its masks."""

    name: str
    video: Path
    masks: Path


def golden_clips(folder: Path, rules: AuditParams) -> list[Clip]:
    """List the clips of a folder; the drawn ones that ``rules`` asks for are made when they are not there yet.

    Raises:
        DataError: A folder lacks its video or its masks.
        StorageError: The drawn clips cannot be written.
    """
    wanted = [f"{DRAWN}{_FIRST_SEED + index}-{rules.frames}" for index in range(rules.clips)]
    for name in wanted:
        if not (folder / name).is_dir():
            _draw(folder / name, rules.frames)
    own = sorted(entry.name for entry in folder.iterdir() if entry.is_dir() and not entry.name.startswith((DRAWN, ".")))
    clips = [Clip(name, folder / name / VIDEO, folder / name / MASKS) for name in (*wanted, *own)]
    for clip in clips:
        if not clip.video.is_file() or not clip.masks.is_dir():
            raise DataError(folder / clip.name, f"lacks {VIDEO} or {MASKS}/", "complete it, or remove the folder")
    return clips


def _draw(place: Path, frames: int) -> None:
    """Draw one clip; it appears when it is whole."""
    partial = place.with_name(f".{place.name}.{os.getpid()}")
    height, width = _SIZE
    seed = int(place.name.split("-")[1])
    try:
        partial.mkdir(parents=True)
        write_video(partial / VIDEO, seed, frames=frames, height=height, width=width, masks_dir=partial / MASKS)
        partial.rename(place)
    except OSError as error:
        raise StorageError.from_os_error(place, error) from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)
