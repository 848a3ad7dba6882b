"""A folder of pictures as a recording: what a time-lapse camera, an exporter or a data set leaves behind."""

from __future__ import annotations

import re
import time
from collections.abc import Generator, Iterator
from fractions import Fraction
from pathlib import Path
from threading import Event
from typing import Final, cast

import av
import numpy as np
import numpy.typing as npt
from av.video.codeccontext import VideoCodecContext

from privseg.errors import DataError, PrivsegError, UsageError
from privseg.privacy.frames import RawFrame
from privseg.streaming.exif import orientation_of, upright

__all__ = ["DEFAULT_RATE", "FolderSource", "pictures_in"]

#: pictures a second, where nobody says otherwise
DEFAULT_RATE: Final = 10.0
_ENDINGS: Final = frozenset({".jpg", ".jpeg", ".png", ".bmp", ".webp"})
_DECODERS: Final = {
    "mjpeg": re.compile(rb"\xff\xd8\xff"),
    "png": re.compile(rb"\x89PNG\r\n\x1a\n"),
    "bmp": re.compile(rb"BM"),
    "webp": re.compile(rb"RIFF....WEBP", re.DOTALL),
}
# A few kilobytes can unpack to gigabytes: twice the pixels of an 8K camera are enough.
_MOST_PIXELS: Final = 1 << 26
_MOST_BYTES: Final = 4 * _MOST_PIXELS + (1 << 20)
_SLOWEST, _FASTEST = 0.001, 1000
_NUMBER: Final = re.compile(r"(\d+)")


def pictures_in(folder: Path) -> list[Path]:
    """The JPEG, PNG, BMP and WebP files right in a folder, hidden ones left out, ``2.jpg`` before ``10.jpg``.

    Raises:
        DataError: The folder cannot be read.
    """
    try:
        found = [
            path
            for path in folder.iterdir()
            if path.suffix.lower() in _ENDINGS and not path.name.startswith(".") and path.is_file()
        ]
    except OSError as error:
        raise DataError(folder, f"cannot be read ({error.strerror})", "check the folder and its permissions") from None
    return sorted(found, key=_natural)


class FolderSource:
    """The pictures of a folder, one after the other, as a recording; see :class:`privseg.streaming.source.FrameSource`.

    Args:
        folder: Where the pictures are; folders inside are not looked into.
        rate: Pictures a second, nominal.
        realtime: Play them at that pace, as a camera would.
        loop: Start again after the last one; pictures added meanwhile come, too.

    Raises:
        UsageError: The path is no folder, or the rate out of bounds.
    """

    def __init__(
        self, folder: str | Path, *, rate: float = DEFAULT_RATE, realtime: bool = False, loop: bool = False
    ) -> None:
        self.name = str(folder)
        #: pictures that could not be decoded, are damaged or too large; skipped
        self.corrupt = 0
        self.fault: PrivsegError | None = None
        self.pixel_aspect = Fraction(1)
        self._folder = Path(folder)
        self._realtime = realtime
        self._loop = loop
        self._sequence = 0
        self._stopped = Event()
        if not self._folder.is_dir():
            raise UsageError(self.name, "is not a folder", "give the path of a folder of pictures")
        if not _SLOWEST <= rate <= _FASTEST:
            raise UsageError(
                self.name, f"cannot be played at {rate:g} pictures a second", f"give {_SLOWEST} to {_FASTEST}"
            )
        self._rate = Fraction(rate).limit_denominator(1000)

    @property
    def live(self) -> bool:
        """Whether it is played at its own pace."""
        return self._realtime

    @property
    def endless(self) -> bool:
        """Never: when the pictures end, no connection was lost."""
        return False

    @property
    def frame_rate(self) -> Fraction:
        """Pictures a second, as asked for."""
        return self._rate

    def stop(self) -> None:
        """End :meth:`frames` soon, from another thread."""
        self._stopped.set()

    def frames(self) -> Iterator[RawFrame]:
        """Yield every readable picture; its time tells its place among all, so that a skipped one leaves a gap.

        Raises:
            DataError: The folder cannot be read, or holds no readable picture.
        """
        started, first = time.monotonic(), 0
        while True:
            first = yield from self._play(started, first)
            if not self._loop or self._stopped.is_set():
                return

    def _play(self, started: float, first: int) -> Generator[RawFrame, None, int]:
        """One pass, whose first picture is number ``first``; returns the number at which the next one starts."""
        paths = pictures_in(self._folder)
        sequence_before = self._sequence
        for number, path in enumerate(paths):
            due = started + float((first + number) / self._rate)
            if self._stopped.wait(max(due - time.monotonic(), 0) if self._realtime else 0):
                return first
            begun = time.perf_counter()
            pixels = _read(path)
            if pixels is None:
                self.corrupt += 1
                continue
            self._sequence += 1  # before: whoever leaves in between may come again
            yield RawFrame(
                pixels, sequence=self._sequence - 1, pts=first + number, time_base=1 / self._rate,
                decode_seconds=time.perf_counter() - begun,
            )  # fmt: skip
        if self._sequence == sequence_before:
            fault = f"none of its {len(paths)} pictures can be read" if paths else "holds no picture"
            raise DataError(self.name, fault, "put whole JPEG, PNG, BMP or WebP files of up to 67 megapixels there")
        return first + len(paths)


def _natural(path: Path) -> tuple[list[str | int], str]:
    """A key that puts ``2`` before ``10``; texts and numbers take turns, so that only like is compared with like."""
    parts = _NUMBER.split(path.name.casefold())
    return [int(part) if odd % 2 else part for odd, part in enumerate(parts)], path.name


def _read(path: Path) -> npt.NDArray[np.uint8] | None:
    """Upright uint8 ``(H, W, 3)`` RGB; None for a file that is no picture, is not whole, or is too large.

    What a file is, its first bytes tell, not its name. A decoder makes up what a damaged file lacks, and people in
    that part would be missed: it is told to give up instead.
    """
    try:
        if path.stat().st_size > _MOST_BYTES:
            return None
        content = path.read_bytes()
        name = next((name for name, magic in _DECODERS.items() if magic.match(content)), None)
        if name is None:
            return None
        decoder = cast(VideoCodecContext, av.CodecContext.create(name, "r"))
        decoder.thread_count = 1  # threads of its own for every picture cost more than they save
        decoder.options = {"err_detect": "crccheck+explode", "max_pixels": str(_MOST_PIXELS)}
        pictures = [*decoder.decode(av.Packet(content)), *decoder.decode(None)]
        if not pictures or pictures[0].is_corrupt:
            return None
        pixels = np.asarray(pictures[0].to_ndarray(format="rgb24"), dtype=np.uint8)
    except (av.FFmpegError, OSError, ValueError, MemoryError):
        return None
    return upright(pixels, orientation_of(content))
