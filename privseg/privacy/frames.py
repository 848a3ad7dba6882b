"""The two kinds of frame, and the only two ways to make one that may leave.

A :class:`RawFrame` shows people and has no way out: its pixels are reachable by :func:`protect` alone, and as the
model's input. A :class:`ProtectedFrame` is made by :func:`protect` or :func:`slate`, by nothing else; every sink
accepts only that type. The two share no base class, so that neither passes for the other.
"""

from __future__ import annotations

import functools
import time
from collections.abc import Mapping
from enum import StrEnum
from fractions import Fraction
from typing import Any, Final, NoReturn, final

import cv2
import numpy as np

from privseg.errors import PrivacyViolationPrevented
from privseg.privacy.cover import Covered, cover
from privseg.privacy.filters.base import BoolMask, Image, Method
from privseg.privacy.masks import PersonMask
from privseg.privacy.motion import Glimpse, small_copy

__all__ = ["ProtectedFrame", "RawFrame", "Withheld", "protect", "require_protected", "slate"]

_MAKER: Final = object()
_MODEL_STRIDE: Final = 32
_CARD: Final = (24, 26, 30)
_NOTICE: Final = (222, 222, 222)


class Withheld(StrEnum):
    """Why a frame leaves as a slate; the value is what the slate says."""

    NO_ANSWER = "no answer from the model"
    LATE = "the model answered too late"
    SERVER_GONE = "the model server is gone"
    OVERLOADED = "the model server is overloaded"
    WRONG_ANSWER = "the model's answer does not fit"
    EMPTY_ANSWER = "the model's answer is incomplete"
    UNSURE = "the model is unsure"
    WRONG_ZONES = "the zones do not fit the picture"
    DAMAGED = "the picture arrived damaged"
    NO_MASK = "no mask yet"
    MASK_TOO_OLD = "the mask is too old"
    CAMERA_LOST = "the camera is lost"
    FROZEN = "the picture stands still"
    ERROR = "an internal error"


