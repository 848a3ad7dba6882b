"""The plan of every camera, made before anything starts: what cannot work is refused as a whole."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from queue import SimpleQueue

from privseg.errors import UsageError
from privseg.privacy.filters.base import Method
from privseg.privacy.filters.registry import create_method
from privseg.privacy.key_ring import open_key_ring
from privseg.privacy.keys import Secrets
from privseg.streaming.config import CameraConfig, GatewayConfig
from privseg.streaming.places import refuse_shared_files
from privseg.streaming.scramble_record import sidecar_path
from privseg.streaming.sinks import output_format

__all__ = ["Plan", "plans_of"]


@dataclass(frozen=True, slots=True)
class Plan:
    """One camera, checked.

    Attributes:
        camera: Its configuration.
        method: How its people are covered to begin with.
        out: Its one file, if it has one.
        switchable: Methods that may take the first one's place, itself among them, by name.
        chosen: An operator's choice, until the camera takes it.
    """

    camera: CameraConfig
    method: Method
    out: Path | None
    switchable: dict[str, Method]
    chosen: SimpleQueue[Method]


def plans_of(config: GatewayConfig) -> dict[str, Plan]:
    """The plan of every camera.

    Raises:
        UsageError: A method, one of its parameters, the key ring or an output is wrong, or an output is another
            camera's output or a source.
    """
    now = time.localtime()
    outputs = {
        name: Path(time.strftime(camera.output, now)) for name, camera in config.cameras.items() if camera.output
    }
    recorded = [camera.recording.folder for camera in config.cameras.values() if camera.recording]
    keys = open_key_ring(config.keys.ring, [*outputs.values(), *(folder / "x.mp4" for folder in recorded)])
    plans = {}
    for name, camera in config.cameras.items():
        method = _method(camera, config, keys)
        switchable = _switchable(name, camera, method, config, keys)
        plans[name] = Plan(camera, method, outputs.get(name), switchable, SimpleQueue())
    for out in outputs.values():
        output_format(out)
    lossless = {name: out for name, out in outputs.items() if plans[name].method.lossless}
    refuse_shared_files(
        [camera.source.get_secret_value() for camera in config.cameras.values()],
        {f"camera {name}: output": out for name, out in outputs.items()}
        | {f"camera {name}: sidecar": sidecar_path(out) for name, out in lossless.items()},
    )
    return plans


def _method(camera: CameraConfig, config: GatewayConfig, keys: Secrets | None) -> Method:
    allowed = config.profile.allows_obfuscation(camera.allow_obfuscation)
    return create_method(camera.method, camera.params, secrets=keys, allow_obfuscation=allowed)


def _switchable(
    name: str, camera: CameraConfig, method: Method, config: GatewayConfig, keys: Secrets | None
) -> dict[str, Method]:
    """The methods that an operator may choose; refused as a whole where one of them could not be."""
    allowed = config.profile.allows_obfuscation(camera.allow_obfuscation)
    others = {
        other: create_method(other, {}, secrets=keys, allow_obfuscation=allowed)
        for other in camera.switchable
        if other != method.name
    }
    for other in others.values():
        if other.lossless or method.lossless:
            fault = f"switchable: {other.name} and {method.name} need different recordings"
            raise UsageError(f"camera {name}", fault, "leave out what can be undone with a key")
    # What is recorded in a scramble's sidecar is of no use in a stream, and lossless streams choke a network.
    if method.lossless and (camera.hls or camera.push):
        raise UsageError(f"camera {name}", f"{method.name} fits recordings only", "leave out hls and push")
    return {method.name: method, **others} if others else {}
