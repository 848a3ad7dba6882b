"""Which kind of source an address or a path means."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from privseg.streaming.address import SYNTHETIC, url_scheme
from privseg.streaming.source import FrameSource, VideoSource
from privseg.streaming.source_folder import DEFAULT_RATE, FolderSource
from privseg.streaming.source_synthetic import SyntheticSource

__all__ = ["open_source"]


def open_source(
    uri: str,
    *,
    realtime: bool = False,
    loop: bool = False,
    frozen_seconds: float = 20,
    transport: Literal["tcp", "udp"] = "tcp",
    image_rate: float = DEFAULT_RATE,
) -> FrameSource:
    """A source for a path or an address; its frames are raw, whatever kind it is.

    Args:
        uri: A folder of pictures, ``synthetic://…`` for a camera that is drawn, or what
            :class:`~privseg.streaming.source.VideoSource` reads: a video, a webcam, a camera's address.
        realtime: Play a recording at its own pace, as a camera would.
        loop: Start a recording again when it ends.
        frozen_seconds: Seconds of the very same picture after which a camera's frames are marked as frozen; 0: never.
        transport: How pictures come by RTSP.
        image_rate: Pictures a second of a folder.

    Raises:
        UsageError: The path does not exist, the address is malformed or of no known kind, or the rate out of bounds.
    """
    scheme = url_scheme(uri)
    if scheme == SYNTHETIC:
        return SyntheticSource(uri)
    if scheme is None and Path(uri).is_dir():
        return FolderSource(uri, rate=image_rate, realtime=realtime, loop=loop)
    return VideoSource(uri, realtime=realtime, loop=loop, frozen_seconds=frozen_seconds, transport=transport)
