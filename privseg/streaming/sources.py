"""Which kind of source an address or a path means."""

from __future__ import annotations

from typing import Literal

from privseg.streaming.source import FrameSource, VideoSource

__all__ = ["open_source"]


def open_source(
    uri: str,
    *,
    realtime: bool = False,
    loop: bool = False,
    frozen_seconds: float = 20,
    transport: Literal["tcp", "udp"] = "tcp",
) -> FrameSource:
    """A source for a path or an address; its frames are raw, whatever kind it is.

    Args:
        uri: What :class:`~privseg.streaming.source.VideoSource` reads.
        realtime: Play a recording at its own pace, as a camera would.
        loop: Start a recording again when it ends.
        frozen_seconds: Seconds of the very same picture after which a camera's frames are marked as frozen; 0: never.
        transport: How pictures come by RTSP.

    Raises:
        UsageError: The path does not exist, or the address is malformed or of no known kind.
    """
    return VideoSource(uri, realtime=realtime, loop=loop, frozen_seconds=frozen_seconds, transport=transport)
