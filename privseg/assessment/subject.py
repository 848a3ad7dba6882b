"""A method under assessment: its variants of strength, and one camera's worth of frames through it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from privseg.assessment.quality import BoolMask, Image
from privseg.privacy.cover import cover
from privseg.privacy.filters.base import Method
from privseg.privacy.filters.registry import METHODS, create_method
from privseg.privacy.keys import Secrets, SessionSecrets

__all__ = ["Subject", "Variant", "variants"]

#: parameters that say how strong a method is; the first that a method has is varied from its least to its most
_STRENGTHS = ("strength", "cells")


@dataclass(frozen=True)
class Variant:
    """One method at one strength.

    Attributes:
        method: Its name, or several joined by ``+``.
        params: Parameters that differ from the defaults.
    """

    method: str
    params: Mapping[str, Any] = field(default_factory=dict)

    @property
    def label(self) -> str:
        """``pixelate``, or ``pixelate cells=2``."""
        return " ".join([self.method, *(f"{name}={value}" for name, value in self.params.items())])

    def make(self, secrets: Secrets | None = None) -> Method:
        """The method, with keys that nobody else has unless they are given."""
        return create_method(self.method, self.params, secrets=secrets or SessionSecrets())


def variants(method: str) -> list[Variant]:
    """The method as it is by default, then at its least and at its most, where it has a strength."""
    found = [Variant(method)]
    fields = METHODS[method].params_type.model_fields if method in METHODS else {}
    name = next((name for name in _STRENGTHS if name in fields), None)
    if name is None:
        return found
    bounds = [getattr(rule, side) for side in ("ge", "le") for rule in fields[name].metadata if hasattr(rule, side)]
    return found + [Variant(method, {name: bound}) for bound in bounds if bound != fields[name].default]


class Subject:
    """One camera's frames through a variant; frame numbers are never used twice.

    Args:
        variant: What to assess.
        secrets: Its keys; by default keys of its own.
    """

    def __init__(self, variant: Variant, secrets: Secrets | None = None) -> None:
        self.method = variant.make(secrets)
        self._sequence = 0

    def cover(self, image: Image, mask: BoolMask) -> Image:
        """The picture with its people covered; uint8 ``(H, W, 3)`` RGB and bool ``(H, W)`` in, a copy out."""
        return self.cover_wide(image, mask)[0]

    def cover_wide(self, image: Image, mask: BoolMask) -> tuple[Image, BoolMask]:
        """The same, and the mask as the method widened it."""
        picture = np.ascontiguousarray(image).copy()
        used = cover(picture, np.ascontiguousarray(mask), self.method, camera="assess", sequence=self._sequence).mask
        self._sequence += 1
        return picture, used
