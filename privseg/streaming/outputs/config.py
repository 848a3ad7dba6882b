"""What ``cameras.yaml`` says of a camera's outputs."""

from __future__ import annotations

from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, Field, SecretStr, field_validator

__all__ = ["HlsConfig", "PushConfig", "RecordingConfig"]

_PUSHED: Final = ("rtsp", "rtsps", "rtmp", "rtmps", "srt")


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class RecordingConfig(_Section):
    """Recordings: MP4 files, cut by time, kept as long as the camera's ``retention_hours`` say."""

    folder: Path = Field(description="where they lie, as CAMERA_20261124T110500Z.mp4 (UTC, when it begins)")
    segment_minutes: float = Field(10, gt=0, le=24 * 60, description="length of one file")
    max_gib: float = Field(20, gt=0, description="of all of this camera's files; the oldest go first")


class HlsConfig(_Section):
    """A playlist (HTTP Live Streaming) for a web server to hand out; it holds the last seconds only."""

    folder: Path = Field(description="where CAMERA.m3u8 and its pieces lie; emptied of them when the camera ends")
    segment_seconds: float = Field(2, ge=0.5, le=30)
    window_seconds: float = Field(12, ge=2, le=600, description="what a late viewer can go back")


class PushConfig(_Section):
    """A media server that takes the protected stream."""

    url: SecretStr = Field(description="rtsp://, rtmp:// or srt:// (or their rtsps, rtmps); may hold ${VARIABLES}")

    @field_validator("url")
    @classmethod
    def _check_scheme(cls, value: SecretStr) -> SecretStr:
        if urlsplit(value.get_secret_value()).scheme.lower() not in _PUSHED:
            raise ValueError(f"is no address of {', '.join(_PUSHED)}")
        return value
