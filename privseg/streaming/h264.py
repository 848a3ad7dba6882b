"""Protected frames as H.264, into whatever container: a file, a playlist, a media server."""

from __future__ import annotations

import math
from fractions import Fraction
from typing import Final

import cv2
from av.container import OutputContainer
from av.video.frame import PictureType, VideoFrame
from av.video.stream import VideoStream

from privseg.privacy.frames import ProtectedFrame

__all__ = ["BITEXACT", "H264Stream"]

#: for the muxer: no names, versions and times of whoever wrote it
BITEXACT: Final = {"fflags": "+bitexact"}
_BT601: Final = 6  # AVCOL_SPC_SMPTE170M: players must undo the conversion made here


class H264Stream:
    """The one video stream of a container; times start at 0 with the first frame, and keep their distances.

    Args:
        container: Where it goes; opened for writing, without any stream.
        frame_rate: Frames a second, nominal.
        size: Width and height of the picture. An odd side is made even by repeating the last row or column; a frame
            of another size is scaled.
        pixel_aspect: Width of a pixel by its height, for players.
        preset: x264's trade of speed for size.
        quality: x264's constant rate factor; lower is better.
        lossless: Keep every bit (RGB, H.264 High 4:4:4 Predictive); ``preset`` and ``quality`` have no meaning then.
        immediate: Hold no picture back to encode it better: every frame is out when :meth:`write` returns.
        key_seconds: A key frame at least so often, by the frames' own times; as x264 likes where None.
    """

    def __init__(
        self,
        container: OutputContainer,
        frame_rate: Fraction,
        size: tuple[int, int],
        *,
        pixel_aspect: Fraction = Fraction(1),
        preset: str = "superfast",
        quality: int = 23,
        lossless: bool = False,
        immediate: bool = False,
        key_seconds: float | None = None,
    ) -> None:
        self._container = container
        self._size = size
        self._lossless = lossless
        self._key_seconds = key_seconds
        self._first: int | None = None
        self._last = -1
        self._next_key = 0
        # Noise does not compress: a slower preset gains a tenth of the size for three times the work.
        options = {"preset": "ultrafast", "qp": "0"} if lossless else {"preset": preset, "crf": str(quality)}
        options |= {"tune": "zerolatency"} if immediate else {}
        self._stream: VideoStream
        if lossless:
            self._stream = container.add_stream("libx264rgb", rate=frame_rate, options=options)
            self._stream.width, self._stream.height = size
            self._stream.pix_fmt = "rgb24"
        else:
            self._stream = container.add_stream("libx264", rate=frame_rate, options=options)
            self._stream.width, self._stream.height = (side + side % 2 for side in size)
            self._stream.pix_fmt = "yuv420p"
            self._stream.colorspace = _BT601
        self._stream.thread_count = 2
        self._stream.codec_context.sample_aspect_ratio = pixel_aspect

    @property
    def begun(self) -> bool:
        """Whether a frame was written."""
        return self._first is not None

    def seconds_of(self, frame: ProtectedFrame) -> float:
        """The time in the stream that :meth:`write` would give a frame now, in seconds."""
        pts, time_base = self._time_of(frame)
        return float(pts * time_base)

    def write(self, frame: ProtectedFrame) -> None:
        """Encode one frame.

        Raises:
            av.FFmpegError, OSError: It could not be written.
        """
        picture = self._picture(frame)
        pts, time_base = self._time_of(frame)
        if self._first is None:
            self._first = round(frame.pts * frame.time_base / time_base)
            self._stream.codec_context.time_base = time_base
        self._last = picture.pts = pts
        picture.time_base = time_base
        # A camera may be far slower than its nominal rate, so key frames go by the clock.
        if self._key_seconds is not None and pts >= self._next_key:
            picture.pict_type = PictureType.I
            self._next_key = pts + math.ceil(self._key_seconds / time_base)
        self._mux(picture)

    def finish(self) -> None:
        """Write what the encoder still holds. Raises as :meth:`write`."""
        if self.begun:
            self._mux(None)

    def _time_of(self, frame: ProtectedFrame) -> tuple[int, Fraction]:
        if self._first is None:
            return 0, frame.time_base
        time_base = self._stream.codec_context.time_base
        # A source may go back in time, or stand still: a player must not.
        return max(round(frame.pts * frame.time_base / time_base) - self._first, self._last + 1), time_base

    def _mux(self, picture: VideoFrame | None) -> None:
        for packet in self._stream.encode(picture):
            self._container.mux(packet)

    def _picture(self, frame: ProtectedFrame) -> VideoFrame:
        pixels = frame.pixels
        if (frame.width, frame.height) != self._size:
            pixels = cv2.resize(pixels, self._size, interpolation=cv2.INTER_AREA)
        if self._lossless:
            return VideoFrame.from_ndarray(pixels, format="rgb24")
        right, bottom = (side % 2 for side in self._size)
        if right or bottom:
            pixels = cv2.copyMakeBorder(pixels, 0, bottom, 0, right, cv2.BORDER_REPLICATE)
        # OpenCV's conversion (BT.601, limited range) takes a fifth of the time of FFmpeg's.
        return VideoFrame.from_ndarray(cv2.cvtColor(pixels, cv2.COLOR_RGB2YUV_I420), format="yuv420p")
