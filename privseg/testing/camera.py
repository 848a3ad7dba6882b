"""A camera whose every raw frame carries a beacon, so that a test can tell whether one ever got out.

The beacon is a person-sized rectangle in a red that occurs nowhere else. It is also what the test models take for a
person: the red channel is their probability.
"""

from __future__ import annotations

import threading
from collections.abc import Collection, Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any, Final

import av
import numpy as np
import numpy.typing as npt
from av.video.frame import VideoFrame

from privseg.errors import PrivsegError, ServerUnavailableError
from privseg.privacy.frames import RawFrame

__all__ = ["BEACON", "FakeCamera", "beacon_pixels", "is_slate", "read_video", "scene", "write_video"]

#: colour of the person, RGB
BEACON: Final = (250, 20, 30)
Image = npt.NDArray[np.uint8]


def scene(number: int, width: int, height: int, *, person: bool = True) -> Image:
    """One raw picture: a textured, never red background and the beacon walking across it.

    Returns:
        uint8 ``(height, width, 3)`` RGB.
    """
    y, x = np.mgrid[0:height, 0:width]
    image = np.empty((height, width, 3), np.uint8)
    image[..., 0] = 1 + (x // 8 + y // 8) % 2 * 7  # red stays low: it is the test models' probability
    image[..., 1] = 60 + x * 120 // width
    image[..., 2] = 60 + y * 120 // height
    if person:
        left, top, right, bottom = person_box(number, width, height)
        image[top:bottom, left:right] = BEACON
    return image


def person_box(number: int, width: int, height: int) -> tuple[int, int, int, int]:
    """Where the person of frame ``number`` is: left, top, right, bottom in pixels."""
    left = width // 8 + number * 3 % (width // 2)
    return left, height // 5, left + width // 6, height // 5 + height // 2


def beacon_pixels(image: Image) -> int:
    """How many pixels (uint8 ``(H, W, 3)`` RGB) still have the beacon's colour, give or take a codec's loss."""
    red, green, blue = (image[..., channel].astype(int) for channel in range(3))
    return int(np.count_nonzero((red > 110) & (red > green + 60) & (red > blue + 60)))


def is_slate(image: Image) -> bool:
    """Whether a decoded picture is the notice in place of a frame: dark and without colour."""
    spread = image.max(axis=2).astype(int) - image.min(axis=2)
    return bool(np.median(image) < 50 and spread.max() < 40)


def read_video(path: Path) -> list[Image]:
    """Decode every frame of a file into uint8 ``(H, W, 3)`` RGB."""
    with av.open(str(path)) as container:
        return [
            np.asarray(picture.to_ndarray(format="rgb24"), np.uint8) for picture in container.decode(video=0)
        ]  # fmt: skip


def write_video(
    path: Path,
    images: list[Image],
    *,
    rate: int = 10,
    codec: str = "mpeg4",
    rotation: int = 0,
    pixel_aspect: Fraction = Fraction(1),
) -> Path:
    """Encode pictures of one even size, uint8 ``(H, W, 3)`` RGB, into a file of the format its name asks for."""
    with av.open(str(path), "w") as container:
        stream: Any = container.add_stream(codec, rate=rate)
        stream.height, stream.width = images[0].shape[:2]
        stream.pix_fmt = "yuv420p"
        stream.bit_rate = 8_000_000
        stream.codec_context.sample_aspect_ratio = pixel_aspect
        if rotation:
            stream.set_display_rotation(rotation)
        for image in images:
            container.mux(stream.encode(VideoFrame.from_ndarray(image, format="rgb24")))
        container.mux(stream.encode(None))
    return path


class FakeCamera:
    """A source under a test's control.

    Args:
        width: Pixels across.
        height: Pixels down.
        count: Frames until it ends; None for a camera that never does.
        live: Behave as a camera: whoever reads late gets the newest frame.
        paced: Deliver a frame only when :meth:`release` allows it.
        person: Show the beacon.
        damaged: Numbers of the frames that a decoder would call damaged.
    """

    def __init__(
        self,
        *,
        width: int = 160,
        height: int = 120,
        count: int | None = 10,
        live: bool = False,
        paced: bool = False,
        person: bool = True,
        damaged: Collection[int] = (),
    ) -> None:
        self.name = "fake camera"
        self.live = live
        self.endless = count is None
        self.corrupt = 0
        self.fault: PrivsegError | None = None
        self.frame_rate = Fraction(10)
        self.pixel_aspect = Fraction(1)
        self.sequence = 0
        self._size = (width, height)
        self._count = count
        self._person = person
        self._damaged = damaged
        self._paced = paced
        self._allowed = 0
        self._asked_for_more = False
        self._lost = False
        self._refused = 0
        self._stopped = False
        self._changed = threading.Condition()

    def release(self, frames: int = 1) -> None:
        """Let so many more frames out."""
        with self._changed:
            self._allowed += frames
            self._changed.notify_all()

    def wait_until_drained(self, timeout: float = 30.0) -> None:
        """Return once every released frame was delivered and the reader asks for one more. Raises TimeoutError."""
        with self._changed:
            if not self._changed.wait_for(lambda: self._asked_for_more and self._allowed == 0, timeout):
                raise TimeoutError(f"{self.name}: {self._allowed} released frames were not read")

    def wait_until_refused(self, times: int, timeout: float = 30.0) -> None:
        """Return once the lost camera was opened in vain so many times since it was lost. Raises TimeoutError."""
        with self._changed:
            if not self._changed.wait_for(lambda: self._refused >= times, timeout):
                raise TimeoutError(f"{self.name}: opened in vain {self._refused} times only")

    def lose_connection(self) -> None:
        """End the connection now; opening it fails until :meth:`restore`."""
        with self._changed:
            self._lost = True
            self._changed.notify_all()

    def restore(self) -> None:
        """Make the camera reachable again."""
        with self._changed:
            self._lost = False

    def stop(self) -> None:
        """End :meth:`frames`, from any thread."""
        with self._changed:
            self._stopped = True
            self._changed.notify_all()

    def frames(self) -> Iterator[RawFrame]:
        """Yield frames as released; raises ServerUnavailableError when the connection is lost."""
        while self._count is None or self.sequence < self._count:
            with self._changed:
                self._asked_for_more = True
                self._changed.notify_all()
                self._changed.wait_for(lambda: self._stopped or self._lost or not self._paced or self._allowed > 0)
                if self._stopped:
                    return
                if self._lost:
                    self._refused += 1
                    self._changed.notify_all()
                    raise ServerUnavailableError(self.name, "was lost", "call restore()")
                self._allowed -= self._paced
                self._asked_for_more = False
            number = self.sequence
            self.sequence += 1
            self.corrupt += number in self._damaged
            yield RawFrame(
                scene(number, *self._size, person=self._person),
                sequence=number,
                pts=number,
                time_base=1 / self.frame_rate,
                damaged=number in self._damaged,
            )
