"""Where raw frames come from: files and cameras, through PyAV, pictures only.

Sound, subtitles and data streams are never read. A camera's URL may hold a password: every message and name made
here is redacted.
"""

from __future__ import annotations

import time
from collections.abc import Generator, Iterator
from contextlib import suppress
from fractions import Fraction
from pathlib import Path
from threading import Event
from typing import Final, Protocol
from urllib.parse import urlsplit, urlunsplit

import av
import numpy as np
from av.container import InputContainer
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from privseg.errors import DataError, PrivsegError, ServerUnavailableError, UsageError
from privseg.privacy.frames import RawFrame

__all__ = ["FrameSource", "VideoSource", "redact"]

_LIVE_SCHEMES: Final = frozenset({"rtsp", "rtsps", "rtmp", "rtmps", "srt", "udp", "rtp"})
_URL_SCHEMES: Final = _LIVE_SCHEMES | {"http", "https"}
_LIVE_CLOCK: Final = Fraction(1, 90_000)
_DEFAULT_RATE: Final = Fraction(25)
# A recording may end this much before its promised end without being called truncated.
_SLACK_SECONDS: Final = 0.25


class FrameSource(Protocol):
    """What the pipeline needs of a camera."""

    #: may appear in logs: no credentials
    name: str
    #: frames come at their own pace, and a late reader gets the newest
    live: bool
    #: it never ends of itself: when it does, the connection was lost
    endless: bool
    #: packets that could not be decoded
    corrupt: int
    #: what was wrong with a source whose readable frames have all been delivered
    fault: PrivsegError | None

    @property
    def frame_rate(self) -> Fraction:
        """Frames a second, nominal; known once frames come."""
        ...

    def frames(self) -> Iterator[RawFrame]:
        """Open the source and yield its frames; may be called again after it ended or was lost.

        Raises:
            PrivsegError: It cannot be opened, or its connection was lost.
        """
        ...

    def stop(self) -> None:
        """End :meth:`frames` soon, from another thread."""
        ...


def redact(uri: str) -> str:
    """The URI without user, password and query, fit for messages; a path stays as it is."""
    if not _is_url(uri):
        return uri
    parts = urlsplit(uri)
    host = parts.netloc.rpartition("@")[2]
    network = f"***@{host}" if "@" in parts.netloc else host
    return urlunsplit((parts.scheme, network, parts.path, "***" if parts.query else "", ""))