@final
class RawFrame:
    """One decoded picture that may show people.

    Args:
        pixels: uint8 ``(H, W, 3)`` RGB. The frame takes it over; the caller keeps no reference.
        sequence: Number of the frame within its source, counted from 0, never used twice.
        pts: Presentation time in units of ``time_base``.
        time_base: Seconds a unit of ``pts``.
        decode_seconds: What decoding it took.
        damaged: The decoder says that parts of it are made up; it can only leave as a slate.
        frozen: The camera has sent this very picture for so long that it is none of now; a slate, too.
    """

    __slots__ = (
        "__hidden", "__pixels", "captured", "damaged", "decode_seconds", "frozen", "height", "pts", "sequence",
        "time_base", "width"
    )  # fmt: skip

    def __init__(
        self,
        pixels: Image,
        *,
        sequence: int,
        pts: int,
        time_base: Fraction,
        decode_seconds: float = 0.0,
        damaged: bool = False,
        frozen: bool = False,
    ) -> None:
        if pixels.dtype != np.uint8 or pixels.ndim != 3 or pixels.shape[2] != 3 or 0 in pixels.shape:
            raise ValueError(f"a frame is uint8 (H, W, 3), not {pixels.dtype} {pixels.shape}")
        self.__pixels: Image | None = pixels
        self.__hidden: BoolMask | None = None
        #: pixels down and across
        self.height, self.width = (int(side) for side in pixels.shape[:2])
        self.sequence = sequence
        self.pts = pts
        self.time_base = time_base
        self.decode_seconds = decode_seconds
        self.damaged = damaged
        self.frozen = frozen
        self.captured = time.monotonic()

    def never_show(self, area: BoolMask) -> None:
        """Give an area one colour for good: the model, the method and whoever watches see that colour only.

        Args:
            area: bool ``(H, W)`` at frame size.

        Raises:
            PrivacyViolationPrevented: The frame was covered already, or the area is of another size.
        """
        if self.__pixels is None:
            _refuse(self, "was covered before")
        if area.dtype != np.bool_ or area.shape != (self.height, self.width):
            _refuse(self, f"the area never shown is {area.dtype} {area.shape}")
        self.__hidden = area.copy() if self.__hidden is None else self.__hidden | area
        self.__pixels = np.require(self.__pixels, requirements=["C", "W"])
        _paint(self.__pixels, self.__hidden)

    def model_input(self, long_side: int) -> Image:
        """The picture as the model wants it.

        Args:
            long_side: Pixels of the longer side before rounding.

        Returns:
            uint8 ``[1, H, W, 3]`` RGB, resized to keep proportions up to rounding both sides to multiples of 32.

        Raises:
            PrivacyViolationPrevented: The frame was covered already.
        """
        if self.__pixels is None:
            _refuse(self, "was covered before")
        scale = long_side / max(self.width, self.height)
        width, height = (
            max(round(side * scale / _MODEL_STRIDE), 1) * _MODEL_STRIDE for side in (self.width, self.height)
        )
        halves = scale < 0.5  # only then would bilinear sampling skip pixels
        resized = cv2.resize(
            self.__pixels, (width, height), interpolation=cv2.INTER_AREA if halves else cv2.INTER_LINEAR
        )
        batch: Image = resized[np.newaxis]
        return batch

    def small_copy(self) -> Glimpse:
        """A small copy, to tell motion and change by; see :func:`privseg.privacy.motion.small_copy`.

        Raises:
            PrivacyViolationPrevented: The frame was covered already.
        """
        if self.__pixels is None:
            _refuse(self, "was covered before")
        return small_copy(self.__pixels)

    def _protected_pixels(self, mask: BoolMask, method: Method, camera: str) -> tuple[Image, Covered]:
        """Cover the people in the frame's own memory and hand it over; the raw picture is gone, whatever happens.

        Returns the picture and what was covered.
        """
        pixels, self.__pixels = self.__pixels, None
        if pixels is None:
            _refuse(self, "was covered before")
        pixels = np.require(pixels, requirements=["C", "W"])
        if self.__hidden is None:
            return pixels, cover(pixels, mask, method, camera=camera, sequence=self.sequence)
        covered = cover(pixels, mask & ~self.__hidden, method, camera=camera, sequence=self.sequence)
        _paint(pixels, self.__hidden)  # a method that widens the mask may have drawn there
        return pixels, Covered(covered.mask & ~self.__hidden, covered.people)

    def __repr__(self) -> str:
        return f"<RawFrame {self.sequence}: {self.width}x{self.height}>"

    def __reduce_ex__(self, protocol: Any) -> NoReturn:
        raise PrivacyViolationPrevented("raw frame", "cannot be copied, stored or sent", "protect() it first")


@final
class ProtectedFrame:
    """One picture that may leave: its people are covered, or it is a slate. Made here only."""

    __slots__ = (
        "captured", "mask_age", "people", "person_ratio", "pixels", "pts", "record", "sequence", "time_base", "withheld"
    )  # fmt: skip

    def __init__(
        self,
        maker: object,
        pixels: Image,
        *,
        sequence: int,
        pts: int,
        time_base: Fraction,
        captured: float,
        person_ratio: float = 0.0,
        people: int = 0,
        mask_age: float = 0.0,
        withheld: Withheld | None = None,
        record: Mapping[str, Any] | None = None,
    ) -> None:
        if maker is not _MAKER:
            raise PrivacyViolationPrevented(
                "protected frame", "is made by privseg.privacy.frames.protect() or slate() only", "call one of them"
            )
        pixels.flags.writeable = False
        #: uint8 ``(H, W, 3)`` RGB, read-only
        self.pixels = pixels
        self.sequence = sequence
        self.pts = pts
        self.time_base = time_base
        #: monotonic seconds at which the raw frame was captured
        self.captured = captured
        #: covered share of the picture, with what the method added
        self.person_ratio = person_ratio
        #: separate covered areas: people, or groups that stand together
        self.people = people
        #: seconds of the video since the frame that the model saw
        self.mask_age = mask_age
        #: why the frame is a slate; None when it is not
        self.withheld = withheld
        #: what the method needs kept beside the picture, see :meth:`Method.record`
        self.record = record

    @property
    def width(self) -> int:
        """Pixels across."""
        return int(self.pixels.shape[1])

    @property
    def height(self) -> int:
        """Pixels down."""
        return int(self.pixels.shape[0])

    def __repr__(self) -> str:
        state = f"withheld, {self.withheld}" if self.withheld else "protected"
        return f"<ProtectedFrame {self.sequence}: {self.width}x{self.height}, {state}>"


