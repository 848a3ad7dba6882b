"""What a container says of its pictures: their times, their end."""

from __future__ import annotations

from contextlib import suppress
from fractions import Fraction
from typing import Final

import av
from av.container import InputContainer
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

__all__ = ["duration_of", "has_no_end", "promised_seconds", "time_of"]

# Formats whose size is that of the playlist, not of the pictures.
_PLAYLISTS: Final = frozenset({"hls", "dash"})


def time_of(picture: VideoFrame) -> Fraction | None:
    """When a picture is to be shown, in seconds; None where the container does not say."""
    return None if picture.pts is None or picture.time_base is None else picture.pts * picture.time_base


def duration_of(picture: VideoFrame) -> Fraction | None:
    """For how long, in seconds; None where the container does not say."""
    return picture.duration * picture.time_base if picture.duration and picture.time_base else None


def has_no_end(container: InputContainer) -> bool:
    """Whether a server names neither a duration nor a size."""
    return not container.duration and (container.format.name in _PLAYLISTS or container.size <= 0)


def promised_seconds(container: InputContainer, stream: VideoStream) -> Fraction | None:
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
