"""What every source offers: named samples that load as an RGB image and a person mask.

Masks hold three values everywhere in privseg: 0 background, 1 human, 255 ignore.
"""

from __future__ import annotations

import hashlib
import os
import unicodedata
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol, TypeVar

import cv2
import numpy as np
from numpy.typing import NDArray

from privseg.datasets.sources._pictures import REPAIR, read_image, read_labels, read_mask
from privseg.errors import DataError

__all__ = [
    "BACKGROUND",
    "HUMAN",
    "IGNORE",
    "Entry",
    "Image",
    "LabelMap",
    "Mask",
    "Pool",
    "Sample",
    "Source",
    "choose",
    "evenly_spaced",
    "file_stem",
    "list_files",
    "list_images",
    "read_image",
    "read_mask",
    "to_samples",
]

Image = NDArray[np.uint8]
Mask = NDArray[np.uint8]
Pool = Literal["train", "test"]
T = TypeVar("T")

BACKGROUND, HUMAN, IGNORE = 0, 1, 255
_STRANGER = 254  # stands for a label that a dataset does not define; no mask holds it
_STEM_BYTES = 200
_IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png")


class Sample:
    """One image with its mask, not yet read; light, because a source has many and keeps them all.

    Attributes:
        name: Unique within its source; `file_stem` makes the stem of the files written for it.
        pool: Whether it may be learnt from or only tested on.
        origin: The file to name in messages; ``scene <n>`` for a rendered one.
        load: Reads the pair: RGB uint8 ``(H, W, 3)`` and mask uint8 ``(H, W)`` of 0, 1, 255. Picklable. Raises
            DataError naming the file at fault.
        load_mask: Gives that mask alone, without decoding the image; a DataError if the mask cannot be used. Picklable.
    """

    __slots__ = ("_files", "load", "load_mask", "name", "origin", "pool")

    def __init__(
        self,
        name: str,
        pool: Pool,
        origin: str,
        load: Callable[[], tuple[Image, Mask]],
        load_mask: Callable[[], Mask],
        files: Iterable[Path | str] = (),
    ) -> None:
        self.name, self.pool, self.origin = name, pool, origin
        self.load, self.load_mask = load, load_mask
        self._files = tuple(os.fspath(file) for file in files)  # a Path weighs several times its text

    @property
    def files(self) -> tuple[Path, ...]:
        """The files it is read from, so that changed raw data can be noticed; none for a rendered scene."""
        return tuple(Path(file) for file in self._files)


class Source(Protocol):
    """A dataset that can be ingested."""

    @property
    def name(self) -> str:
        """Key of the source in ``params.yaml``."""

    def samples(self) -> Iterator[Sample]:
        """Samples sorted by name, the same on every call.

        Raises:
            DataError: The folder is missing or holds no sample; the message says what was expected there.
        """


@dataclass(frozen=True, slots=True)
class LabelMap:
    """How a dataset's own mask values become 0, 1 and 255.

    Attributes:
        human: Values that mean a person, or ``positive``: every one above 0, as where instances are numbered.
        ignore: Values that become 255.
        known: Every value the dataset defines; another one means that the file is no such mask. Empty: any byte, and
            above 255 only values of ``human`` and ``ignore``.
    """

    human: frozenset[int] | Literal["positive"]
    ignore: frozenset[int] = frozenset()
    known: frozenset[int] = frozenset()

    def binarize(self, labels: NDArray[np.uint8] | NDArray[np.uint16]) -> Mask:
        """Turn raw labels, uint8 or uint16 ``(H, W)``, into a mask of 0, 1, 255; ignore wins over human.

        Raises:
            ValueError: A value is not one the dataset defines.
        """
        table = np.full(1 << 8 * labels.itemsize, _STRANGER, np.uint8)
        table[self._within(self.known, table) if self.known else slice(256)] = BACKGROUND
        table[slice(1, None) if self.human == "positive" else self._within(self.human, table)] = HUMAN
        table[self._within(self.ignore, table)] = IGNORE
        # OpenCV's table look-up takes a quarter of numpy's time, but 8-bit labels only.
        mask: Mask = np.asarray(cv2.LUT(labels, table)) if labels.dtype == np.uint8 else table[labels]
        strangers = mask == _STRANGER
        if strangers.any():
            defined = "this dataset defines no such label" if self.known else "above 255 only those of human and ignore"
            raise ValueError(f"holds label {int(labels[strangers].min())} ({defined})")
        return mask

    @staticmethod
    def _within(values: frozenset[int], table: Mask) -> list[int]:
        return [value for value in values if value < len(table)]


@dataclass(frozen=True, slots=True)
class Entry:
    """One pair of files as a reader found it; the paths as text, which weighs a fifth of a Path."""

    name: str
    pool: Pool
    image: str
    mask: str


