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
from typing import Final, Literal, Protocol

import av
import numpy as np
from av.container import InputContainer
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from privseg.errors import DataError, PrivsegError, ServerUnavailableError, UsageError
from privseg.privacy.frames import RawFrame
from privseg.streaming.address import DEVICE, HTTP_SCHEMES, LIVE_SCHEMES, redact, url_scheme
from privseg.streaming.container import duration_of, has_no_end, promised_seconds, time_of
from privseg.streaming.watch import CameraStalledError, Soundness, Stillness

__all__ = ["FrameSource", "VideoSource"]

_LIVE_CLOCK: Final = Fraction(1, 90_000)
_DEFAULT_RATE: Final = Fraction(25)
# A recording may end this much before its promised end without being called truncated.
_SLACK_SECONDS: Final = 0.25


class FrameSource(Protocol):
    """What the pipeline needs of a camera."""

    #: may appear in logs: no credentials
    name: str
    #: packets that could not be decoded, and pictures that came out damaged
    corrupt: int
    #: what was wrong with a source whose readable frames have all been delivered
    fault: PrivsegError | None
    #: width of a pixel by its height; known once frames come
    pixel_aspect: Fraction

    @property
    def live(self) -> bool:
        """Frames come at their own pace, and a late reader gets the newest."""
        ...

    @property
    def endless(self) -> bool:
        """It never ends of itself: when it does, the connection was lost."""
        ...

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


