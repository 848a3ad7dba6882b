"""COCO-Stuff 164k: person is 0, 255 is unlabelled, in the raw maps and in ``*_labelTrainIds.png`` alike."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from privseg.datasets.sources.base import Entry, LabelMap, Pool, Sample, list_images, to_samples
from privseg.errors import DataError

__all__ = ["CocoStuffSource"]

LABELS = LabelMap(human=frozenset({0}), ignore=frozenset({255}), known=frozenset({*range(182), 255}))
_FOLDERS: tuple[tuple[str, Pool], ...] = (("train2017", "train"), ("val2017", "test"))
_EXPECTED = (
    "images/{train2017,val2017}/*.jpg with stuffthingmaps/{train2017,val2017}/*.png or "
    "annotations/{train2017,val2017}/*_labelTrainIds.png"
)


@dataclass(frozen=True)
class CocoStuffSource:
    """``train2017`` feeds the training pool, ``val2017`` the test pool; one of them may be absent."""

    name: str
    root: Path
    limit: int | None = None

    def samples(self) -> Iterator[Sample]:
        """Samples sorted by name; one whose mask is missing raises DataError when it is loaded."""
        entries: list[Entry] = []
        for folder, pool in _FOLDERS:
            images = self.root / "images" / folder
            if images.is_dir():
                masks = self._masks(folder)
                entries += [
                    Entry(image.stem, pool, image, _mask_of(image.stem, masks)) for image in list_images(images)
                ]
        return to_samples(entries, LABELS, limit=self.limit, folder=self.root, expected=_EXPECTED)

    def _masks(self, folder: str) -> dict[str, Path]:
        candidates = [self.root / parent / folder for parent in ("annotations", "stuffthingmaps")]
        masks = {path.name: path for parent in candidates if parent.is_dir() for path in parent.glob("*.png")}
        if not masks:
            raise DataError(
                self.root / "stuffthingmaps" / folder,
                f"holds no mask for images/{folder}; expected {_EXPECTED}",
                "unpack stuffthingmaps_trainval2017.zip there",
            )
        return masks


def _mask_of(stem: str, masks: dict[str, Path]) -> Path:
    """The mask by training ids if there is one, else the raw map; a name that fits where neither exists."""
    for name in (f"{stem}_labelTrainIds.png", f"{stem}.png"):
        if name in masks:
            return masks[name]
    return next(iter(masks.values())).with_name(f"{stem}.png")
