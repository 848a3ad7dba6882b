"""What a protection method is, and what the methods share.

A method is shown one person at a time, in a window of the frame, and returns that window covered. It never holds the
frame, and what it draws outside the person is thrown away: :func:`privseg.privacy.frames.protect` writes, and writes
inside the mask only. Where a method's class is irreversible, the window it is shown is empty, so no mistake in it can
let a person through.
"""

from __future__ import annotations

import abc
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Literal

import cv2
import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict, Field

from privseg.privacy.keys import Secrets, SessionSecrets

__all__ = [
    "BoolMask",
    "Color",
    "Context",
    "Image",
    "Method",
    "MethodParams",
    "Person",
    "PrivacyClass",
    "Scene",
    "color_sheet",
    "fill",
    "rgb",
]

#: irreversible: no source pixel is in the output. obfuscation: an attacker with effort learns something.
#: reversible with key: pseudonymisation, still personal data.
PrivacyClass = Literal["irreversible", "obfuscation", "reversible with key"]
Color = Annotated[str, Field(pattern=r"^#[0-9a-fA-F]{6}$")]
Image = npt.NDArray[np.uint8]
BoolMask = npt.NDArray[np.bool_]


class MethodParams(BaseModel):
    """Base of every method's parameters: unknown names are refused, values are bounded."""

    model_config = ConfigDict(extra="forbid", frozen=True)


@dataclass(frozen=True, slots=True)
class Person:
    """One connected covered area: a person, or people who touch.

    Attributes:
        index: Its place among the people of this frame, from 0.
        top, left, height, width: Its box in the frame, pixels.
    """

    index: int
    top: int
    left: int
    height: int
    width: int


@dataclass(frozen=True, slots=True)
class Scene:
    """One frame, as far as a method may know it: no pixels.

    Attributes:
        camera: The camera's name; keys and tokens differ between cameras.
        sequence: The frame's number within its source, never used twice.
        height, width: Of the frame, pixels.
        people: All covered areas, in order of their index.
    """

    camera: str
    sequence: int
    height: int
    width: int
    people: tuple[Person, ...]


@dataclass(frozen=True, slots=True)
class Context:
    """What :meth:`Method.protect` is told beside the pixels."""

    scene: Scene
    person: Person


class Method(abc.ABC):
    """A filter that covers masked pixels. One camera's frames go through it, in order; it may remember."""

    name: ClassVar[str]
    privacy_class: ClassVar[PrivacyClass]
    params_type: ClassVar[type[MethodParams]]
    #: what a viewer or an attacker still learns, in words
    does_not_hide: ClassVar[str]
    #: it works with the keys of a key ring (:mod:`privseg.privacy.keys`) and cannot be made without one
    needs_keys: ClassVar[bool] = False
    #: what it leaves must be stored bit for bit, with :meth:`record` beside it, and nothing drawn over it
    lossless: ClassVar[bool] = False
    #: where above 0, :meth:`observe` is shown the background: every frame one of so many horizontal strips, in turns
    strips: ClassVar[int] = 0

    #: after another method it only adds to the picture (:meth:`decorate`), and that one's class still holds
    decorates: ClassVar[bool] = False

    params: MethodParams
    _turn: int = -1

    def __init__(self, params: MethodParams | None = None, secrets: Secrets | None = None) -> None:
        self.params = params or self.params_type()
        #: where keyed methods get their keys; without a key ring, keys that nobody ever learns and no restart survives
        self.secrets = secrets or SessionSecrets()

    @abc.abstractmethod
    def protect(self, image: Image, mask: BoolMask, context: Context) -> Image:
        """Cover one person.

        Args:
            image: uint8 ``(h, w, 3)`` RGB, read-only: the person's box cut out of the frame. Every other person's
                pixels in it are zero; where the class is irreversible, all are.
            mask: bool ``(h, w)``, read-only: which of the pixels are this person's.
            context: Which frame, and where in it.

        Returns:
            uint8 ``(h, w, 3)`` RGB that shares no memory with ``image``; only what lies under ``mask`` is used.
        """

    def decorate(self, image: Image, mask: BoolMask, context: Context) -> Image:
        """Cover what another method left, as a later stage of a composition.

        The same as :meth:`protect`, except for methods that add to a picture without replacing it (``decorates``).
        """
        return self.protect(image, mask, context)

    def widen(self, mask: BoolMask) -> BoolMask:
        """Ask for more of the frame than the mask policy covers, as a method that draws boxes must.

        Called once a frame, before everything else. What is added is then covered like any person, and counted in the
        frame's covered share.

        Args:
            mask: bool ``(H, W)``, read-only: the whole frame's mask.

        Returns:
            bool ``(H, W)``, true wherever ``mask`` is; ``mask`` itself where nothing is added.
        """
        return mask

    def begin(self, scene: Scene) -> None:  # noqa: B027 - most methods need neither of these two
        """Called once a frame, before its people."""

    def observe(self, strip: Image, mask: BoolMask, top: int) -> None:  # noqa: B027
        """Called after :meth:`begin` where ``strips`` asks for it.

        Args:
            strip: uint8 ``(h, W, 3)`` RGB, read-only: rows ``top`` to ``top + h`` of the frame, covered pixels zero.
            mask: bool ``(h, W)``: which of them are covered.
            top: The strip's first row in the frame.
        """

    def next_turn(self) -> int:
        """Which of the strips is next; counted by frames shown, not numbered, for a source may skip any of them."""
        self._turn = (self._turn + 1) % self.strips
        return self._turn

    def record(self) -> Mapping[str, Any] | None:
        """What must be kept beside the frame just covered, as plain data without any pixel; None for nothing."""
        return None

    def cells_across(self) -> float | None:
        """How many independent cells are left across a person's height; 0: none; None: as many as there were."""
        return 0.0 if self.privacy_class == "irreversible" else None


def rgb(color: str) -> tuple[int, int, int]:
    """``#rrggbb`` as three numbers from 0 to 255."""
    return int(color[1:3], 16), int(color[3:5], 16), int(color[5:7], 16)


def fill(image: Image, mask: BoolMask, color: tuple[int, int, int]) -> Image:
    """A copy of ``image`` (uint8 ``(H, W, 3)``) with one colour where ``mask`` (bool ``(H, W)``) is true."""
    result = image.copy()
    cv2.copyTo(color_sheet(mask.shape, color), mask.view(np.uint8), result)
    return result


def color_sheet(shape: tuple[int, ...], color: tuple[int, int, int]) -> Image:
    """A picture of one colour, uint8 ``(*shape, 3)``, read-only: part of a larger one that is kept."""
    height, width = shape
    whole = _SHEETS.get(color)
    if whole is None or height > whole.shape[0] or width > whole.shape[1]:
        if len(_SHEETS) >= _MOST_SHEETS:
            _SHEETS.clear()
        grown = np.maximum((height, width), (0, 0) if whole is None else whole.shape[:2])
        _SHEETS[color] = whole = np.full((*grown, 3), color, np.uint8)
        whole.flags.writeable = False
    return whole[:height, :width]


# Making a sheet costs more than the rest of a fill.
_SHEETS: dict[tuple[int, int, int], Image] = {}
_MOST_SHEETS = 8
