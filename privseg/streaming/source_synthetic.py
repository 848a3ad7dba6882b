"""A camera that is none: drawn people walk about, so that the platform can be tried where there is no camera."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from threading import Event
from typing import Final
from urllib.parse import parse_qsl, urlsplit

from privseg.errors import PrivsegError, UsageError
from privseg.privacy.frames import RawFrame
from privseg.streaming.address import SYNTHETIC, redact, url_scheme
from privseg.streaming.synthetic_scene import SyntheticScene

__all__ = ["SyntheticAddress", "SyntheticSource", "read_synthetic"]

_FORM: Final = "synthetic://WIDTHxHEIGHT@FPS?people=N&seed=N"
_PLACE: Final = re.compile(r"(?:(\d{1,5})x(\d{1,5}))?(?:@(\d{1,4}(?:\.\d{1,3})?))?", re.ASCII)
_NUMBER: Final = re.compile(r"\d{1,10}(?:\.\d{1,3})?", re.ASCII)
_LIVE_CLOCK: Final = Fraction(1, 90_000)
_SIDES: Final = (64, 3840)
_FASTEST: Final = 120
_MOST_PEOPLE: Final = 20


@dataclass(frozen=True)
class SyntheticAddress:
    """What ``synthetic://`` asks for.

    Attributes:
        width: Pixels across.
        height: Pixels down.
        rate: Pictures a second.
        people: How many walk about.
        seed: Of the scene: the same number, the same place and people.
    """

    width: int = 1280
    height: int = 720
    rate: Fraction = Fraction(15)
    people: int = 3
    seed: int = 0

    def __str__(self) -> str:
        return f"synthetic://{self.width}x{self.height}?fps={float(self.rate):g}&people={self.people}&seed={self.seed}"


def read_synthetic(uri: str) -> SyntheticAddress:
    """Read ``synthetic://``, ``synthetic://640x480@10`` or ``synthetic://640x480?fps=10&people=2&seed=7``.

    Raises:
        UsageError: It is malformed, or a value is out of bounds.
    """
    if url_scheme(uri) != SYNTHETIC:
        raise UsageError(redact(uri), "is no synthetic camera", f"give {_FORM}")
    try:
        parts = urlsplit(uri)
        pairs = parse_qsl(parts.query, keep_blank_values=True, strict_parsing=bool(parts.query))
    except ValueError:
        raise _malformed(uri, "is malformed") from None
    place = _PLACE.fullmatch(parts.netloc)
    if place is None or parts.path not in {"", "/"} or parts.fragment:
        raise _malformed(uri, "is malformed")
    width, height, rate = place.groups()
    asked = {"width": width, "height": height, "fps": rate}
    values = {name: value for name, value in asked.items() if value is not None}
    for name, value in pairs:
        if name not in {"fps", "people", "seed"} or name in values or _NUMBER.fullmatch(value) is None:
            raise _malformed(uri, "is malformed")
        values[name] = value
    usual = SyntheticAddress()
    found = SyntheticAddress(
        width=_whole(uri, values, "width", usual.width, *_SIDES),
        height=_whole(uri, values, "height", usual.height, *_SIDES),
        rate=Fraction(values["fps"]) if "fps" in values else usual.rate,
        people=_whole(uri, values, "people", usual.people, 0, _MOST_PEOPLE),
        seed=_whole(uri, values, "seed", usual.seed, 0, (1 << 32) - 1),
    )
    if not 0 < found.rate <= _FASTEST:
        raise _malformed(uri, f"asks for fps out of bounds, which end at {_FASTEST}")
    return found


class SyntheticSource:
    """A live camera without end, whose pictures are drawn; see :class:`privseg.streaming.source.FrameSource`.

    It keeps to the clock: where drawing, or whoever reads, is slower than the rate, pictures are left out and people
    still walk at their pace. What it draws is raw like any other camera's.

    Args:
        uri: See :func:`read_synthetic`.

    Raises:
        UsageError: The address is malformed.
    """

    def __init__(self, uri: str) -> None:
        self._address = read_synthetic(uri)
        self.name = str(self._address)
        self.corrupt = 0
        self.fault: PrivsegError | None = None
        self.pixel_aspect = Fraction(1)
        self._sequence = 0
        self._tick = 0
        self._began: float | None = None
        self._stopped = Event()

    @property
    def live(self) -> bool:
        """Always: it keeps to the clock."""
        return True

    @property
    def endless(self) -> bool:
        """Always: it never ends of itself."""
        return True

    @property
    def frame_rate(self) -> Fraction:
        """Pictures a second, as asked for."""
        return self._address.rate

    def stop(self) -> None:
        """End :meth:`frames` soon, from another thread."""
        self._stopped.set()

    def frames(self) -> Iterator[RawFrame]:
        """Yield pictures until stopped; time goes on over restarts."""
        rate = self._address.rate
        scene = SyntheticScene(
            self._address.width, self._address.height, people=self._address.people, seed=self._address.seed
        )
        self._began = time.monotonic() if self._began is None else self._began
        while True:
            due = self._began + float(self._tick / rate)
            if self._stopped.wait(max(due - time.monotonic(), 0)):
                return
            late = int((time.monotonic() - due) * rate)
            tick, self._tick = self._tick + late, self._tick + late + 1
            begun = time.perf_counter()
            pixels = scene.picture(tick, float(tick / rate))
            self._sequence += 1  # before: whoever leaves in between may come again
            yield RawFrame(
                pixels, sequence=self._sequence - 1, pts=round(tick / rate / _LIVE_CLOCK), time_base=_LIVE_CLOCK,
                decode_seconds=time.perf_counter() - begun,
            )  # fmt: skip


def _whole(uri: str, values: dict[str, str], name: str, usual: int, least: int, most: int) -> int:
    if name not in values:
        return usual
    text = values[name]
    if not text.isdecimal() or not least <= int(text) <= most:
        raise _malformed(uri, f"asks for {name} out of bounds, which are {least} and {most}")
    return int(text)


def _malformed(uri: str, fault: str) -> UsageError:
    return UsageError(redact(uri), fault, f"give {_FORM}; every part may be left out")
