"""Image and mask files as arrays, whatever the file turns out to be: every fault is one DataError that names it.

A file is looked at before it is decoded: it must lie inside its source's folder once symbolic links are followed, be a
regular file that is not empty, be a JPEG or PNG, and its header must promise a picture of a sane size. So a pipe does
not block, and a decompression bomb costs no memory.

Orientation: the masks of the public datasets are in stored pixel order, and an EXIF tag is ignored. A picture is
turned as its tag says only where its mask fits the turned picture and not the stored one, as when a labelling tool
showed it upright. Where both fit (a square picture, or one upside down) stored order it is.
"""

from __future__ import annotations

import os
import stat
import struct
import warnings
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from typing import BinaryIO

import numpy as np
import PIL
import PIL.Image
from numpy.typing import NDArray

from privseg.errors import DataError

__all__ = ["MAX_PIXELS", "REPAIR", "read_image", "read_labels", "read_mask"]

MAX_PIXELS = 80_000_000  # of a picture; more is no photograph of these datasets, and would take 240 MB as RGB
REPAIR = "replace the file with an intact copy, or remove the pair, then ingest again"
_IMAGE_MODES = {"1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "YCbCr"}
_DECODE_ERRORS = (
    OSError,  # includes Pillow's "unidentified" and "truncated"
    SyntaxError,  # Pillow's word for a broken PNG chunk
    ValueError,
    EOFError,
    MemoryError,
    LookupError,  # where Pillow stumbles, as over a PNG without pixels
    TypeError,
    ArithmeticError,
    struct.error,
    zlib.error,
    PIL.Image.DecompressionBombError,
    PIL.Image.DecompressionBombWarning,
)
_ORIENTATION = 0x0112  # of EXIF; 5 to 8 exchange width and height
_TURNS: dict[object, PIL.Image.Transpose] = {
    5: PIL.Image.Transpose.TRANSPOSE,
    6: PIL.Image.Transpose.ROTATE_270,
    7: PIL.Image.Transpose.TRANSVERSE,
    8: PIL.Image.Transpose.ROTATE_90,
}
_AS_PNG = "export raw labels as PNG"


def read_image(
    path: str | os.PathLike[str], *, root: str | None = None, shape: tuple[int, ...] | None = None
) -> NDArray[np.uint8]:
    """Decode a JPEG or PNG fully, in stored pixel order.

    Args:
        path: The file.
        root: Real path of the folder the file must lie in; none: anywhere.
        shape: Height and width of its mask; the picture is turned as its EXIF says if it fits only then.

    Returns:
        RGB uint8 ``(H, W, 3)``; greyscale, palette, CMYK and transparent pictures are converted.

    Raises:
        DataError: The file is missing, unreadable, elsewhere, corrupt, truncated, or too large to be a picture.
    """
    image = _decode(path, ("JPEG", "PNG"), "image", root)
    if image.mode not in _IMAGE_MODES:
        raise DataError(path, f"has the unsupported pixel format {image.mode}", "convert the image to 8-bit RGB")
    if shape is not None and shape == image.size != image.size[::-1]:
        turn = _TURNS.get(_orientation(image))
        image = image if turn is None else image.transpose(turn)
    if "transparency" in image.info:  # straight to RGB would leave the palette's transparent entry undefined
        image = image.convert("RGBA")
    return np.asarray(image.convert("RGB"), np.uint8)


def read_mask(path: str | os.PathLike[str]) -> NDArray[np.uint8]:
    """Decode a PNG mask as its raw values, see `read_labels`, where they are known to fit a byte.

    Returns:
        uint8 ``(H, W)``, the dataset's own labels.

    Raises:
        DataError: As for `read_labels`, and a value above 255.
    """
    labels = read_labels(path)
    if labels.dtype != np.uint8:
        raise DataError(path, f"holds label {labels.max()}, above 255", _AS_PNG)
    return labels.astype(np.uint8, copy=False)


def read_labels(path: str | os.PathLike[str], *, root: str | None = None) -> NDArray[np.uint8] | NDArray[np.uint16]:
    """Decode a PNG mask as its raw values: palette indices stay indices, 1-bit pixels are 0 and 1.

    Three equal colour channels count as the one grey channel they are, and an alpha channel that hides nothing as none.

    Args:
        path: The file.
        root: Real path of the folder the file must lie in; none: anywhere.

    Returns:
        The dataset's own labels ``(H, W)``: uint8, or uint16 where a 16-bit mask has a value above 255.

    Raises:
        DataError: The file is missing, unreadable, elsewhere, corrupt, truncated, no PNG, or has colours.
    """
    image = _decode(path, ("PNG",), "mask", root)
    depth = image.info["bit_depth"]
    if image.mode in {"L", "P", "1"}:
        labels = np.asarray(image).astype(np.uint8)
        # Pillow stretches 2- and 4-bit greyscale to 0..255; labels are wanted as they were stored.
        return labels // (255 // (2**depth - 1)) if image.mode == "L" and depth < 8 else labels
    if image.mode == "I;16":
        wide = np.asarray(image).astype(np.uint16)
        return wide if int(wide.max()) > 255 else wide.astype(np.uint8)
    if image.mode not in {"LA", "RGB", "RGBA"} or depth != 8:  # of 16-bit colours Pillow drops the lower half
        raise DataError(path, f"is a mask in the unsupported pixel format {image.mode}, {depth} bits", _AS_PNG)
    channels = np.asarray(image)
    if image.mode in {"LA", "RGBA"}:
        if (channels[..., -1] != 255).any():
            raise DataError(path, "is a mask with transparent pixels, whose labels are unclear", _AS_PNG)
        channels = channels[..., :-1]
    grey = channels[..., 0]
    coloured = (channels != grey[..., np.newaxis]).any(axis=2)
    if coloured.any():
        row, column = np.argwhere(coloured)[0].tolist()
        colour = ",".join(str(part) for part in channels[row, column].tolist())
        raise DataError(path, f"is a mask in colours (r,g,b {colour} at x {column}, y {row}), not labels", _AS_PNG)
    return np.ascontiguousarray(grey, np.uint8)


def _decode(path: str | os.PathLike[str], formats: tuple[str, ...], what: str, root: str | None) -> PIL.Image.Image:
    with _opened(path, what, root) as file:
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # damaged EXIF is of no interest here
                warnings.simplefilter("error", PIL.Image.DecompressionBombWarning)
                image = _identify(file, formats)
                if image.format == "PNG":  # decoding skips checksums and a missing end; verifying uses the object up
                    image.verify()
                    image = _identify(file, formats)
                image.load()
        except _DECODE_ERRORS as error:
            raise DataError(path, f"the {what} cannot be decoded ({_reason(error, formats)})", REPAIR) from None
        if image.format == "PNG":
            file.seek(24)  # the bit depth, in the IHDR chunk, always the first
            image.info["bit_depth"] = file.read(1)[0]
    return image


def _identify(file: BinaryIO, formats: tuple[str, ...]) -> PIL.Image.Image:
    """Read the header alone."""
    file.seek(0)
    image: PIL.Image.Image = PIL.Image.open(file, formats=formats)
    if image.width * image.height > MAX_PIXELS:
        raise ValueError(f"{image.width}x{image.height} pixels, at most {MAX_PIXELS} are read")
    return image


@contextmanager
def _opened(path: str | os.PathLike[str], what: str, root: str | None) -> Iterator[BinaryIO]:
    """A regular, non-empty file, open; whatever else is there raises DataError instead of blocking."""
    real = path if root is None else os.path.realpath(path)
    if root is not None and not os.fspath(real).startswith(os.path.join(root, "")):  # noqa: PTH118 - texts, not paths
        raise DataError(path, f"points outside the source's folder (to {os.fspath(real)})", "copy the file in")
    try:
        handle = os.open(real, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)  # blocking, a pipe would wait for a writer
    except FileNotFoundError:
        raise DataError(path, f"the {what} is missing", REPAIR) from None
    except OSError as error:
        raise DataError(path, f"cannot be read ({error.strerror or error})", "check the file's permissions") from None
    status = os.fstat(handle)
    if not stat.S_ISREG(status.st_mode) or not status.st_size:
        os.close(handle)
        if stat.S_ISREG(status.st_mode):
            raise DataError(path, f"the {what} cannot be decoded (the file is empty)", REPAIR)
        kind = "a folder" if stat.S_ISDIR(status.st_mode) else "no regular file"
        raise DataError(path, f"cannot be read (it is {kind})", REPAIR)
    with os.fdopen(handle, "rb") as file:
        yield file


def _orientation(image: PIL.Image.Image) -> object:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return image.getexif().get(_ORIENTATION)
    except _DECODE_ERRORS:  # damaged EXIF tells nothing
        return None


def _reason(error: BaseException, formats: tuple[str, ...]) -> str:
    if isinstance(error, PIL.UnidentifiedImageError):  # its own text names a memory address
        return f"no {' or '.join(formats)} file"
    return "damaged" if isinstance(error, LookupError | TypeError) else str(error) or type(error).__name__