class VideoSource:
    """A video file, or a camera or recording behind a URL.

    Args:
        uri: A path, or an ``rtsp://`` (over TCP), ``http://``, … address.
        realtime: Play a file at its own pace, as a camera would.
        loop: Start a file again when it ends.
        open_timeout: Seconds to wait for a connection.
        read_timeout: Seconds without data after which a camera counts as lost.

    Raises:
        UsageError: The path does not exist or is no file.
    """

    def __init__(
        self,
        uri: str,
        *,
        realtime: bool = False,
        loop: bool = False,
        open_timeout: float = 10,
        read_timeout: float = 10,
    ) -> None:
        self.name = redact(uri)
        self.corrupt = 0
        self.fault: PrivsegError | None = None
        self._uri = uri
        self._is_url = _is_url(uri)
        self.endless = self._is_url and urlsplit(uri).scheme.lower() in _LIVE_SCHEMES
        self.live = self.endless or realtime
        self._realtime = realtime and not self.endless
        self._loop = loop and not self.endless
        self._timeout = (open_timeout, read_timeout)
        self._rate = _DEFAULT_RATE
        self._sequence = 0
        self._began: float | None = None
        self._stopped = Event()
        if not self._is_url and not Path(uri).is_file():
            fault = "is not a file" if Path(uri).exists() else "does not exist"
            raise UsageError(self.name, fault, "give the path of a video file, or a camera's URL")

    @property
    def frame_rate(self) -> Fraction:
        """Frames a second as the container says; 25 until it was opened."""
        return self._rate

    def stop(self) -> None:
        """End :meth:`frames` soon, from another thread."""
        self._stopped.set()

    def frames(self) -> Iterator[RawFrame]:
        """Yield every readable frame in presentation order; sequence numbers go on over restarts.

        A file that ends before its time yields what it holds, then :attr:`fault` says so.

        Raises:
            DataError: The file is no video, or none of its frames can be read.
            ServerUnavailableError: The camera cannot be reached, or was lost.
        """
        offset = Fraction(0)
        while True:
            end = yield from self._play(offset)
            if not self._loop or self._stopped.is_set():
                return
            offset = end

    def _play(self, offset: Fraction) -> Generator[RawFrame, None, Fraction]:
        """One pass; returns the time at which the next one starts, in seconds."""
        with self._open() as container:
            stream = self._video_stream(container)
            promised = _promised_seconds(container, stream)
            clock = _LIVE_CLOCK if self.endless else (stream.time_base or _LIVE_CLOCK)
            started, end = time.monotonic(), Fraction(0)
            first: Fraction | None = None
            sequence_before = self._sequence
            for picture, seconds in self._decode(container, stream):
                at = _time_of(picture)
                first = (at if at is not None else Fraction(0)) if first is None else first
                begin = at - first if at is not None else end
                end = begin + (_duration_of(picture) or 1 / self._rate)
                if self._realtime and self._stopped.wait(max(started + float(begin) - time.monotonic(), 0)):
                    return end
                begun = time.perf_counter()
                pixels = self._pixels(picture)
                if pixels is None:
                    continue
                seconds += time.perf_counter() - begun
                pts = self._live_pts() if self.endless else round((offset + begin) / clock)
                yield RawFrame(pixels, sequence=self._sequence, pts=pts, time_base=clock, decode_seconds=seconds)
                self._sequence += 1
                if self._stopped.is_set():
                    return end
        self._judge(self._sequence > sequence_before, end, promised)
        return offset + end

    def _open(self) -> InputContainer:
        options = {"protocol_whitelist": "file,crypto,data"}
        address = f"file:{Path(self._uri).absolute()}"
        if self._is_url:
            address = self._uri
            options = {"rtsp_transport": "tcp", "allowed_media_types": "video"} if self._uri.startswith("rtsp") else {}
            if self.endless:
                options["fflags"] = "nobuffer+discardcorrupt"
        try:
            return av.open(address, "r", options=options, timeout=self._timeout, metadata_errors="replace")
        except (av.FFmpegError, OSError, ValueError) as error:
            unusable = self._unusable(error)
        raise unusable  # outside the handler: FFmpeg's error holds the address with its password

    def _unusable(self, error: Exception) -> PrivsegError:
        cause = getattr(error, "strerror", None) or type(error).__name__
        if self._is_url:
            return ServerUnavailableError(self.name, f"cannot be opened ({cause})", "check the camera and its address")
        return DataError(self.name, f"cannot be read as a video ({cause})", "check the file or record it again")

    def _video_stream(self, container: InputContainer) -> VideoStream:
        if not container.streams.video:
            raise DataError(self.name, "holds no pictures", "give a file or stream with video")
        stream = container.streams.video[0]
        rate = stream.average_rate or stream.guessed_rate
        self._rate = rate if rate and 0 < rate <= 1000 else _DEFAULT_RATE
        # Frame threads delay the picture by their number, and lose good pictures around a bad packet.
        stream.thread_type = "SLICE"
        stream.thread_count = 2
        return stream

    def _decode(self, container: InputContainer, stream: VideoStream) -> Iterator[tuple[VideoFrame, float]]:
        """Yield ``(picture, seconds of decoding)``; a packet that cannot be decoded is counted and skipped."""
        packets = container.demux(stream)
        while True:
            lost: str | None = None
            try:
                packet = next(packets, None)
            except av.FFmpegError as error:
                packet, lost = None, error.strerror or "no data"
            if lost and self._is_url:
                raise ServerUnavailableError(self.name, f"was lost ({lost})", "check the camera")
            if packet is not None and packet.size == 0:
                continue  # an empty packet would end the decoder; it is flushed once, after the last one
            begun = time.perf_counter()
            try:
                pictures = stream.decode(packet)
            except av.FFmpegError:
                pictures = []
                self.corrupt += packet is not None
            spent = time.perf_counter() - begun
            yield from ((picture, spent / len(pictures)) for picture in pictures)
            if packet is None:
                return

    def _pixels(self, picture: VideoFrame) -> np.ndarray[tuple[int, ...], np.dtype[np.uint8]] | None:
        """Upright uint8 ``(H, W, 3)`` RGB; None, and counted, when the picture cannot be converted."""
        try:
            pixels = picture.to_ndarray(format="rgb24")
        except (av.FFmpegError, ValueError):
            self.corrupt += 1
            return None
        turns = round(picture.rotation / 90) % 4
        return np.ascontiguousarray(np.rot90(pixels, turns), dtype=np.uint8)

    def _live_pts(self) -> int:
        now = time.monotonic()
        self._began = now if self._began is None else self._began
        return round((now - self._began) / _LIVE_CLOCK)

    def _judge(self, any_frame: bool, end: Fraction, promised: Fraction | None) -> None:
        if self.endless:
            return
        if not any_frame:
            raise DataError(self.name, "holds no readable frame", "check the file or record it again")
        if promised is not None and end + max(Fraction(_SLACK_SECONDS), 2 / self._rate) < promised:
            fault = f"truncated after {self._sequence} frames ({float(end):.1f} of {float(promised):.1f} s)"
            self.fault = DataError(self.name, fault, "use the protected part, or fetch the whole file and run again")


def _is_url(uri: str) -> bool:
    scheme, separator, _ = uri.partition("://")
    return bool(separator) and scheme.lower() in _URL_SCHEMES


def _time_of(picture: VideoFrame) -> Fraction | None:
    return None if picture.pts is None or picture.time_base is None else picture.pts * picture.time_base


def _duration_of(picture: VideoFrame) -> Fraction | None:
    return picture.duration * picture.time_base if picture.duration and picture.time_base else None


def _promised_seconds(container: InputContainer, stream: VideoStream) -> Fraction | None:
    """How long the header says that the pictures last; None where it says nothing."""
    if container.format.name == "avi" and stream.frames and stream.average_rate:
        return stream.frames / stream.average_rate  # the duration is guessed from what is left of the file
    if stream.duration is not None and stream.time_base is not None:
        return stream.duration * stream.time_base
    with suppress(ValueError):
        hours, minutes, seconds = stream.metadata.get("DURATION", "").split(":")  # Matroska keeps it in a tag
        return Fraction(seconds) + 60 * (Fraction(minutes) + 60 * Fraction(hours))
    if container.duration is not None and len(container.streams) == 1:
        return Fraction(container.duration, av.time_base)
    return None
