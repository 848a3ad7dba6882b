"""PASCAL VOC 2012 segmentation: palette masks, person is class 15, the 255 border stays ignored."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from privseg.datasets.sources.base import Entry, LabelMap, Pool, Sample, to_samples
from privseg.errors import DataError
from privseg.params import SourceParams

__all__ = ["VocSource"]

LABELS = LabelMap(human=frozenset({15}), ignore=frozenset({255}), known=frozenset({*range(21), 255}))
_LISTS: tuple[tuple[str, Pool], ...] = (("train", "train"), ("val", "test"))
_EXPECTED = (
    "ImageSets/Segmentation/train.txt and val.txt naming files of JPEGImages/*.jpg and SegmentationClass/*.png "
    "(the folder VOCdevkit/VOC2012)"
)


@dataclass(frozen=True)
class VocSource:
    """``train.txt`` feeds the training pool, ``val.txt`` the test pool; ``trainval.txt`` is their sum and not read."""

    name: str
    root: Path
    params: SourceParams

    def samples(self) -> Iterator[Sample]:
        """Samples sorted by name; one whose files are missing raises DataError when it is loaded."""
        for folder in ("ImageSets/Segmentation", "JPEGImages", "SegmentationClass"):
            if not (self.root / folder).is_dir():
                raise DataError(self.root, f"has no {folder}; expected {_EXPECTED}", "correct the source's path")
        entries = [
            Entry(name, pool, f"{self.root}/JPEGImages/{name}.jpg", f"{self.root}/SegmentationClass/{name}.png")
            for name, pool in self._listed().items()
        ]
        return to_samples(entries, LABELS, limit=self.params.limit, folder=self.root, expected=_EXPECTED)

    def _listed(self) -> dict[str, Pool]:
        listed: dict[str, Pool] = {}
        for stem, pool in _LISTS:
            path = self.root / "ImageSets" / "Segmentation" / f"{stem}.txt"
            try:
                lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
            except (OSError, UnicodeDecodeError) as error:
                raise DataError(path, f"cannot be read as a list of names ({error})", "restore the list") from None
            for name in filter(None, map(str.strip, lines)):
                if name in listed:
                    fault = f"names {name} twice" if listed[name] == pool else f"names {name}, as train.txt does"
                    raise DataError(path, fault, "list every sample once")
                listed[name] = pool
        return listed


READER = VocSource  # what `registry` opens for this kind
