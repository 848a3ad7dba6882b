"""Silhouette: people become a flat figure with a lighter outline, so that posture stays readable."""

from __future__ import annotations

from typing import ClassVar

from privseg.privacy.filters.figure import Figure, FigureParams

__all__ = ["Silhouette", "SilhouetteParams"]


class SilhouetteParams(FigureParams):
    """What the figure looks like."""


class Silhouette(Figure):
    """Fill with one colour and outline it. No source pixel remains; the outline and the way of walking do."""

    name: ClassVar[str] = "silhouette"
    does_not_hide: ClassVar[str] = "that someone is there, posture and gestures, the way of walking"
    params_type = SilhouetteParams
    params: SilhouetteParams
