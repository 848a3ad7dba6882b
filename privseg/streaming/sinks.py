"""Where protected frames go. A sink takes a ``ProtectedFrame`` and refuses everything else."""

from __future__ import annotations

import contextlib
import io
import os
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Final, Protocol, Self

import av

from privseg.errors import StorageError, UsageError
from privseg.privacy.frames import ProtectedFrame, require_protected
from privseg.streaming.h264 import BITEXACT, H264Stream
from privseg.streaming.places import create_unique
from privseg.streaming.scramble_record import SidecarWriter

if TYPE_CHECKING:
    from typing_extensions import Buffer

__all__ = ["FrameSink", "H264FileSink", "is_playable", "output_format", "storage_error"]

_FORMATS: Final = {".mp4": "mp4", ".m4v": "mp4", ".mov": "mov", ".mkv": "matroska"}
_FRAGMENT_SECONDS: Final = 2
_FRAGMENTED: Final = {"movflags": "+frag_keyframe+empty_moov+default_base_moof", "flush_packets": "1"}


class FrameSink(Protocol):
    """Something that takes protected frames."""

    def write(self, frame: ProtectedFrame) -> None:
        """Take one frame; raises PrivacyViolationPrevented for anything that is not a ProtectedFrame."""
        ...

    def close(self) -> None:
        """Finish and keep what was written."""
        ...

    def abort(self) -> None:
        """Finish after a fault; whether what was written stays is the sink's own matter."""
        ...


