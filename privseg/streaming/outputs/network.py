"""Protected streams for others: a playlist for a web server, a push to a media server."""

from __future__ import annotations

import contextlib
import secrets
from fractions import Fraction
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

import av

from privseg.errors import PrivsegError, ServerUnavailableError, UsageError
from privseg.privacy.frames import ProtectedFrame, require_protected
from privseg.streaming.address import redact
from privseg.streaming.h264 import BITEXACT, H264Stream
from privseg.streaming.sinks import storage_error

__all__ = ["HlsSink", "PushSink"]

_KEY_SECONDS: Final = 2.0
_PUSH_TIMEOUT: Final = 10.0
_MUXERS: Final = {"rtsp": "rtsp", "rtsps": "rtsp", "rtmp": "flv", "rtmps": "flv", "srt": "mpegts"}


class HlsSink:
    """A playlist of the last seconds, (HLS, RFC 8216); its files go when it ends.

    Args:
        folder: Where ``CAMERA.m3u8`` and its pieces lie; what an earlier run left of them goes.
        camera: The camera's name.
        frame_rate: Frames a second, nominal.
        size: Width and height of the picture; a frame of another size is scaled.
        segment_seconds: Length of a piece.
        window_seconds: What the playlist holds.
        pixel_aspect: Width of a pixel by its height.

    Raises:
        UsageError: The folder's name holds a ``%``.
        StorageError: The folder cannot be written.
    """

    def __init__(
        self,
        folder: Path,
        camera: str,
        frame_rate: Fraction,
        size: tuple[int, int],
        *,
        segment_seconds: float = 2,
        window_seconds: float = 12,
        pixel_aspect: Fraction = Fraction(1),
    ) -> None:
        self._folder, self._camera = folder.absolute(), camera
        self.path = self._folder / f"{camera}.m3u8"
        run = secrets.token_hex(4)  # a player must not take a piece of this run for one of the last
        options = {
            "hls_time": f"{segment_seconds:g}",
            "hls_list_size": str(max(round(window_seconds / segment_seconds), 2)),
            "hls_flags": "delete_segments+independent_segments+omit_endlist+temp_file",
            "hls_delete_threshold": "1",
            "hls_segment_type": "mpegts",
            "hls_segment_filename": f"{self._folder}/{camera}-{run}-%d.ts",
        }
        if "%" in str(self._folder):  # FFmpeg would take it for the number of a piece
            raise UsageError(self._folder, "has a % in its name", "give a folder without one")
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            self._clear()
            self._container = av.open(f"file:{self.path}", "w", format="hls", options=options | BITEXACT)
        except (av.FFmpegError, OSError) as error:
            raise storage_error(self._folder, error) from None
        # A transport stream names its service; FFmpeg would name itself.
        self._container.metadata.update({"service_name": camera, "service_provider": "privseg"})
        self._stream = H264Stream(
            self._container, frame_rate, size,
            pixel_aspect=pixel_aspect, immediate=True, key_seconds=segment_seconds,
        )  # fmt: skip

    def write(self, frame: ProtectedFrame) -> None:
        """Add one frame. Raises PrivacyViolationPrevented, or StorageError."""
        require_protected(frame, self.path)
        try:
            self._stream.write(frame)
        except (av.FFmpegError, OSError) as error:
            raise storage_error(self.path, error) from None

    def close(self) -> None:
        """End the playlist: it was for now, and nothing of it stays."""
        with contextlib.suppress(av.FFmpegError, OSError):
            self._container.close()
        with contextlib.suppress(OSError):
            self._clear()

    def abort(self) -> None:
        """End it after a fault."""
        self.close()

    def _clear(self) -> None:
        for pattern in (f"{self._camera}.m3u8*", f"{self._camera}-????????-*.ts*"):
            for path in self._folder.glob(pattern):
                path.unlink(missing_ok=True)


class PushSink:
    """A stream sent to a media server, over TCP where there is a choice.

    Args:
        url: Where to; every message names it without credentials.
        frame_rate: Frames a second, nominal.
        size: Width and height of the picture; a frame of another size is scaled.
        pixel_aspect: Width of a pixel by its height.

    Raises:
        ServerUnavailableError: It cannot be reached, or does not take the stream.
    """

    def __init__(
        self, url: str, frame_rate: Fraction, size: tuple[int, int], *, pixel_aspect: Fraction = Fraction(1)
    ) -> None:
        self.name = redact(url)
        scheme = urlsplit(url).scheme.lower()
        options = {"rtsp_transport": "tcp"} if scheme.startswith("rtsp") else {}
        try:
            self._container = av.open(
                url, "w", format=_MUXERS[scheme], options=options | BITEXACT, timeout=(_PUSH_TIMEOUT, _PUSH_TIMEOUT)
            )
        except (av.FFmpegError, OSError, ValueError) as error:
            fault = self._fault("cannot be reached", error)
        else:
            self._stream = H264Stream(
                self._container, frame_rate, size, pixel_aspect=pixel_aspect, immediate=True, key_seconds=_KEY_SECONDS
            )
            return
        raise fault  # outside the handler: FFmpeg's error holds the address with its password

    def write(self, frame: ProtectedFrame) -> None:
        """Send one frame. Raises PrivacyViolationPrevented, or ServerUnavailableError."""
        require_protected(frame, self.name)
        fault = None
        try:
            self._stream.write(frame)
        except (av.FFmpegError, OSError) as error:
            fault = self._fault("takes the stream no more", error)
        if fault is not None:
            raise fault

    def close(self) -> None:
        """Say good-bye."""
        with contextlib.suppress(av.FFmpegError, OSError):
            self._container.close()

    def abort(self) -> None:
        """End after a fault."""
        self.close()

    def _fault(self, what: str, error: Exception) -> PrivsegError:
        cause = getattr(error, "strerror", None) or type(error).__name__
        if isinstance(error, av.ProtocolNotFoundError):
            advice = "install a PyAV whose FFmpeg speaks it (pip install --no-binary av av), or push by rtsp or rtmp"
            return ServerUnavailableError(self.name, "is of a kind that this FFmpeg does not speak", advice)
        return ServerUnavailableError(self.name, f"{what} ({cause})", "check the media server and its address")
