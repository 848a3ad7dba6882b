"""Which way up a photograph is: the orientation in the EXIF data of a JPEG, PNG or WebP file."""

from __future__ import annotations

import struct
from typing import Final

import numpy as np
import numpy.typing as npt

__all__ = ["orientation_of", "upright"]

_TAG: Final = 0x0112
_SHORT: Final = 3
_PREFIX: Final = b"Exif\0\0"


def orientation_of(content: bytes) -> int:
    """EXIF's orientation of a picture file, 1 to 8; 1, upright, where the file does not say or says nonsense."""
    try:
        return _from_tiff(_exif(content))
    except (struct.error, IndexError):
        return 1


def upright(pixels: npt.NDArray[np.uint8], orientation: int) -> npt.NDArray[np.uint8]:
    """Turn and mirror a picture as its orientation asks for.

    Args:
        pixels: uint8 ``(H, W, 3)``.
        orientation: See :func:`orientation_of`.

    Returns:
        uint8 ``(H, W, 3)``, or ``(W, H, 3)`` for orientations from 5 on; contiguous.
    """
    turned = pixels.swapaxes(0, 1) if orientation >= 5 else pixels
    down = -1 if orientation in {3, 4, 7, 8} else 1
    across = -1 if orientation in {2, 3, 6, 7} else 1
    return np.ascontiguousarray(turned[::down, ::across])


def _exif(content: bytes) -> bytes:
    """The TIFF structure inside; empty where there is none."""
    if content.startswith(b"\xff\xd8"):
        return _from_jpeg(content)
    if content.startswith(b"\x89PNG"):
        return _from_chunks(content, 8, ">I4s", b"eXIf")
    if content.startswith(b"RIFF"):
        return _from_chunks(content, 12, "<4sI", b"EXIF").removeprefix(_PREFIX)
    return b""


def _from_jpeg(content: bytes) -> bytes:
    at = 2
    while content[at] == 0xFF:
        kind, length = struct.unpack_from(">BH", content, at + 1)
        if kind == 0xFF:  # padding
            at += 1
            continue
        if kind == 0xDA:  # the picture itself begins
            break
        segment = content[at + 4 : at + 2 + length]
        if kind == 0xE1 and segment.startswith(_PREFIX):
            return segment.removeprefix(_PREFIX)
        at += 2 + length
    return b""


def _from_chunks(content: bytes, at: int, head: str, wanted: bytes) -> bytes:
    """The data of the first chunk of a kind: of PNG, length first and a checksum behind, or RIFF, padded to even."""
    riff = head.startswith("<")
    while True:
        first, second = struct.unpack_from(head, content, at)
        kind, length = (first, second) if riff else (second, first)
        if kind == wanted:
            return content[at + 8 : at + 8 + length]
        at += 8 + length + (length % 2 if riff else 4)


def _from_tiff(tiff: bytes) -> int:
    order = ">" if tiff.startswith(b"MM") else "<"
    (directory,) = struct.unpack_from(f"{order}I", tiff, 4)
    (count,) = struct.unpack_from(f"{order}H", tiff, directory)
    for entry in range(count):
        tag, kind, _, value = struct.unpack_from(f"{order}HHIH", tiff, directory + 2 + 12 * entry)
        if tag == _TAG:
            return int(value) if kind == _SHORT and 1 <= value <= 8 else 1
    return 1
