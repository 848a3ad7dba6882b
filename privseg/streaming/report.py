"""What became of a camera's frames, for people and programs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from privseg.errors import PrivsegError
from privseg.privacy.filters.base import Method
from privseg.privacy.profile import Profile
from privseg.streaming.places import write_whole

__all__ = ["BlankedRange", "CameraReport", "OutputReport", "method_line", "write_report"]


class BlankedRange(BaseModel):
    """Frames in a row that left as slates for one reason."""

    first: int = Field(description="sequence number of the first")
    last: int = Field(description="sequence number of the last")
    reason: str = Field(description="what the slate says")
    detail: str = Field(description="for the operator")

    def __len__(self) -> int:
        return self.last - self.first + 1


class OutputReport(BaseModel):
    """What became of the frames that one output was handed."""

    frames: int = 0
    frames_lost: int = Field(0, description="while it was broken, or too slow")
    faults: int = Field(0, description="times it broke")
    fault: str = Field("", description="what it is broken by now")


class CameraReport(BaseModel):
    """What became of one camera's frames."""

    model_config = ConfigDict(arbitrary_types_allowed=True)

    camera: str
    source: str = Field(description="path or address, without credentials")
    output: str
    method: str
    method_params: dict[str, Any]
    privacy_class: str
    methods_chosen: list[str] = Field(default_factory=list, description="other methods an operator chose meanwhile")
    profile: Profile = Profile.PRODUCTION
    obfuscation_allowed: bool = Field(False, description="somebody allowed methods that only obfuscate")
    schedule: str = Field("every-frame", description="about which frames the model was asked")
    purpose: str = ""
    retention_hours: float | None = Field(None, description="how long its recordings are kept")
    outputs: dict[str, OutputReport] = Field(default_factory=dict, description="recordings, playlist, media servers")
    frames_in: int = 0
    frames_out: int = 0
    frames_blanked: int = Field(0, description="of frames_out, those that left as slates")
    frames_dropped: int = Field(0, description="live frames that a newer one replaced")
    corrupt_packets: int = 0
    reconnects: int = 0
    blanked_ranges: list[BlankedRange] = Field(default_factory=list, description="the last thousand")
    blank_reason: str = Field("", description="why, for the longest range of blank frames")
    model_versions: list[str] = Field(default_factory=list)
    seconds: float = 0.0
    fps: float = Field(0.0, description="frames out a second")
    fault: str | None = Field(None, description="what ended it before its time")
    error: Exception | None = Field(None, exclude=True)

    def ended_by(self, error: Exception | None) -> CameraReport:
        """The report with what ended the camera before its time, if anything did."""
        known = error is None or isinstance(error, PrivsegError)
        fault = (str(error) if error else None) if known else f"internal error ({type(error).__name__})"
        return self.model_copy(update={"fault": fault, "error": error})

    def progress_line(self) -> str:
        """One line for whoever waits."""
        blanked = f", {self.frames_blanked} blank ({self.blank_reason})" if self.frames_blanked else ""
        return f"{self.camera}: {self.frames_out} frames out, {self.fps:.1f} a second{blanked}"


def method_line(camera: str, method: Method, profile: Profile, obfuscation_allowed: bool) -> str:
    """One line that says how people are covered, and what that is worth."""
    allowed = ", obfuscation allowed" if obfuscation_allowed else ""
    return f"{camera}: method {method.name} ({method.privacy_class}), profile {profile}{allowed}"


def write_report(path: Path, report: CameraReport) -> None:
    """Write a report as JSON, whole or not at all. Raises StorageError."""
    write_whole(path, (report.model_dump_json(indent=2) + "\n").encode())
