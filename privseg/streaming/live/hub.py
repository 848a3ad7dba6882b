"""The newest protected picture of every camera, for whoever watches; a picture is encoded once, when somebody asks."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from typing import Any, Final

import cv2

from privseg.errors import PrivacyViolationPrevented, UsageError
from privseg.privacy.frames import ProtectedFrame, Withheld, require_protected, slate

__all__ = ["CameraInfo", "LiveHub", "LiveSink"]

_RATE_SECONDS: Final = 5.0
_QUALITY: Final = 80
_SECOND: Final = Fraction(1)


@dataclass(frozen=True)
class CameraInfo:
    """What a camera is, for the page.

    Attributes:
        name: Its name.
        purpose: What it is for, in writing.
        method, privacy_class, does_not_hide: How people are covered, and what that is worth.
        switchable: Names of the methods that an operator may choose.
    """

    name: str
    purpose: str
    method: str
    privacy_class: str
    does_not_hide: str
    switchable: tuple[str, ...] = ()


class _Camera:
    """One camera's newest picture and its counts; all access under ``changed``."""

    def __init__(self, info: CameraInfo) -> None:
        self.info = info
        self.changed = threading.Condition()
        self.frame: ProtectedFrame | None = None
        self.number = 0
        self.blanked = 0
        self.ended = False
        self.times: deque[float] = deque(maxlen=200)
        self.encoded: tuple[tuple[int, bool], bytes] | None = None


class LiveSink:
    """A sink that keeps the newest frame only; it never waits for whoever watches."""

    def __init__(self, camera: _Camera) -> None:
        self._camera = camera

    def write(self, frame: object) -> None:
        """Show one frame; raises PrivacyViolationPrevented for anything that is not a ProtectedFrame."""
        frame = require_protected(frame, "live page")
        camera = self._camera
        with camera.changed:
            camera.frame, camera.ended = frame, False
            camera.number += 1
            camera.blanked += frame.withheld is not None
            camera.times.append(time.monotonic())
            camera.changed.notify_all()

    def close(self) -> None:
        """The camera has ended."""
        with self._camera.changed:
            self._camera.ended = True
            self._camera.changed.notify_all()

    def abort(self) -> None:
        """The camera has failed."""
        self.close()


class LiveHub:
    """All cameras of the page. Safe from any thread.

    Args:
        stale_seconds: A picture older than this is shown as a slate: it must not pass for one of now.
    """

    def __init__(self, stale_seconds: float = 3.0) -> None:
        self._stale = stale_seconds
        self._cameras: dict[str, _Camera] = {}
        self._lock = threading.Lock()
        #: changes a camera's method; takes its name and the method's, returns what it is then, raises UsageError
        self.on_switch: Callable[[str, str], CameraInfo] | None = None

    def add(self, info: CameraInfo) -> LiveSink:
        """Show a camera, or tell more about one that is shown; returns where its frames go."""
        with self._lock:
            camera = self._cameras.setdefault(info.name, _Camera(info))
            camera.info = info
        return LiveSink(camera)

    def remove(self, name: str) -> None:
        """Show a camera no more."""
        with self._lock:
            self._cameras.pop(name, None)

    def names(self) -> list[str]:
        """The cameras shown, in the order in which they were added."""
        with self._lock:
            return list(self._cameras)

    def switch(self, name: str, method: str) -> CameraInfo:
        """Cover people of a camera with another method.

        Raises:
            UsageError: There is no such camera, or it may not be switched to that method.
        """
        camera = self._find(name)
        if self.on_switch is None or method not in camera.info.switchable:
            allowed = ", ".join(camera.info.switchable) or "none"
            raise UsageError(f"camera {name}", f"may not be switched to {method}", f"choose one of: {allowed}")
        info = self.on_switch(name, method)
        self.add(info)
        return info

    def status(self) -> list[dict[str, Any]]:
        """What every camera is and does now, as plain data."""
        return [self._status(self._find(name)) for name in self.names()]

    def picture(self, name: str, after: int = -1, wait: float = 0.0) -> tuple[int, bytes]:
        """The newest picture of a camera as JPEG without metadata, and its number.

        Args:
            name: The camera.
            after: Wait for a newer one than this.
            wait: For so many seconds at most.

        Raises:
            UsageError: There is no such camera.
        """
        camera = self._find(name)
        with camera.changed:
            camera.changed.wait_for(lambda: camera.number > after, wait)
            number, frame = camera.number, camera.frame
            stale = self._is_stale(camera)
            if camera.encoded is not None and camera.encoded[0] == (number, stale):
                return number, camera.encoded[1]
        shown = frame if frame is not None and not stale else _nothing(frame)
        jpeg = _jpeg(shown)
        with camera.changed:
            camera.encoded = ((number, stale), jpeg)
        return number, jpeg

    def _find(self, name: str) -> _Camera:
        with self._lock:
            camera = self._cameras.get(name)
        if camera is None:
            raise UsageError(f"camera {name}", "is not known", "see /api/cameras")
        return camera

    def _is_stale(self, camera: _Camera) -> bool:
        return camera.ended or not camera.times or time.monotonic() - camera.times[-1] > self._stale

    def _status(self, camera: _Camera) -> dict[str, Any]:
        with camera.changed:
            now, frame, stale = time.monotonic(), camera.frame, self._is_stale(camera)
            recent = [at for at in camera.times if now - at <= _RATE_SECONDS]
            number, blanked, ended, info = camera.number, camera.blanked, camera.ended, camera.info
        withheld = frame.withheld if frame is not None else None
        if frame is None:
            state, detail = "starting", "no picture yet"
        elif ended or stale:
            state, detail = ("ended", "the camera has ended") if ended else ("lost", "no picture comes")
        elif withheld is not None:
            state, detail = ("lost" if withheld is Withheld.CAMERA_LOST else "withheld"), str(withheld)
        else:
            state, detail = "live", "protected"
        live = state == "live" and frame is not None
        return {
            "name": info.name,
            "purpose": info.purpose,
            "method": info.method,
            "privacy_class": info.privacy_class,
            "does_not_hide": info.does_not_hide,
            "switchable": list(info.switchable),
            "state": state,
            "detail": detail,
            "fps": round(len(recent) / _RATE_SECONDS, 1),
            "people": frame.people if live and frame is not None else None,
            "mask_age_seconds": round(frame.mask_age, 2) if live and frame is not None else None,
            "frames": number,
            "blanked": blanked,
        }


def _nothing(last: ProtectedFrame | None) -> ProtectedFrame:
    """A slate of the last frame's size."""
    width, height = (last.width, last.height) if last is not None else (640, 360)
    reason = Withheld.NO_MASK if last is None else Withheld.CAMERA_LOST
    return slate(width, height, reason, sequence=0, pts=0, time_base=_SECOND)


def _jpeg(frame: ProtectedFrame) -> bytes:
    done, encoded = cv2.imencode(
        ".jpg", cv2.cvtColor(frame.pixels, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, _QUALITY]
    )
    if not done:
        raise PrivacyViolationPrevented("live page", "a picture could not be encoded", "it is not shown")
    return encoded.tobytes()
