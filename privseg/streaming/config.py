"""``cameras.yaml``, typed: what the gateway needs to know, with every field's meaning and bounds."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Final, Literal, Self, TypeVar

import yaml
from pydantic import BaseModel, ConfigDict, Field, SecretStr, ValidationError, field_validator, model_validator

from privseg.errors import UsageError
from privseg.privacy.carry import CarryPolicy
from privseg.privacy.masks import MaskPolicy
from privseg.privacy.profile import Profile
from privseg.privacy.zones import Zones
from privseg.streaming.adaptive import Schedule
from privseg.streaming.address import LIVE_SCHEMES, url_scheme
from privseg.streaming.live.config import LiveConfig
from privseg.streaming.outputs.config import HlsConfig, PushConfig, RecordingConfig
from privseg.triton_channel import Tls, refuse_plaintext

__all__ = [
    "CameraConfig",
    "GatewayConfig",
    "KeysConfig",
    "MetricsConfig",
    "TritonConfig",
    "load_config",
    "load_zones",
    "read_config",
    "read_policy",
    "schema_text",
]

_VARIABLE: Final = re.compile(r"\$\{([A-Za-z_][A-Za-z0-9_]*)\}")
_Model = TypeVar("_Model", bound=BaseModel)
CameraName = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9_-]{0,40}$")]


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class TritonConfig(_Section):
    """Where the model is served."""

    url: str = Field("127.0.0.1:8001", description="host:port of gRPC; dns:///name:port balances over several")
    model: str = "person_segmentation"
    deadline_seconds: float = Field(1.0, gt=0, le=60, description="a frame without an answer by then is withheld")
    max_in_flight: int = Field(3, ge=1, le=16, description="requests in flight for each camera")
    ssl: bool = Field(False, description="encrypt the channel (TLS)")
    root_certificates: Path | None = Field(None, description="whom to trust (PEM); default: the system's authorities")
    private_key: Path | None = Field(None, description="the gateway's own key (PEM), where Triton asks who calls")
    certificate_chain: Path | None = Field(None, description="the certificate that belongs to it (PEM)")
    insecure: bool = Field(
        False, description="send raw frames in clear to another machine; only where the network itself protects them"
    )
    long_side: int = Field(512, ge=64, le=2048, multiple_of=32, description="longer side of the model's input, pixels")
    shared_memory: Literal["auto", "off"] | Path = Field(
        "auto",
        description="auto: pictures reach a Triton on this machine through its /dev/shm; a directory: through this "
        "one, which it has as its /dev/shm; off: always in the messages",
    )
    stream: bool = Field(False, description="ask over one bidirectional stream instead of a call for every frame")
    headers: dict[str, SecretStr] = Field(
        default_factory=dict, description="sent with every call: the key of a restricted protocol, a token"
    )

    @field_validator("shared_memory", mode="before")
    @classmethod
    def _read_off(cls, value: object) -> object:
        return "off" if value is False else value  # YAML reads a bare off as false

    @field_validator("shared_memory")
    @classmethod
    def _check_directory(cls, value: str | Path) -> str | Path:
        if isinstance(value, Path) and not value.is_absolute():
            raise ValueError("is neither auto nor off nor an absolute path")
        return value

    @model_validator(mode="after")
    def _check_channel(self) -> Self:
        if not self.ssl and (self.root_certificates or self.private_key or self.certificate_chain):
            raise ValueError("root_certificates, private_key and certificate_chain need ssl: true")
        if (self.private_key is None) != (self.certificate_chain is None):
            raise ValueError("private_key and certificate_chain belong together")
        refuse_plaintext(self.url, encrypted=self.ssl, insecure=self.insecure)
        return self

    @property
    def tls(self) -> Tls | None:
        """The files of the encrypted channel; None for one in clear."""
        return Tls(self.root_certificates, self.private_key, self.certificate_chain) if self.ssl else None


class MetricsConfig(_Section):
    """Where Prometheus scrapes."""

    port: int = Field(9464, ge=0, le=65535, description="0 takes a free port")
    address: str = "127.0.0.1"


class KeysConfig(_Section):
    """Where keyed methods get their keys."""

    ring: Path | None = Field(
        None, description="the key ring's file; default: the text in PRIVSEG_KEY_RING, or none. See docs/keys.md"
    )


class CameraConfig(_Section):
    """One camera and where its protected pictures go."""

    source: SecretStr = Field(
        description="a video's path, a folder of pictures, or an address; may hold ${VARIABLES} for credentials"
    )
    output: str | None = Field(
        None,
        min_length=1,
        description="one file for a source that ends: .mp4, .mov or .mkv; may hold strftime codes such as %Y%m%dT%H%M",
    )
    recording: RecordingConfig | None = None
    hls: HlsConfig | None = None
    push: tuple[PushConfig, ...] = Field((), description="media servers that take the protected stream")
    method: str = Field(description="how people are covered; there is no default and no way to switch it off")
    params: dict[str, Any] = Field(default_factory=dict, description="the method's parameters")
    allow_obfuscation: bool = Field(
        False, description="accept a method that only obfuscates, in profile production, too; part of the record"
    )
    schedule: Schedule = Field(
        Schedule.EVERY_FRAME, description="ask the model about every frame, or about some (adaptive)"
    )
    switchable: tuple[str, ...] = Field(
        (), description="methods, with their default parameters, that an operator may choose on the live page"
    )
    zones: Zones = Field(Zones(), description="what is covered, or not shown, whatever the model says")
    purpose: str = Field(min_length=3, description="what the camera is for, in writing; part of the record")
    retention_hours: float = Field(
        ge=0, le=24 * 3660, description="how long recordings are kept; 0: none are made; part of the record"
    )
    transport: Literal["tcp", "udp"] = Field("tcp", description="how an RTSP camera sends: tcp loses no picture")
    frozen_seconds: float = Field(
        20,
        ge=0,
        le=3600,
        description="seconds of the very same picture after which a camera's frames are withheld; 0: never",
    )
    image_rate: float = Field(10, gt=0, le=1000, description="pictures a second, where the source is a folder of them")
    realtime: bool = Field(True, description="play a file at its own pace, dropping frames the model is too slow for")
    loop: bool = Field(False, description="start a file again when it ends")
    max_frames: int | None = Field(None, ge=1, description="end after so many frames")

    @model_validator(mode="after")
    def _check_keeping(self) -> Self:
        if (self.output or self.recording) and not self.retention_hours:
            raise ValueError("retention_hours is 0, and output or recording would keep pictures")
        if self.recording and self.recording.segment_minutes * 60 > self.retention_hours * 3600:
            raise ValueError("recording.segment_minutes is longer than retention_hours allows")
        if self.output and self.max_frames is None and self._has_no_end():
            raise ValueError("output is one file, and this camera never ends: use recording, or set max_frames")
        return self

    @property
    def unhurried(self) -> bool:
        """Whether it is a recording that is read no faster than it is worked on."""
        return not self.realtime and url_scheme(self.source.get_secret_value()) is None

    def _has_no_end(self) -> bool:
        try:
            return self.loop or url_scheme(self.source.get_secret_value()) in LIVE_SCHEMES
        except UsageError:  # told when the camera is opened, without its credentials
            return False


class GatewayConfig(_Section):
    """The whole of ``cameras.yaml``."""

    triton: TritonConfig = TritonConfig()
    metrics: MetricsConfig = MetricsConfig()
    policy: MaskPolicy = MaskPolicy()
    carry: CarryPolicy = Field(CarryPolicy(), description="the rules of cameras whose schedule is adaptive")
    profile: Profile = Field(Profile.PRODUCTION, description="production refuses methods that only obfuscate")
    keys: KeysConfig = KeysConfig()
    live: LiveConfig | None = Field(None, description="the live page; none unless it is asked for")
    local: Path | None = Field(
        None, description="directory of a model version that runs in this process, for a gateway without Triton"
    )
    cameras: dict[CameraName, CameraConfig] = Field(min_length=1)

    @model_validator(mode="after")
    def _check_shown(self) -> Self:
        for name, camera in self.cameras.items():
            if not (camera.output or camera.recording or camera.hls or camera.push or self.live):
                raise ValueError(
                    f"camera {name} has nowhere to go: give it recording, hls, push or output, or add live"
                )
        return self


def load_config(path: Path, environment: Mapping[str, str] | None = None) -> GatewayConfig:
    """Read and check the gateway's configuration.

    Args:
        path: The YAML file.
        environment: Values for ``${VARIABLES}``; the process's environment by default.

    Raises:
        UsageError: The file is missing or no YAML, a variable is not set, or a field is unknown or out of bounds,
            or raw frames would leave the machine in clear. The message names the field and never its value.
    """
    data = _read_mapping(path, "give the path of a cameras.yaml", "give it triton, metrics, policy and cameras")
    filled = _interpolated(data, path, "", os.environ if environment is None else environment)
    return _validated(GatewayConfig, filled, path)


def read_config(values: Mapping[str, Any]) -> GatewayConfig:
    """A configuration from plain values.

    Raises:
        UsageError: A field is unknown or out of bounds.
    """
    return _validated(GatewayConfig, values, "camera")


def schema_text() -> str:
    """The JSON schema of ``cameras.yaml``, for editors and checks."""
    return json.dumps(GatewayConfig.model_json_schema(), indent=2)


def load_zones(path: Path) -> Zones:
    """Read the zones of one camera from a YAML file.

    Raises:
        UsageError: The file is missing or no YAML, or a zone is none.
    """
    return _validated(Zones, _read_mapping(path, "give the path of a file", "give it always or never_shown"), path)


def read_policy(values: Mapping[str, str]) -> MaskPolicy:
    """A mask policy from texts, as ``hold_frames`` to ``10``.

    Raises:
        UsageError: A field is unknown or out of bounds.
    """
    return _validated(MaskPolicy, values, "policy")


def _read_mapping(path: Path, to_be_read: str, to_be_a_mapping: str) -> dict[str, Any]:
    try:
        data = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UsageError(path, f"cannot be read ({error.strerror})", to_be_read) from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        mark = getattr(error, "problem_mark", None)  # the error's own text would quote the line, password and all
        where = f" at line {mark.line + 1}" if mark else ""
        raise UsageError(path, f"is not valid YAML{where}", "correct the file") from None
    if not isinstance(data, dict):
        raise UsageError(path, "holds no mapping", to_be_a_mapping)
    return data


def _validated(kind: type[_Model], values: Mapping[str, Any], subject: object) -> _Model:
    try:
        return kind.model_validate(dict(values))
    except ValidationError as error:
        first = error.errors(include_input=False)[0]
        field = ".".join(str(part) for part in first["loc"])
        where = f"{field}: " if field else ""
        raise UsageError(subject, f"{where}{first['msg']}", f"correct {field or subject}") from None


def _interpolated(value: Any, path: Path, field: str, environment: Mapping[str, str]) -> Any:
    """Replace ``${NAME}`` in every text of the tree."""
    if isinstance(value, dict):
        return {
            key: _interpolated(item, path, f"{field}.{key}".lstrip("."), environment) for key, item in value.items()
        }
    if isinstance(value, list):
        return [_interpolated(item, path, f"{field}[{index}]", environment) for index, item in enumerate(value)]
    if not isinstance(value, str):
        return value
    missing = [name for name in _VARIABLE.findall(value) if name not in environment]
    if missing:
        raise UsageError(path, f"{field}: the variable {missing[0]} is not set", f"export {missing[0]}")
    return _VARIABLE.sub(lambda match: environment[match[1]], value)
