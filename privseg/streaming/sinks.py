"""Where protected frames go. A sink takes a ``ProtectedFrame`` and refuses everything else."""

from __future__ import annotations

import os
from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import Final, Protocol, Self

import av
import cv2
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from privseg.errors import PrivacyViolationPrevented, StorageError, UsageError
from privseg.privacy.frames import ProtectedFrame

__all__ = ["FrameSink", "H264FileSink", "output_format"]

_FORMATS: Final = {".mp4": "mp4", ".m4v": "mp4", ".mov": "mov", ".mkv": "matroska"}
_BT601: Final = 6  # AVCOL_SPC_SMPTE170M: players must undo the conversion made here


class FrameSink(Protocol):
    """Something that takes protected frames."""

    def write(self, frame: ProtectedFrame) -> None:
        """Take one frame; raises PrivacyViolationPrevented for anything that is not a ProtectedFrame."""
        ...

    def close(self) -> None:
        """Finish and keep what was written."""
        ...

    def abort(self) -> None:
        """Finish and throw away what was written."""
        ...


class H264FileSink:
    """An H.264 file without sound or metadata, put in place only when it is whole.

    It grows beside its place as ``.NAME.partial``; an earlier file of the same name survives a run that fails.

    Args:
        path: ``.mp4``, ``.mov`` or ``.mkv``.
        frame_rate: Frames a second, nominal; the frames' own times are kept.
        size: Width and height of the picture. An odd side is made even by repeating the last protected row or
            column; a frame of another size is scaled.
        preset: x264's trade of speed for size.
        quality: x264's constant rate factor; lower is better.

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
        preset: str = "veryfast",
        quality: int = 23,
    ) -> None:
        self.path = path
        self._temporary = path.with_name(f".{path.name}.partial")
        self._size = size
        self._last_pts: int | None = None
        self._open = True
        container_format = output_format(path)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._container = av.open(
                f"file:{self._temporary.absolute()}", "w", format=container_format,
                options={"movflags": "+faststart", "fflags": "+bitexact"},
            )  # fmt: skip
        except (av.FFmpegError, OSError) as error:
            raise _storage_error(path, error) from None
        options = {"preset": preset, "crf": str(quality)}
        self._stream: VideoStream = self._container.add_stream("libx264", rate=frame_rate, options=options)
        self._stream.width, self._stream.height = (side + side % 2 for side in size)
        self._stream.pix_fmt = "yuv420p"
        self._stream.thread_count = 2
        self._stream.colorspace = _BT601

    def write(self, frame: ProtectedFrame) -> None:
        """Encode one frame.

        Raises:
            PrivacyViolationPrevented: It is not a ProtectedFrame; nothing is written.
            StorageError: The disk is full or the file cannot be written.
        """
        if type(frame) is not ProtectedFrame:
            raise PrivacyViolationPrevented(
                self.path, f"refused a {type(frame).__name__}", "only protect() and slate() make frames that may leave"
            )
        picture = self._picture(frame)
        if self._last_pts is None:
            self._stream.codec_context.time_base = frame.time_base
        time_base = self._stream.codec_context.time_base
        pts = round(frame.pts * frame.time_base / time_base)
        if self._last_pts is not None:
            pts = max(pts, self._last_pts + 1)
        self._last_pts = picture.pts = pts
        picture.time_base = time_base
        self._encode(picture)

    def close(self) -> None:
        """Flush, finish the file and move it into place; an empty one is thrown away. Raises StorageError."""
        if not self._open:
            return
        if self._last_pts is None:
            self.abort()
            return
        self._encode(None)
        self._open = False
        try:
            self._container.close()
            self._temporary.replace(self.path)
        except (av.FFmpegError, OSError) as error:
            self._temporary.unlink(missing_ok=True)
            raise _storage_error(self.path, error) from None

    def abort(self) -> None:
        """Throw the partial file away; an earlier file at the place stays as it was."""
        if not self._open:
            return
        self._open = False
        try:
            self._container.close()
        except (av.FFmpegError, OSError):
            pass  # a full disk again: the file goes anyway
        finally:
            self._temporary.unlink(missing_ok=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None:
            self.close()
        else:
            self.abort()

    def _picture(self, frame: ProtectedFrame) -> VideoFrame:
        pixels = frame.pixels
        if (frame.width, frame.height) != self._size:
            pixels = cv2.resize(pixels, self._size, interpolation=cv2.INTER_AREA)
        right, bottom = (side % 2 for side in self._size)
        if right or bottom:
            pixels = cv2.copyMakeBorder(pixels, 0, bottom, 0, right, cv2.BORDER_REPLICATE)
        # OpenCV's conversion (BT.601, limited range) takes a fifth of the time of FFmpeg's.
        return VideoFrame.from_ndarray(cv2.cvtColor(pixels, cv2.COLOR_RGB2YUV_I420), format="yuv420p")

    def _encode(self, picture: VideoFrame | None) -> None:
        try:
            for packet in self._stream.encode(picture):
                self._container.mux(packet)
        except (av.FFmpegError, OSError) as error:
            self.abort()
            raise _storage_error(self.path, error) from None


def output_format(path: Path) -> str:
    """The container format that a file name asks for; raises UsageError for one that is not known."""
    name = _FORMATS.get(path.suffix.lower())
    if name is None:
        raise UsageError(path, "has an ending no video container has", f"use one of {', '.join(_FORMATS)}")
    return name


def _storage_error(path: Path, error: Exception) -> StorageError:
    number = getattr(error, "errno", None)
    if isinstance(number, int) and number > 0:
        return StorageError.from_os_error(path, OSError(number, os.strerror(number)))
    return StorageError(path, f"cannot be written ({error})", "check the path and the disk, then try again")
