"""One frame to several sinks."""

from __future__ import annotations

from collections.abc import Sequence

from privseg.privacy.frames import ProtectedFrame
from privseg.streaming.sinks import FrameSink

__all__ = ["FanOut"]


class FanOut:
    """Hands every frame to each sink, in order; what one raises is raised, after the others have been ended.

    Args:
        sinks: Where frames go; each refuses what is not protected.
    """

    def __init__(self, sinks: Sequence[FrameSink]) -> None:
        self._sinks = tuple(sinks)

    def write(self, frame: ProtectedFrame) -> None:
        """Hand on one frame."""
        for sink in self._sinks:
            sink.write(frame)

    def close(self) -> None:
        """Finish every sink."""
        errors = []
        for sink in self._sinks:
            try:
                sink.close()
            except Exception as error:
                errors.append(error)
        if errors:
            raise errors[0]

    def abort(self) -> None:
        """Finish every sink after a fault."""
        for sink in self._sinks:
            sink.abort()
