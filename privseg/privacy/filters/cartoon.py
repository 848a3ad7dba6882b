"""Cartooning: a few flat colours with dark contours between them, like a paper cut."""

from __future__ import annotations

from typing import ClassVar

import cv2
import numpy as np
import numpy.typing as npt
from pydantic import Field

from privseg.privacy.filters.base import BoolMask, Context, Image, Method, MethodParams, PrivacyClass
from privseg.privacy.filters.cells import coarse_cells

__all__ = ["Cartoon", "CartoonParams"]

_ROUNDS = 6
_INK = (24, 26, 30)
#: contours are found on a picture of this height: they are smooth curves, and more would show no more
_SHEET = 160


class CartoonParams(MethodParams):
    """How many colours, and how fine."""

    cells: int = Field(6, ge=2, le=6, description="cells across the longer side of each person")
    colors: int = Field(4, ge=2, le=8, description="flat colours a person is reduced to")
    line: float = Field(0.012, ge=0.0, le=0.05, description="width of the contours as a share of the person's height")


class Cartoon(Method):
    """Find the few colours that the cells of a person gather around, and draw an area of each.

    After cartooning for privacy (Erdélyi, Barát, Valet, Winkler and Rinner, AVSS 2014), which smooths by mean shift and
    draws edges over it. Here the cells are averaged first, so that no edge of the picture itself survives: the
    contours lie between colours, not where a face has its features.
    """

    name: ClassVar[str] = "cartoon"
    privacy_class: ClassVar[PrivacyClass] = "obfuscation"
    does_not_hide: ClassVar[str] = "coarse colours of clothing, posture, the way of walking"
    params_type: ClassVar[type[MethodParams]] = CartoonParams
    params: CartoonParams

    def protect(self, image: Image, mask: BoolMask, context: Context) -> Image:
        """Cover the masked pixels; see :class:`~privseg.privacy.filters.base.Method`."""
        height, width = mask.shape
        cells = coarse_cells(image, mask, self.params.cells).values
        labels, colors = _gather(cells, self.params.colors)
        step = max(height / _SHEET, 1.0)
        sheet = _areas(labels, len(colors), max(round(height / step), 1), max(round(width / step), 1))
        thickness = round(self.params.line * height / step)
        if thickness:
            lines = cv2.morphologyEx(sheet, cv2.MORPH_GRADIENT, np.ones((thickness + 1, thickness + 1), np.uint8))
            sheet[lines > 0] = len(colors)
        table = np.zeros((256, 1, 3), np.uint8)
        table[: len(colors), 0] = colors
        table[len(colors), 0] = _INK
        size = (width, height)
        covered: Image = cv2.resize(cv2.applyColorMap(sheet, table), size, interpolation=cv2.INTER_LINEAR)
        return covered

    def cells_across(self) -> float:
        """See :class:`~privseg.privacy.filters.base.Method`."""
        return float(self.params.cells)


def _gather(cells: Image, most: int) -> tuple[Image, Image]:
    """Lloyd's k-means from colours spread evenly in brightness: the same cells always give the same colours.

    Args:
        cells: uint8 ``(r, c, 3)``.
        most: How many colours at most.

    Returns:
        uint8 ``(r, c)``: which colour each cell is of; uint8 ``(k, 3)``: the colours.
    """
    points = cells.reshape(-1, 3).astype(np.float64)
    ranked = points[np.argsort(points.sum(1), kind="stable")]
    centers = np.unique(ranked[np.linspace(0, len(ranked) - 1, most).round().astype(int)], axis=0)
    for _ in range(_ROUNDS):
        nearest = ((points[:, np.newaxis] - centers) ** 2).sum(-1).argmin(1)
        member = nearest[:, np.newaxis] == np.arange(len(centers))
        used = member.any(0)
        centers = (member.T.astype(np.float64) @ points)[used] / member.sum(0)[used, np.newaxis]
    nearest = ((points[:, np.newaxis] - centers) ** 2).sum(-1).argmin(1)
    return nearest.astype(np.uint8).reshape(cells.shape[:2]), np.rint(centers).astype(np.uint8)


def _areas(labels: Image, count: int, height: int, width: int) -> Image:
    """The labels at another size with smooth borders: each pixel takes the label that is strongest around it.

    Returns:
        uint8 ``(height, width)``.
    """
    best = np.zeros((height, width), np.float32)
    sheet = np.zeros((height, width), np.uint8)
    for label in range(count):
        share: npt.NDArray[np.float32] = cv2.resize(
            (labels == label).astype(np.float32), (width, height), interpolation=cv2.INTER_CUBIC
        )
        stronger = share > best
        sheet[stronger] = label
        np.maximum(best, share, out=best)
    return sheet
