"""The sidecar of a scrambled video: ``VIDEO.scramble.jsonl``, what unscrambling needs beside the key and the picture.

The first line tells camera, epoch, session and size; each further line one frame of the file, by its place and its
time in it: whom it covers where, and the tags that prove the ciphertext. There is no pixel and no key in it. A frame
without a line, such as a slate, cannot be unscrambled.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from privseg.errors import DataError, UsageError
from privseg.privacy.filters.scramble import ScrambledPerson, ScrambleRecord

__all__ = ["FrameLine", "Sidecar", "SidecarHeader", "SidecarWriter", "sidecar_path"]

_SHARED: Final = ("epoch", "session", "camera", "height", "width")


class SidecarHeader(BaseModel):
    """The first line: what all frames of the file share."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    format: Literal["privseg scramble 1"] = "privseg scramble 1"
    epoch: str
    session: str
    camera: str
    height: int
    width: int


class FrameLine(BaseModel):
    """One frame that can be unscrambled."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    frame: int = Field(ge=0, description="its place in the file, from 0")
    seconds: float = Field(ge=0, allow_inf_nan=False, description="its time, from the file's first frame")
    number: int = Field(description="its number within its source")
    people: tuple[ScrambledPerson, ...]


def sidecar_path(video: Path) -> Path:
    """Where a video's sidecar lies."""
    return video.with_name(f"{video.name}.scramble.jsonl")


class SidecarWriter:
    """Writes a sidecar beside a video that grows under a name of its own, and moves with it.

    Args:
        growing: The video's name for now.
        video: Its name when it is finished.
    """

    def __init__(self, growing: Path, video: Path) -> None:
        self._growing = sidecar_path(growing)
        self._path = sidecar_path(video)
        self._shared: tuple[Any, ...] | None = None

    def write(self, frame: int, seconds: float, record: Mapping[str, Any]) -> None:
        """Append the record of one frame, at once. Raises OSError."""
        shared = tuple(record[name] for name in _SHARED)
        lines = []
        if self._shared is None:
            lines.append(SidecarHeader(**dict(zip(_SHARED, shared, strict=True))).model_dump())
            self._shared = shared
        if shared != self._shared:
            raise ValueError("the frames of one file are of one session")
        lines.append({"frame": frame, "seconds": seconds, "number": record["number"], "people": record["people"]})
        text = "".join(json.dumps(line, separators=(",", ":")) + "\n" for line in lines)
        with self._growing.open("ab", buffering=0) as file:
            file.write(text.encode())

    def put_in_place(self) -> None:
        """Give it its name; without any record there is none. Raises OSError."""
        if self._shared is None:
            self._path.unlink(missing_ok=True)  # an earlier video's would not fit
        else:
            self._growing.replace(self._path)

    def discard(self) -> None:
        """Throw it away."""
        with contextlib.suppress(OSError):
            self._growing.unlink(missing_ok=True)


@dataclass(frozen=True, slots=True)
class Sidecar:
    """A sidecar as read.

    Attributes:
        header: What all frames share.
        sha256: Of the whole file, hexadecimal: an approval is for exactly this.
        frames: Lines of the frames asked for, by their place in the file.
        seconds: Time of the last frame that has a line.
    """

    header: SidecarHeader
    sha256: str
    frames: Mapping[int, FrameLine]
    seconds: float

    @classmethod
    def read(cls, video: Path, start: float = 0.0, end: float = float("inf")) -> Self:
        """Read the sidecar of a video.

        Args:
            video: The video.
            start: Keep the lines of frames from here, in seconds of the file,
            end: to here.

        Raises:
            UsageError: There is none.
            DataError: It is damaged. A last line that was being written when the machine stopped does not count.
        """
        path = sidecar_path(video)
        digest, frames, last = hashlib.sha256(), {}, 0.0
        header: SidecarHeader | None = None
        number = 0
        try:
            with path.open("rb") as file:
                for text in file:
                    number += 1
                    digest.update(text)
                    if not text.endswith(b"\n"):
                        break
                    if header is None:
                        header = SidecarHeader.model_validate_json(text)
                        continue
                    line = FrameLine.model_validate_json(text)
                    last = max(last, line.seconds)
                    if start <= line.seconds <= end:
                        frames[line.frame] = line
        except FileNotFoundError:
            fault = "does not exist: the video holds nothing that can be unscrambled, or lost what is needed for it"
            raise UsageError(path, fault, "keep it beside the video it was written with") from None
        except OSError as error:
            raise UsageError(path, f"cannot be read ({error.strerror})", "check its permissions") from None
        except ValidationError:
            raise DataError(path, f"line {number} is damaged", "restore the file from where it was written") from None
        if header is None:
            raise DataError(path, "is empty", "restore the file from where it was written")
        return cls(header, digest.hexdigest(), frames, last)

    def record(self, line: FrameLine) -> ScrambleRecord:
        """What :func:`privseg.privacy.filters.scramble.decrypt` needs for one frame. Raises DataError."""
        shared = self.header.model_dump(include=set(_SHARED))
        try:
            return ScrambleRecord(number=line.number, people=line.people, **shared)
        except ValidationError:
            raise DataError(f"frame {line.frame}", "has a damaged record", "restore the sidecar") from None
