"""Plain image and mask folders, described entirely in ``params.yaml``."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePath

from privseg.datasets.sources.base import Entry, LabelMap, Sample, list_images, to_samples
from privseg.errors import DataError, UsageError
from privseg.params import SourceParams

__all__ = ["PairsSource"]

_MAX_LABEL = 65535  # of a 16-bit mask


@dataclass(frozen=True)
class PairsSource:
    """Every partition is one image folder, one mask folder and the pool its samples go to."""

    name: str
    root: Path
    params: SourceParams

    def samples(self) -> Iterator[Sample]:
        """Samples sorted by name; one whose mask is missing raises DataError when it is loaded."""
        if not self.params.partitions:
            raise UsageError(f"source {self.name}", "has no partitions", f"list them under sources.{self.name}")
        given = self.params.human
        labels = LabelMap("positive" if given == "positive" else frozenset(given), frozenset(self.params.ignore))
        named = [] if given == "positive" else given
        if not all(0 <= value <= _MAX_LABEL for value in [*named, *self.params.ignore]):
            raise UsageError(
                f"source {self.name}", f"has label values outside 0..{_MAX_LABEL}", "correct human and ignore"
            )
        entries: list[Entry] = []
        for part in self.params.partitions:
            images, masks = self.root / part.images, self.root / part.masks
            for folder, what in ((images, "images *.jpg or *.png"), (masks, "masks *.png")):
                if not folder.is_dir():
                    raise DataError(folder, f"is no folder; expected {what}", "correct the path in params.yaml")
            found = list_images(images)
            if not found:
                raise DataError(images, "holds no sample; expected images *.jpg or *.png", "correct the path")
            for index, image in enumerate(sorted(found)):
                stem = PurePath(image).stem
                held_out = part.hold_out_every is not None and index % part.hold_out_every == 0
                pool = "test" if held_out else part.pool
                entries.append(Entry(stem, pool, f"{images}/{image}", f"{masks}/{stem}{part.mask_suffix}.png"))
        return to_samples(entries, labels, limit=self.params.limit, folder=self.root, expected="image files")


READER = PairsSource  # what `registry` opens for this kind
