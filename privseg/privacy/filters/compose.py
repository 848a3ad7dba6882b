"""Methods one after the other, as ``pixelate+outline``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from privseg.errors import UsageError
from privseg.privacy.filters.base import BoolMask, Context, Image, Method, PrivacyClass, Scene

__all__ = ["Composition"]


class Composition(Method):
    """Each stage covers what the one before left; its class is that of the strongest promise that still holds.

    As soon as one stage is irreversible, and does not merely add to what another left, nothing of the person is in the
    output, and no stage is shown anything of the person. Otherwise what the first stage left is all that the others
    had, so its class holds for all.

    Args:
        stages: Two or more, in order.

    Raises:
        UsageError: One of them can only stand alone.
    """

    def __init__(self, stages: Sequence[Method]) -> None:
        self.stages = tuple(stages)
        alone = next((stage.name for stage in self.stages if stage.lossless), None)
        if alone is not None:
            fault = "can follow or be followed by nothing: what it covers could not be recovered"
            raise UsageError(f"method {alone}", fault, f"use {alone} on its own")
        first = self.stages[0]
        replacing = (first, *(stage for stage in self.stages[1:] if not stage.decorates))
        irreversible = any(stage.privacy_class == "irreversible" for stage in replacing)
        privacy_class: PrivacyClass = "irreversible" if irreversible else first.privacy_class
        # A composition is made as often as there are cameras; its kind is its own.
        self.name = "+".join(stage.name for stage in self.stages)  # type: ignore[misc]
        self.privacy_class = privacy_class  # type: ignore[misc]
        self.does_not_hide = "; ".join(dict.fromkeys(stage.does_not_hide for stage in self.stages))  # type: ignore[misc]
        self.strips = max(stage.strips for stage in self.stages)  # type: ignore[misc]
        self.params = first.params

    def protect(self, image: Image, mask: BoolMask, context: Context) -> Image:
        """Cover the masked pixels; see :class:`~privseg.privacy.filters.base.Method`."""
        for number, stage in enumerate(self.stages):
            image = stage.protect(image, mask, context) if number == 0 else stage.decorate(image, mask, context)
            image.flags.writeable = False
        return image

    def widen(self, mask: BoolMask) -> BoolMask:
        """See :class:`~privseg.privacy.filters.base.Method`."""
        for stage in self.stages:
            mask = stage.widen(mask)
        return mask

    def begin(self, scene: Scene) -> None:
        """See :class:`~privseg.privacy.filters.base.Method`."""
        for stage in self.stages:
            stage.begin(scene)

    def observe(self, strip: Image, mask: BoolMask, top: int) -> None:
        """See :class:`~privseg.privacy.filters.base.Method`."""
        for stage in self.stages:
            if stage.strips:
                stage.observe(strip, mask, top)

    def record(self) -> Mapping[str, Any] | None:
        """See :class:`~privseg.privacy.filters.base.Method`."""
        return next((record for stage in self.stages if (record := stage.record()) is not None), None)

    def cells_across(self) -> float | None:
        """See :class:`~privseg.privacy.filters.base.Method`."""
        left = [cells for stage in self.stages if (cells := stage.cells_across()) is not None]
        return min(left) if left else None
