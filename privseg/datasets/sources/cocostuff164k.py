"""COCO-Stuff 164k: person is 0, 255 is unlabelled, in the raw maps and in ``*_labelTrainIds.png`` alike."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePath

from privseg.datasets.sources.base import Entry, LabelMap, Pool, Sample, list_files, list_images, to_samples
from privseg.errors import DataError
from privseg.params import SourceParams

__all__ = ["CocoStuffSource"]

LABELS = LabelMap(human=frozenset({0}), ignore=frozenset({255}), known=frozenset({*range(182), 255}))
_FOLDERS: tuple[tuple[str, Pool], ...] = (("train2017", "train"), ("val2017", "test"))
_EXPECTED = (
    "images/{train2017,val2017}/*.jpg with stuffthingmaps/{train2017,val2017}/*.png or "
    "annotations/{train2017,val2017}/*_labelTrainIds.png"
)


@dataclass(frozen=True)
class CocoStuffSource:
    """``train2017`` feeds the training pool, ``val2017`` the test pool; one of them may be absent.

    A mask by training ids goes before a raw map, and ``annotations`` before ``stuffthingmaps``.
    """

    name: str
    root: Path
    params: SourceParams

    def samples(self) -> Iterator[Sample]:
        """Samples sorted by name; one whose mask is missing raises DataError when it is loaded."""
        entries: list[Entry] = []
        for folder, pool in _FOLDERS:
            images = self.root / "images" / folder
            if images.is_dir():
                entries += self._entries(images, pool)
        return to_samples(entries, LABELS, limit=self.params.limit, folder=self.root, expected=_EXPECTED)

    def _entries(self, images: Path, pool: Pool) -> Iterator[Entry]:
        parents = [self.root / name / images.name for name in ("annotations", "stuffthingmaps")]
        masks = {parent: set(list_files(parent, (".png",))) for parent in parents if parent.is_dir()}
        if not any(masks.values()):
            fault = f"holds no mask for images/{images.name}; expected {_EXPECTED}"
            raise DataError(parents[1], fault, "unpack stuffthingmaps_trainval2017.zip there")
        missing = next(parent for parent, names in masks.items() if names)  # where one that is nowhere is looked for
        for image in list_images(images):
            stem = PurePath(image).stem
            candidates = ((parent, f"{stem}{kind}.png") for kind in ("_labelTrainIds", "") for parent in masks)
            found = next(((parent, name) for parent, name in candidates if name in masks[parent]), None)
            folder, name = found or (missing, f"{stem}.png")
            yield Entry(stem, pool, f"{images}/{image}", f"{folder}/{name}")


READER = CocoStuffSource  # what `registry` opens for this kind