def protect(frame: RawFrame, mask: PersonMask, method: Method, camera: str = "") -> ProtectedFrame:
    """Cover the people of one frame. The raw frame is used up: its memory becomes the protected picture's.

    Args:
        frame: The raw frame.
        mask: The mask made for exactly this frame.
        method: The filter; it sees the masked pixels only when its class allows it.
        camera: The camera's name; keyed methods work with keys of its own.

    Raises:
        PrivacyViolationPrevented: The frame is damaged or was covered before, the mask belongs to another frame or
            size, or the filter's output breaks its promise. Whatever is raised, the caller emits a :func:`slate`.
    """
    if frame.damaged:
        _refuse(frame, "the picture is damaged, so nobody knows whom it shows where")
    shape = (frame.height, frame.width)
    if mask.sequence != frame.sequence:
        _refuse(frame, f"the mask belongs to frame {mask.sequence}")
    if mask.pixels.dtype != np.bool_ or mask.pixels.shape != shape:
        _refuse(frame, f"the mask is {mask.pixels.dtype} {mask.pixels.shape}, the frame {shape}")
    pixels, covered = frame._protected_pixels(np.ascontiguousarray(mask.pixels), method, camera)
    return ProtectedFrame(
        _MAKER,
        pixels,
        sequence=frame.sequence,
        pts=frame.pts,
        time_base=frame.time_base,
        captured=frame.captured,
        person_ratio=cv2.countNonZero(covered.mask.view(np.uint8)) / covered.mask.size,
        people=covered.people,
        mask_age=mask.age,
        record=method.record(),
    )


def slate(
    width: int,
    height: int,
    reason: Withheld,
    *,
    sequence: int,
    pts: int,
    time_base: Fraction,
    captured: float | None = None,
) -> ProtectedFrame:
    """A dark card with a notice in place of a frame; no pixel of the scene is in it."""
    return ProtectedFrame(
        _MAKER,
        _card(width, height, Withheld(reason)),
        sequence=sequence,
        pts=pts,
        time_base=time_base,
        captured=time.monotonic() if captured is None else captured,
        withheld=Withheld(reason),
    )


def require_protected(frame: object, sink: object) -> ProtectedFrame:
    """What every sink asks of whatever it is handed.

    Args:
        frame: What it was handed.
        sink: Its name, for the message.

    Returns:
        The frame.

    Raises:
        PrivacyViolationPrevented: It is no :class:`ProtectedFrame`; nothing must leave.
    """
    if type(frame) is not ProtectedFrame:
        fault = f"refused a {type(frame).__name__}"
        raise PrivacyViolationPrevented(sink, fault, "only protect() and slate() make frames that may leave")
    return frame


def _refuse(subject: object, fault: str) -> NoReturn:
    raise PrivacyViolationPrevented(subject, fault, "the frame leaves as a slate; correct the fault")


def _paint(pixels: Image, area: BoolMask) -> None:
    """Give an area the colour of what is never shown, in place."""
    left, top, width, height = cv2.boundingRect(area.view(np.uint8))
    box = np.s_[top : top + height, left : left + width]
    cv2.copyTo(np.full((height, width, 3), _CARD, np.uint8), area[box].view(np.uint8), pixels[box])


def _card(width: int, height: int, reason: Withheld) -> Image:
    return _drawn_card(width, height, str(reason)).copy()


@functools.lru_cache(maxsize=8)
def _drawn_card(width: int, height: int, notice: str) -> Image:
    card: Image = np.full((height, width, 3), _CARD, np.uint8)
    font = cv2.FONT_HERSHEY_SIMPLEX
    for line, text in enumerate(("FRAME WITHHELD", notice)):
        (natural, _), _ = cv2.getTextSize(text, font, 1.0, 1)
        scale = min(0.8 * width / natural, height / 160)
        thickness = max(round(scale * 1.5), 1)
        (across, up), _ = cv2.getTextSize(text, font, scale, thickness)
        origin = ((width - across) // 2, height // 2 + (-up // 2 if line == 0 else 2 * up))
        cv2.putText(card, text, origin, font, scale, _NOTICE, thickness, cv2.LINE_AA)
    return card
