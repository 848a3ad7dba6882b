"""What every source offers: named samples that load as an RGB image and a person mask.

Masks hold three values everywhere in privseg: 0 background, 1 human, 255 ignore.
"""

from __future__ import annotations

import functools
import io
import itertools
import struct
import warnings
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol, TypeVar

import numpy as np
import PIL
import PIL.Image
from numpy.typing import NDArray

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
    "evenly_spaced",
    "list_images",
    "load_pair",
    "read_image",
    "read_mask",
    "to_samples",
]

Image = NDArray[np.uint8]
Mask = NDArray[np.uint8]
Pool = Literal["train", "test"]
T = TypeVar("T")

BACKGROUND, HUMAN, IGNORE = 0, 1, 255
IMAGE_SUFFIXES = {".jpg", ".jpeg", ".png"}
_IMAGE_MODES = {"1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "YCbCr"}
_DECODE_ERRORS = (
    OSError,  # includes Pillow's "unidentified" and "truncated"
    SyntaxError,  # Pillow's word for a broken PNG chunk
    ValueError,
    EOFError,
    MemoryError,
    struct.error,
    zlib.error,
    PIL.Image.DecompressionBombError,
    PIL.Image.DecompressionBombWarning,
)
_REPAIR = "replace the file with an intact copy, or remove the pair, then ingest again"


@dataclass(frozen=True)
class Sample:
    """One image with its mask, not yet read.

    Attributes:
        name: Unique within its source; also the stem of the files written for it.
        pool: Whether it may be learnt from or only tested on.
        origin: The file to name in messages; ``scene <n>`` for a rendered one.
        load: Reads the pair: RGB uint8 ``(H, W, 3)`` and mask uint8 ``(H, W)`` of 0, 1, 255. Picklable. Raises
            DataError naming the file at fault.
    """

    name: str
    pool: Pool
    origin: str
    load: Callable[[], tuple[Image, Mask]]


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


@dataclass(frozen=True)
class LabelMap:
    """How a dataset's own mask values become 0, 1 and 255.

    Attributes:
        human: Values that mean a person.
        ignore: Values that become 255.
        known: Every value the dataset defines; another one means that the file is no such mask. Empty: any value.
    """

    human: frozenset[int]
    ignore: frozenset[int] = frozenset()
    known: frozenset[int] = frozenset()

    def binarize(self, labels: Mask) -> Mask:
        """Turn raw labels, uint8 ``(H, W)``, into a mask of 0, 1, 255; ignore wins over human.

        Raises:
            ValueError: A value is not one the dataset defines.
        """
        if self.known:
            strangers = sorted(set(np.unique(labels).tolist()) - self.known)
            if strangers:
                raise ValueError(f"holds label {strangers[0]}, which this dataset does not define")
        table = np.full(256, BACKGROUND, np.uint8)
        table[sorted(self.human)] = HUMAN
        table[sorted(self.ignore)] = IGNORE
        return table[labels]


@dataclass(frozen=True)
class Entry:
    """One pair of files as a reader found it."""

    name: str
    pool: Pool
    image: Path
    mask: Path


def read_image(path: Path) -> Image:
    """Decode a JPEG or PNG fully, in stored pixel order (the masks of these datasets ignore EXIF orientation).

    Returns:
        RGB uint8 ``(H, W, 3)``; greyscale, palette, CMYK and transparent pictures are converted.

    Raises:
        DataError: The file is missing, unreadable, corrupt, truncated, or too large to be a picture.
    """
    image = _decode(path, ("JPEG", "PNG"), "image")
    if image.mode not in _IMAGE_MODES:
        raise DataError(path, f"has the unsupported pixel format {image.mode}", "convert the image to 8-bit RGB")
    if "transparency" in image.info:  # straight to RGB would leave the palette's transparent entry undefined
        image = image.convert("RGBA")
    return np.asarray(image.convert("RGB"), np.uint8)


def read_mask(path: Path) -> Mask:
    """Decode a single-channel PNG mask as its raw values: palette indices stay indices.

    Returns:
        uint8 ``(H, W)``, the dataset's own labels.

    Raises:
        DataError: The file is missing, unreadable, corrupt, truncated, no PNG, or has colour channels.
    """
    image = _decode(path, ("PNG",), "mask")
    if image.mode not in {"L", "P"}:
        raise DataError(
            path, f"is a mask in pixel format {image.mode}, not 8-bit greyscale or palette", "export raw labels as PNG"
        )
    labels = np.asarray(image, np.uint8)
    depth = image.info["bit_depth"]
    # Pillow stretches 2- and 4-bit greyscale to 0..255; labels are wanted as they were stored.
    return labels // (255 // (2**depth - 1)) if image.mode == "L" and depth < 8 else labels


def load_pair(image_path: Path, mask_path: Path, labels: LabelMap) -> tuple[Image, Mask]:
    """Read an image and its mask.

    Returns:
        RGB uint8 ``(H, W, 3)`` and mask uint8 ``(H, W)`` of 0 background, 1 human, 255 ignore.

    Raises:
        DataError: Either file cannot be used, their sizes differ, or the mask holds an unknown label.
    """
    image, raw = read_image(image_path), read_mask(mask_path)
    if raw.shape != image.shape[:2]:
        raise DataError(
            mask_path,
            f"is {raw.shape[1]}x{raw.shape[0]} pixels, its image {image_path.name} {image.shape[1]}x{image.shape[0]}",
            _REPAIR,
        )
    try:
        return image, labels.binarize(raw)
    except ValueError as error:
        raise DataError(mask_path, str(error), "export raw labels as PNG, or choose the right kind of source") from None


def list_images(folder: Path) -> list[Path]:
    """JPEG and PNG files directly in ``folder``, sorted by name; hidden ones are not samples."""
    try:
        return sorted(
            path for path in folder.iterdir() if path.suffix.lower() in IMAGE_SUFFIXES and path.name[0] != "."
        )
    except OSError as error:
        raise DataError(folder, f"cannot be listed ({error.strerror})", "check the folder's permissions") from None


def evenly_spaced(items: Sequence[T], limit: int | None) -> list[T]:
    """At most ``limit`` of the items, evenly spaced, always the same ones, in order."""
    count = len(items)
    if limit is None or limit >= count:
        return list(items)
    return [items[index * count // limit] for index in range(limit)]


def to_samples(
    entries: Iterable[Entry], labels: LabelMap, *, limit: int | None, folder: Path, expected: str
) -> Iterator[Sample]:
    """Turn a reader's entries into samples: sorted by name, at most ``limit`` a pool.

    Raises:
        DataError: There is none, a name is taken twice, or a name cannot be a file name.
    """
    found = sorted(entries, key=lambda entry: entry.name)
    if not found:
        raise DataError(folder, f"holds no sample; expected {expected}", "correct the source's path in params.yaml")
    for entry in found:
        if not entry.name or entry.name.startswith(".") or any(c in "/\\" or not c.isprintable() for c in entry.name):
            raise DataError(entry.image, f"{entry.name!r} cannot be a sample's name", "rename the file")
    for first, second in itertools.pairwise(found):
        if first.name == second.name:
            raise DataError(second.image, f"has the same name as {first.image}", "rename one, or make two sources")
    chosen: list[Entry] = []
    for pool in ("train", "test"):
        chosen += evenly_spaced([entry for entry in found if entry.pool == pool], limit)
    chosen.sort(key=lambda entry: entry.name)
    return iter(
        [
            Sample(
                entry.name,
                entry.pool,
                str(entry.image),
                functools.partial(load_pair, entry.image, entry.mask, labels),
            )
            for entry in chosen
        ]
    )


def _decode(path: Path, formats: tuple[str, ...], what: str) -> PIL.Image.Image:
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        raise DataError(path, f"the {what} is missing", _REPAIR) from None
    except OSError as error:
        raise DataError(path, f"cannot be read ({error.strerror or error})", "check the file's permissions") from None
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # damaged EXIF is of no interest here
            warnings.simplefilter("error", PIL.Image.DecompressionBombWarning)
            image = PIL.Image.open(io.BytesIO(data), formats=formats)
            if image.format == "PNG":  # decoding alone skips checksums and a missing end; verifying uses the object up
                image.verify()
                image = PIL.Image.open(io.BytesIO(data), formats=formats)
            image.load()
    except _DECODE_ERRORS as error:
        raise DataError(path, f"the {what} cannot be decoded ({_reason(error, formats)})", _REPAIR) from None
    if image.format == "PNG":
        image.info["bit_depth"] = data[24]  # of the IHDR chunk, always the first
    return image


def _reason(error: BaseException, formats: tuple[str, ...]) -> str:
    if isinstance(error, PIL.UnidentifiedImageError):  # its own text names a memory address
        return f"no {' or '.join(formats)} file"
    return str(error) or type(error).__name__