class _Named(Protocol):
    @property
    def name(self) -> str: ...

    @property
    def pool(self) -> Pool: ...

    @property
    def image(self) -> str: ...


N = TypeVar("N", bound=_Named)


@dataclass(frozen=True, slots=True)
class _Pair:
    image: str
    mask: str
    root: str
    labels: LabelMap

    def load(self) -> tuple[Image, Mask]:
        mask = self.load_mask()
        image = read_image(self.image, root=self.root, shape=mask.shape)
        if mask.shape != image.shape[:2]:
            sizes = [f"{pixels.shape[1]}x{pixels.shape[0]}" for pixels in (mask, image)]
            name = Path(self.image).name
            raise DataError(self.mask, f"is {sizes[0]} pixels, its image {name} {sizes[1]}", REPAIR)
        return image, mask

    def load_mask(self) -> Mask:
        labels = read_labels(self.mask, root=self.root)
        try:
            return self.labels.binarize(labels)
        except ValueError as error:
            step = "export raw labels as PNG, or choose the right kind of source"
            raise DataError(self.mask, str(error), step) from None


def file_stem(name: str) -> str:
    """The stem of the files written for a sample: portable, at most 200 bytes of UTF-8, unique as its name is.

    Most names are their own stem. One that is longer, or whose accents are not composed (NFC; some file systems take
    both spellings for one file), is composed, shortened, and told apart by a hash of the whole name.
    """
    composed = unicodedata.normalize("NFC", name)
    if composed == name and len(name.encode()) <= _STEM_BYTES:
        return name
    mark = f"~{hashlib.sha256(name.encode()).hexdigest()[:16]}"
    return composed.encode()[: _STEM_BYTES - len(mark)].decode(errors="ignore") + mark


def list_images(folder: Path) -> list[str]:
    """Names of the JPEG and PNG files directly in ``folder``, sorted; hidden ones are not samples.

    Names alone are looked at: whatever is called ``x.jpg`` is a sample, which may turn out unreadable.

    Raises:
        DataError: The folder cannot be listed.
    """
    return list_files(folder, _IMAGE_SUFFIXES)


def list_files(folder: Path, suffixes: tuple[str, ...]) -> list[str]:
    """Names, sorted, of what lies directly in ``folder`` and ends, in any case, in one of ``suffixes``; none hidden.

    Raises:
        DataError: The folder cannot be listed.
    """
    try:
        names = os.listdir(folder)  # noqa: PTH208 - texts, not Path objects: there may be a hundred thousand
    except OSError as error:
        raise DataError(folder, f"cannot be listed ({error.strerror})", "check the folder's permissions") from None
    return sorted(name for name in names if name.lower().endswith(suffixes) and name[0] != ".")


def evenly_spaced(items: Sequence[T], limit: int | None) -> list[T]:
    """At most ``limit`` of the items, evenly spaced, always the same ones, in order."""
    count = len(items)
    if limit is None or limit >= count:
        return list(items)
    return [items[index * count // limit] for index in range(limit)]


def choose(found: Iterable[N], *, limit: int | None, folder: Path, expected: str) -> list[N]:
    """Sort what a reader found by name, check the names, and keep at most ``limit`` a pool.

    Raises:
        DataError: There is none, a name is taken twice, or a name cannot be a file name.
    """
    entries = sorted(found, key=lambda entry: entry.name)
    if not entries:
        raise DataError(folder, f"holds no sample; expected {expected}", "correct the source's path in params.yaml")
    taken: dict[str, str] = {}
    for entry in entries:
        name = entry.name
        if not name.isprintable() or not name or name[0] == "." or "/" in name or "\\" in name:
            shown = os.fsencode(entry.image).decode(errors="backslashreplace")  # may not be UTF-8 at all
            raise DataError(shown, f"{name!r} cannot be a sample's name", "rename the file")
        stem = file_stem(name)
        if stem in taken:
            raise DataError(entry.image, f"has the same name as {taken[stem]}", "rename one, or make two sources")
        taken[stem] = entry.image
    if limit is None:
        return entries
    chosen: list[N] = []
    for pool in ("train", "test"):
        chosen += evenly_spaced([entry for entry in entries if entry.pool == pool], limit)
    return sorted(chosen, key=lambda entry: entry.name)


def to_samples(
    entries: Iterable[Entry], labels: LabelMap, *, limit: int | None, folder: Path, expected: str
) -> Iterator[Sample]:
    """Turn a reader's pairs of files into samples, chosen by `choose`.

    A file that lies outside ``folder``, the source's root, once symbolic links are followed is not read: its sample
    raises DataError. The root itself may be a link.
    """
    root = os.path.realpath(folder)
    for entry in choose(entries, limit=limit, folder=folder, expected=expected):
        pair = _Pair(entry.image, entry.mask, root, labels)
        yield Sample(entry.name, entry.pool, entry.image, pair.load, pair.load_mask, (entry.image, entry.mask))