class H264FileSink:
    """An H.264 file without sound or metadata, put in place only when it is finished.

    It grows beside its place, under a name of its own. An ordinary file is whole or not at all: after a fault it goes,
    and an earlier file of the same name stays. A recording is worth having in part: it is written in fragments of two
    seconds, as ``STEM.XXXXXXXX.partial.mp4``, playable up to the last fragment even when the machine stops; after a
    fault it is put in place with what it holds.

    Args:
        path: ``.mp4``, ``.mov`` or ``.mkv``.
        frame_rate: Frames a second, nominal; the frames' own times are kept.
        size: Width and height of the picture. An odd side is made even by repeating the last protected row or
            column; a frame of another size is scaled.
        recording: Keep what there is after a fault; an MP4 is written in fragments, so its header counts no frames.
        pixel_aspect: Width of a pixel by its height, for players.
        preset: x264's trade of speed for size.
        quality: x264's constant rate factor; lower is better.
        lossless: Keep every bit of the picture, odd sizes too (RGB, H.264 High 4:4:4 Predictive), and beside the file
            what the method recorded for each frame, see :mod:`privseg.streaming.scramble_record`. A frame that had to
            be scaled has no record: it stays covered for good. ``preset`` and ``quality`` have no meaning then.

    Raises:
        UsageError: The name's ending is not known.
        StorageError: The place cannot be written.
    """

    def __init__(
        self,
        path: Path,
        frame_rate: Fraction,
        size: tuple[int, int],
        *,
        recording: bool = False,
        pixel_aspect: Fraction = Fraction(1),
        preset: str = "superfast",
        quality: int = 23,
        lossless: bool = False,
    ) -> None:
        self.path = path
        self._size = size
        self._recording = recording
        self._written = 0
        self._open = True
        container_format = output_format(path)
        prefix, suffix = (f"{path.stem}.", f".partial{path.suffix}") if recording else (f".{path.name}.", ".partial")
        flags = _FRAGMENTED if recording else {"movflags": "+faststart"}
        try:
            self.temporary = create_unique(path.parent, prefix, suffix)
        except OSError as error:
            raise storage_error(path, error) from None
        self._file: _Fragments | None = None
        try:
            if recording:
                self._file = _Fragments(self.temporary, "wb")
            # Two passes over an ordinary file are FFmpeg's own, which needs its name.
            to = self._file or f"file:{self.temporary.absolute()}"
            self._container = av.open(to, "w", format=container_format, options=flags | BITEXACT)
        except (av.FFmpegError, OSError) as error:
            self._let_go()
            self.temporary.unlink(missing_ok=True)
            raise storage_error(path, error) from None
        self._sidecar = SidecarWriter(self.temporary, path) if lossless else None
        self._stream = H264Stream(
            self._container,
            frame_rate,
            size,
            pixel_aspect=pixel_aspect,
            preset=preset,
            quality=quality,
            lossless=lossless,
            immediate=recording,  # pictures held back would be lost with the machine
            key_seconds=_FRAGMENT_SECONDS if recording else None,
        )

    def write(self, frame: ProtectedFrame) -> None:
        """Encode one frame.

        Raises:
            PrivacyViolationPrevented: It is not a ProtectedFrame; nothing is written.
            UsageError: It can be recovered from a lossless file only, and this is none; nothing is written.
            StorageError: The disk is full or the file cannot be written.
        """
        require_protected(frame, self.path)
        if frame.record is not None and self._sidecar is None:
            fault = "is lossy: nothing scrambled can be recovered from it"
            raise UsageError(self.path, fault, "open the sink with lossless=True")
        with self._storage_faults():
            self._keep_record(frame)
            self._stream.write(frame)
        self._written += 1

    def close(self) -> None:
        """Flush, finish the file and move it into place; an empty one is thrown away. Raises StorageError."""
        if not self._open:
            return
        if not self._stream.begun:
            self.abort()
            return
        with self._storage_faults():
            self._stream.finish()
        self._open = False
        try:
            self._container.close()
            self._let_go()
            self._put_in_place()
        except (av.FFmpegError, OSError) as error:
            self._let_go()
            self._salvage()
            raise storage_error(self.path, error) from None

    def abort(self) -> None:
        """Finish after a fault: a recording is put in place with what it holds, another file is thrown away."""
        if not self._open:
            return
        self._open = False
        with contextlib.suppress(av.FFmpegError, OSError):  # the same fault again, such as a full disk
            self._container.close()
        self._let_go()
        self._salvage()

    def _let_go(self) -> None:
        if self._file is not None:
            self._file.close()

    def _salvage(self) -> None:
        """Put in place what a broken recording holds. Where even that fails, it stays under its own name."""
        with contextlib.suppress(OSError):
            if self._recording and is_playable(self.temporary):
                self._put_in_place()
            else:
                self.temporary.unlink(missing_ok=True)
                if self._sidecar is not None:
                    self._sidecar.discard()

    def _put_in_place(self) -> None:
        if self._sidecar is not None:
            self._sidecar.put_in_place()  # first: a video that is there can be recovered
        self.temporary.replace(self.path)

    def _keep_record(self, frame: ProtectedFrame) -> None:
        if self._sidecar is None or frame.record is None or (frame.width, frame.height) != self._size:
            return
        self._sidecar.write(self._written, self._stream.seconds_of(frame), frame.record)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None:
            self.close()
        else:
            self.abort()

    @contextlib.contextmanager
    def _storage_faults(self) -> Iterator[None]:
        """Within it, what the disk refuses ends the file with one clear line."""
        try:
            yield
        except (av.FFmpegError, OSError) as error:
            self.abort()
            raise storage_error(self.path, error) from None


class _Fragments(io.FileIO):
    """A file that takes all it is given or raises OSError, and that can be closed whatever became of its container.

    FFmpeg leaves a file open for good whose header it could not write: a gateway that tries again and again while the
    disk is full would run out of files.
    """

    def write(self, data: Buffer) -> int:
        """Write everything, or raise."""
        rest = memoryview(data).cast("B")
        size = len(rest)
        while rest:
            rest = rest[super().write(rest) or 0 :]
        return size


def output_format(path: Path) -> str:
    """The container format that a file name asks for; raises UsageError for one that is not known."""
    name = _FORMATS.get(path.suffix.lower())
    if name is None:
        raise UsageError(path, "has an ending no video container has", f"use one of {', '.join(_FORMATS)}")
    return name


def is_playable(path: Path) -> bool:
    """Whether a video file holds at least one picture that can be decoded."""
    try:
        with av.open(f"file:{path.absolute()}") as container:
            return next(container.decode(video=0), None) is not None
    except (av.FFmpegError, OSError, IndexError):
        return False


def storage_error(path: Path, error: Exception) -> StorageError:
    """One line about a file that could not be written."""
    number = getattr(error, "errno", None)
    if isinstance(number, int) and number > 0:
        return StorageError.from_os_error(path, OSError(number, os.strerror(number)))
    return StorageError(path, f"cannot be written ({error})", "check the path and the disk, then try again")
