"""What a protection method is, and what the methods share."""

from __future__ import annotations

import functools
from typing import Annotated, ClassVar, Literal, Protocol

import cv2
import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict, Field

__all__ = ["Color", "Method", "MethodParams", "PrivacyClass", "fill", "rgb"]

#: irreversible: no source pixel is in the output. obfuscation: an attacker with effort learns something.
#: reversible with key: pseudonymisation, still personal data.
PrivacyClass = Literal["irreversible", "obfuscation", "reversible with key"]
Color = Annotated[str, Field(pattern=r"^#[0-9a-fA-F]{6}$")]
Image = npt.NDArray[np.uint8]
BoolMask = npt.NDArray[np.bool_]


class MethodParams(BaseModel):
    """Base of every method's parameters: unknown names are refused, values are bounded."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Method(Protocol):
    """A filter that covers masked pixels and touches no others."""

    name: ClassVar[str]
    privacy_class: ClassVar[PrivacyClass]
    params_type: ClassVar[type[MethodParams]]
    #: what a viewer or an attacker still learns, in words
    does_not_hide: ClassVar[str]

    @property
    def params(self) -> MethodParams:
        """The parameters it was made with."""
        ...

    def apply(self, image: Image, mask: BoolMask) -> Image:
        """Cover the masked pixels.

        Args:
            image: uint8 ``(H, W, 3)`` RGB, read-only. Where the class is irreversible, the masked pixels are
                erased before the method sees them.
            mask: bool ``(H, W)``.

        Returns:
            A new uint8 ``(H, W, 3)`` RGB picture, bit-identical outside the mask.
        """
        ...


def rgb(color: str) -> tuple[int, int, int]:
    """``#rrggbb`` as three numbers from 0 to 255."""
    return int(color[1:3], 16), int(color[3:5], 16), int(color[5:7], 16)


def fill(image: Image, mask: BoolMask, color: tuple[int, int, int]) -> Image:
    """A copy of ``image`` (uint8 ``(H, W, 3)``) with one colour where ``mask`` (bool ``(H, W)``) is true."""
    result = image.copy()
    cv2.copyTo(_sheet(*mask.shape, color), mask.view(np.uint8), result)
    return result


@functools.lru_cache(maxsize=16)
def _sheet(height: int, width: int, color: tuple[int, int, int]) -> Image:
    """A whole picture of one colour, kept: making it costs more than the rest of a fill."""
    return np.full((height, width, 3), color, np.uint8)