class VideoSource:
    """A video file, or a camera or recording behind a URL.

    Args:
        uri: A path, ``/dev/video0`` and its like for a camera of this machine, or an ``rtsp://``, ``http://``, …
            address.
        realtime: Play a file at its own pace, as a camera would.
        loop: Start a file again when it ends.
        open_timeout: Seconds to wait for a connection.
        read_timeout: Seconds without data after which a camera counts as lost.
        stall_seconds: Seconds without a picture after which it does, whatever else it sends.
        frozen_seconds: Seconds of the very same picture after which a camera's frames are marked as frozen; 0: never.
        transport: How pictures come by RTSP: ``tcp``, which loses none, or ``udp``.

    Raises:
        UsageError: The path does not exist or is no file, or the address is of no known kind.
    """

    def __init__(
        self,
        uri: str,
        *,
        realtime: bool = False,
        loop: bool = False,
        open_timeout: float = 10,
        read_timeout: float = 10,
        stall_seconds: float = 20,
        frozen_seconds: float = 20,
        transport: Literal["tcp", "udp"] = "tcp",
    ) -> None:
        self.name = redact(uri)
        self.corrupt = 0
        self.fault: PrivsegError | None = None
        self.pixel_aspect = Fraction(1)
        self._uri = uri
        self._scheme = url_scheme(uri)
        self._endless: bool | None = None if self._scheme in HTTP_SCHEMES else self._scheme in LIVE_SCHEMES
        self._realtime = realtime
        self._loop = loop
        self._timeout = (open_timeout, read_timeout)
        self._stall_seconds = stall_seconds
        self._frozen_seconds = frozen_seconds
        self._transport = transport
        self._rate = _DEFAULT_RATE
        self._stored_aspect = Fraction(1)
        self._sequence = 0
        self._began: float | None = None
        self._stopped = Event()
        if self._scheme is None and not Path(uri).is_file():
            fault = "is not a file" if Path(uri).exists() else "does not exist"
            raise UsageError(self.name, fault, "give the path of a video file, or a camera's URL")

    @property
    def live(self) -> bool:
        """Whether frames come at their own pace; see :attr:`endless`."""
        return self.endless or self._realtime

    @property
    def endless(self) -> bool:
        """Whether it is a camera. An HTTP address is opened to see; while it cannot be, it counts as one."""
        if self._endless is None:
            self._endless = True
            with suppress(PrivsegError), self._open() as container:
                self._endless = has_no_end(container)
        return self._endless

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
            if not self._loop or self._endless or self._stopped.is_set():
                return
            offset = end

    def _play(self, offset: Fraction) -> Generator[RawFrame, None, Fraction]:
        """One pass; returns the time at which the next one starts, in seconds."""
        with self._open() as container:
            if self._scheme in HTTP_SCHEMES:
                self._endless = has_no_end(container)
            endless = self.endless
            stream = self._video_stream(container)
            promised = promised_seconds(container, stream)
            clock = _LIVE_CLOCK if endless else (stream.time_base or _LIVE_CLOCK)
            started, end = time.monotonic(), Fraction(0)
            first: Fraction | None = None
            sequence_before = self._sequence
            stillness = Stillness(self._frozen_seconds if endless else 0)
            soundness = Soundness()
            for picture, seconds in self._decode(container, stream, soundness):
                at = time_of(picture)
                first = (at if at is not None else Fraction(0)) if first is None else first
                begin = at - first if at is not None else end
                end = begin + (duration_of(picture) or 1 / self._rate)
                if (
                    self._realtime
                    and not endless
                    and self._stopped.wait(max(started + float(begin) - time.monotonic(), 0))
                ):
                    return end
                begun = time.perf_counter()
                damaged = soundness.damaged(picture.is_corrupt, bool(picture.key_frame))
                pixels = self._pixels(picture)
                if pixels is None:
                    continue
                seconds += time.perf_counter() - begun
                self.corrupt += picture.is_corrupt
                pts = self._live_pts() if endless else round((offset + begin) / clock)
                yield RawFrame(
                    pixels, sequence=self._sequence, pts=pts, time_base=clock, decode_seconds=seconds,
                    damaged=damaged, frozen=stillness.frozen(pixels, begun),
                )  # fmt: skip
                self._sequence += 1
                if self._stopped.is_set():
                    return end
        self._judge(self._sequence > sequence_before, end, promised)
        return offset + end

    def _open(self) -> InputContainer:
        options = {"protocol_whitelist": "file,crypto,data"}
        device = self._scheme == DEVICE
        address = f"file:{Path(self._uri).absolute()}"
        if self._scheme is not None:
            address = self._uri
            rtsp = self._scheme in {"rtsp", "rtsps"}
            options = {"rtsp_transport": self._transport, "allowed_media_types": "video"} if rtsp else {}
            if self._scheme in LIVE_SCHEMES and not device:
                options["fflags"] = "nobuffer+discardcorrupt"
        try:
            kind = DEVICE if device else None
            return av.open(address, "r", format=kind, options=options, timeout=self._timeout, metadata_errors="replace")
        except (av.FFmpegError, OSError, ValueError) as error:
            unusable = self._unusable(error)
        raise unusable  # outside the handler: FFmpeg's error holds the address with its password

    def _unusable(self, error: Exception) -> PrivsegError:
        cause = getattr(error, "strerror", None) or type(error).__name__
        if self._scheme is not None:
            return ServerUnavailableError(self.name, f"cannot be opened ({cause})", "check the camera and its address")
        return DataError(self.name, f"cannot be read as a video ({cause})", "check the file or record it again")

    def _video_stream(self, container: InputContainer) -> VideoStream:
        if not container.streams.video:
            raise DataError(self.name, "holds no pictures", "give a file or stream with video")
        stream = container.streams.video[0]
        rate = stream.average_rate or stream.guessed_rate
        self._rate = rate if rate and 0 < rate <= 1000 else _DEFAULT_RATE
        self._stored_aspect = stream.sample_aspect_ratio or Fraction(1)
        # One thread: frame threads delay the picture by their number, and lose good pictures around a bad packet; with
        # slice threads FFmpeg does not notice that a part of the picture is missing, and flags nothing.
        stream.thread_count = 1
        return stream

    def _decode(
        self, container: InputContainer, stream: VideoStream, soundness: Soundness
    ) -> Iterator[tuple[VideoFrame, float]]:
        """Yield ``(picture, seconds of decoding)``; a packet that cannot be decoded is counted and skipped."""
        packets = container.demux(stream)
        last_picture = time.monotonic()
        while True:
            lost, silent = "", False
            try:
                packet = next(packets, None)
            except av.FFmpegError as error:
                packet, lost = None, error.strerror or "no data"
                silent = isinstance(error, av.ExitError | av.TimeoutError)
            if lost and self._scheme is not None:
                kind = CameraStalledError if silent else ServerUnavailableError
                raise kind(self.name, f"was lost ({lost})", "check the camera")
            if packet is not None and packet.size == 0:
                continue  # an empty packet would end the decoder; it is flushed once, after the last one
            begun = time.perf_counter()
            try:
                pictures = stream.decode(packet)
            except av.FFmpegError:
                pictures = []
                self.corrupt += packet is not None
                soundness.lost()
            spent = time.perf_counter() - begun
            if pictures:
                last_picture = time.monotonic()
            elif self._endless and time.monotonic() - last_picture > self._stall_seconds:
                fault = f"sent data but no picture for {self._stall_seconds:g} s"
                raise CameraStalledError(self.name, fault, "check the camera")
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
        self.pixel_aspect = 1 / self._stored_aspect if turns % 2 else self._stored_aspect
        return np.ascontiguousarray(np.rot90(pixels, turns), dtype=np.uint8)

    def _live_pts(self) -> int:
        now = time.monotonic()
        self._began = now if self._began is None else self._began
        return round((now - self._began) / _LIVE_CLOCK)

    def _judge(self, any_frame: bool, end: Fraction, promised: Fraction | None) -> None:
        if self._endless:
            return
        if not any_frame:
            raise DataError(self.name, "holds no readable frame", "check the file or record it again")
        if promised is not None and end + max(Fraction(_SLACK_SECONDS), 2 / self._rate) < promised:
            fault = f"truncated after {self._sequence} frames ({float(end):.1f} of {float(promised):.1f} s)"
            self.fault = DataError(self.name, fault, "use the protected part, or fetch the whole file and run again")
