"""The live page of a gateway: its hub, its server, and operators' choices on their way to the cameras."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from queue import SimpleQueue

from privseg.privacy.filters.base import Method
from privseg.streaming.live.access import Access
from privseg.streaming.live.app import create_app
from privseg.streaming.live.config import LiveConfig
from privseg.streaming.live.hub import CameraInfo, LiveHub, LiveSink
from privseg.streaming.live.server import LiveServer

__all__ = ["LivePage", "Shown"]


@dataclass(frozen=True, slots=True)
class Shown:
    """What the page needs to know of a camera.

    Attributes:
        purpose: What it is for, in writing.
        method: How its people are covered to begin with.
        switchable: What may take its place, itself among them, by name.
        chosen: Where a choice goes; the camera takes it from there.
    """

    purpose: str
    method: Method
    switchable: Mapping[str, Method]
    chosen: SimpleQueue[Method]


class LivePage:
    """A running page.

    Args:
        config: Where, and for whom.
        cameras: What it shows.

    Raises:
        ServerUnavailableError: It cannot be served there.
    """

    def __init__(self, config: LiveConfig, cameras: Mapping[str, Shown]) -> None:
        self._cameras = dict(cameras)
        self._hub = LiveHub()
        self._hub.on_switch = self._switch
        self._sinks = {name: self._hub.add(_info(name, shown, shown.method)) for name, shown in cameras.items()}
        access = Access(config.access)
        app = create_app(self._hub, access, self._ready, tls=config.tls, max_viewers=config.max_viewers)
        self._server = LiveServer(app, config)
        #: where it is
        self.url = self._server.url

    def show(self, name: str, shown: Shown) -> None:
        """Show a camera, or another one in its place."""
        self._cameras[name] = shown
        self._sinks[name] = self._hub.add(_info(name, shown, shown.method))

    def forget(self, name: str) -> None:
        """Show a camera no more."""
        self._hub.remove(name)
        self._sinks.pop(name, None)
        self._cameras.pop(name, None)

    def sink(self, name: str) -> LiveSink:
        """Where a camera's frames go."""
        return self._sinks[name]

    def close(self) -> None:
        """Stop serving."""
        self._server.close()

    def _switch(self, name: str, method: str) -> CameraInfo:
        shown = self._cameras[name]
        shown.chosen.put(shown.switchable[method])
        return _info(name, shown, shown.switchable[method])

    def _ready(self) -> tuple[bool, str]:
        states = {camera["name"]: camera["state"] for camera in self._hub.status()}
        waiting = ", ".join(f"{name} {state}" for name, state in states.items() if state != "live")
        return "live" in states.values(), f"no camera is live: {waiting}"


def _info(name: str, shown: Shown, method: Method) -> CameraInfo:
    return CameraInfo(
        name, shown.purpose, method.name, str(method.privacy_class), method.does_not_hide, tuple(shown.switchable)
    )
