"""ADE20K Scene Parsing (ADEChallengeData2016): person is raw value 13, raw value 0 is unlabelled."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePath

from privseg.datasets.sources.base import Entry, LabelMap, Pool, Sample, list_images, to_samples
from privseg.errors import DataError
from privseg.params import SourceParams

__all__ = ["Ade20kSource"]

LABELS = LabelMap(human=frozenset({13}), ignore=frozenset({0}), known=frozenset(range(151)))
_FOLDERS: tuple[tuple[str, Pool], ...] = (("training", "train"), ("validation", "test"))
_EXPECTED = "images/{training,validation}/*.jpg with annotations/{training,validation}/*.png"


@dataclass(frozen=True)
class Ade20kSource:
    """``training`` feeds the training pool, ``validation`` the test pool; one of them may be absent."""

    name: str
    root: Path
    params: SourceParams

    def samples(self) -> Iterator[Sample]:
        """Samples sorted by name; one whose mask is missing raises DataError when it is loaded."""
        entries: list[Entry] = []
        for folder, pool in _FOLDERS:
            images, masks = self.root / "images" / folder, self.root / "annotations" / folder
            if images.is_dir():
                if not masks.is_dir():
                    raise DataError(masks, f"is missing; expected {_EXPECTED}", "unpack the annotations there")
                for image in list_images(images):
                    stem = PurePath(image).stem
                    entries.append(Entry(stem, pool, f"{images}/{image}", f"{masks}/{stem}.png"))
        return to_samples(entries, LABELS, limit=self.params.limit, folder=self.root, expected=_EXPECTED)


READER = Ade20kSource  # what `registry` opens for this kind
