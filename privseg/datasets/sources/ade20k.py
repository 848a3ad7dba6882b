"""ADE20K Scene Parsing (ADEChallengeData2016): person is raw value 13, raw value 0 is unlabelled."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from privseg.datasets.sources.base import Entry, LabelMap, Pool, Sample, list_images, to_samples
from privseg.errors import DataError

__all__ = ["Ade20kSource"]

LABELS = LabelMap(human=frozenset({13}), ignore=frozenset({0}), known=frozenset(range(151)))
_FOLDERS: tuple[tuple[str, Pool], ...] = (("training", "train"), ("validation", "test"))
_EXPECTED = "images/{training,validation}/*.jpg with annotations/{training,validation}/*.png"


@dataclass(frozen=True)
class Ade20kSource:
    """``training`` feeds the training pool, ``validation`` the test pool; one of them may be absent."""

    name: str
    root: Path
    limit: int | None = None

    def samples(self) -> Iterator[Sample]:
        """Samples sorted by name; one whose mask is missing raises DataError when it is loaded."""
        entries: list[Entry] = []
        for folder, pool in _FOLDERS:
            images, masks = self.root / "images" / folder, self.root / "annotations" / folder
            if images.is_dir():
                if not masks.is_dir():
                    raise DataError(masks, f"is missing; expected {_EXPECTED}", "unpack the annotations there")
                entries += [Entry(path.stem, pool, path, masks / f"{path.stem}.png") for path in list_images(images)]
        return to_samples(entries, LABELS, limit=self.limit, folder=self.root, expected=_EXPECTED)
