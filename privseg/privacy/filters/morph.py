"""Morphing: the person's coarse colours fade into a neutral figure, or into another person's coarse shape."""

from __future__ import annotations

from typing import ClassVar, Literal, NamedTuple

import cv2
import numpy as np
from pydantic import Field

from privseg.privacy.filters.base import BoolMask, Context, Image, Method, MethodParams, PrivacyClass, Scene
from privseg.privacy.filters.cells import coarse_cells
from privseg.privacy.filters.mannequin import draw_figures
from privseg.privacy.keys import Secrets
from privseg.privacy.tracks import Track, Tracks

__all__ = ["Morph", "MorphParams"]

_GROUND, _BODY, _LIMBS = (150, 150, 150), (232, 232, 232), (206, 206, 206)
#: pixels of a remembered shape, down and across
_SHAPE = (24, 24)


class MorphParams(MethodParams):
    """Towards what, and how far."""

    strength: float = Field(
        0.7, ge=0.5, le=1.0, description="share of what it is morphed to; at 1 nothing of the person's own is left"
    )
    target: Literal["neutral", "tracked"] = Field(
        "neutral", description="a mannequin in the person's pose, or the coarse shape and colours of another person"
    )
    cells: int = Field(6, ge=1, le=6, description="cells across the longer side of each person")


class _Look(NamedTuple):
    """What is remembered of a tracked person: the cells, uint8 ``(r, c, 3)``, and a small shape, uint8 of 0 and 1."""

    cells: Image
    shape: Image


class Morph(Method):
    """Blend a person's smoothed cells with a target.

    With ``tracked``, the target is the look that the next tracked person of the scene had a frame ago, stretched to
    this person's box; the mannequin while there is nobody else. Only cells and a small shape of each are kept, and
    only while the track lives.
    """

    name: ClassVar[str] = "morph"
    privacy_class: ClassVar[PrivacyClass] = "obfuscation"
    does_not_hide: ClassVar[str] = (
        "faint coarse colours of clothing, posture, the way of walking; morphed to another, somebody's colours"
    )
    params_type: ClassVar[type[MethodParams]] = MorphParams
    params: MorphParams

    def __init__(self, params: MethodParams | None = None, secrets: Secrets | None = None) -> None:
        super().__init__(params, secrets)
        self._tracker = Tracks()
        self._tracks: list[Track] = []
        self._before: dict[int, _Look] = {}
        self._now: dict[int, _Look] = {}

    def begin(self, scene: Scene) -> None:
        """See :class:`~privseg.privacy.filters.base.Method`."""
        if self.params.target == "tracked":
            self._tracks = self._tracker.update(scene)
            live = {track.number for track in self._tracker.live()}
            self._before = {number: look for number, look in self._now.items() if number in live}
            self._now = dict(self._before)

    def protect(self, image: Image, mask: BoolMask, context: Context) -> Image:
        """Cover the masked pixels; see :class:`~privseg.privacy.filters.base.Method`."""
        own = coarse_cells(image, mask, self.params.cells)
        target = draw_figures(mask, _GROUND, _BODY, _LIMBS)
        if self.params.target == "tracked":
            number = self._tracks[context.person.index].number
            other = self._other(number)
            if other is not None:
                _put(target, other)
            shape = cv2.resize(mask.view(np.uint8), _SHAPE, interpolation=cv2.INTER_NEAREST_EXACT)
            self._now[number] = _Look(own.values, shape)
        strength = self.params.strength
        covered: Image = cv2.addWeighted(own.smooth(), 1 - strength, target, strength, 0)
        return covered

    def cells_across(self) -> float:
        """See :class:`~privseg.privacy.filters.base.Method`."""
        neutral = self.params.strength == 1 and self.params.target == "neutral"
        return 0.0 if neutral else float(self.params.cells)

    def _other(self, number: int) -> _Look | None:
        """The look of the track that comes next after this one, the oldest after the youngest."""
        others = sorted(other for other in self._before if other != number)
        if not others:
            return None
        return self._before[next((other for other in others if other > number), others[0])]


def _put(target: Image, look: _Look) -> None:
    """Draw a remembered look over all of ``target``, uint8 ``(h, w, 3)``, in its place."""
    size = (target.shape[1], target.shape[0])
    shape = cv2.resize(look.shape * np.uint8(255), size, interpolation=cv2.INTER_LINEAR)
    inside = cv2.threshold(shape, 127, 255, cv2.THRESH_BINARY)[1]
    target[:] = _GROUND
    cv2.copyTo(cv2.resize(look.cells, size, interpolation=cv2.INTER_LINEAR), inside, target)
