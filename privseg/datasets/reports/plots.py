"""Plots of a dataset: inline SVG for pages that need nothing beside themselves, and files for ``dvc plots``."""

from __future__ import annotations

import base64
import math
from html import escape
from pathlib import Path

import pandas as pd

from privseg.datasets.manifest import write_atomic
from privseg.datasets.reports.bins import Counts, Distributions, HeatMap, Histogram
from privseg.datasets.reports.png import colour_bar, colour_cells, encode_png, heat_map_png, peak_share

__all__ = ["heat_map_svg", "heat_peak", "histogram_csv", "histogram_svg", "nice_step", "write_plots"]

HEAT_MAP = "feet"
WIDTH, HEIGHT = 440, 280
LEFT, RIGHT, TOP, BOTTOM = 58, 12, 14, 46
_HEAT_HEIGHT = 330
_HEAT_BOTTOM = 100


def histogram_svg(histogram: Histogram) -> str:
    """Draw a histogram; what was kept stands in front of what there was.

    The page gives the classes ``before`` and ``after`` their fill.
    """
    tallest = int(histogram.before.max(initial=0))
    step = nice_step(tallest)
    top = step * max(1, math.ceil(tallest / step))
    low, high = float(histogram.edges[0]), float(histogram.edges[-1])
    parts = [_ticks(top, step), _axis(histogram, low, high), _labels(histogram.x_label, histogram.y_label)]
    for index, name in enumerate(_names(histogram)):
        left, right = (_x(float(edge), low, high) for edge in histogram.edges[index : index + 2])
        old = int(histogram.before[index])
        new = None if histogram.after is None else int(histogram.after[index])
        said = f"{name}: {old:,}" if new is None else f"{name}: {old:,} before, {new:,} after"
        bars = _bar("before", left, right, old / top) + ("" if new is None else _bar("after", left, right, new / top))
        parts.append(f"<g><title>{escape(said)}</title>{bars}</g>" if old else "")
    label = escape(f"{histogram.title}: {histogram.y_label} over {histogram.x_label}")
    return f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{label}">{"".join(parts)}</svg>'


def heat_map_svg(counts: Counts, peak: float) -> str:
    """Draw where people stand as shares of all people.

    Args:
        counts: int64 ``(rows, columns)``, row 0 the top of the picture.
        peak: The share that gets the brightest colour, so that two maps can be compared.
    """
    width, height = WIDTH - LEFT - RIGHT, _HEAT_HEIGHT - TOP - _HEAT_BOTTOM
    parts = [_picture(encode_png(colour_cells(counts, peak)), LEFT, TOP, width, height)]
    for step in range(5):
        share = step / 4
        x, y = LEFT + width * share, TOP + height * share
        parts.append(
            f'<text x="{x:.1f}" y="{TOP + height + 18}" text-anchor="middle">{share:g}</text>'
            f'<text x="{LEFT - 8}" y="{y + 4:.1f}" text-anchor="end">{share:g}</text>'
        )
    bar_top = TOP + height + 58
    parts += [
        f'<text x="{LEFT + width / 2}" y="{TOP + height + 38}" text-anchor="middle">across the picture</text>',
        f'<text transform="translate(14 {TOP + height / 2}) rotate(-90)" text-anchor="middle">from the top down</text>',
        _picture(encode_png(colour_bar(width, 1)), LEFT, bar_top, width, 10),
        *(
            f'<text x="{LEFT + width * place:.1f}" y="{bar_top + 26}" text-anchor="{anchor}">{text}</text>'
            for place, anchor, text in (
                (0.0, "start", "0"),
                (0.5, "middle", f"{100 * peak / 4:.2g} %"),  # the scale is a square root
                (1.0, "end", f"{100 * peak:.2g} % of the people"),
            )
        ),
    ]
    label = "where people stand in the picture"
    return f'<svg viewBox="0 0 {WIDTH} {_HEAT_HEIGHT}" role="img" aria-label="{label}">{"".join(parts)}</svg>'


def histogram_csv(histogram: Histogram) -> pd.DataFrame:
    """A histogram as a table: ``bin``, ``before`` and, after cleansing, ``after``."""
    after = {} if histogram.after is None else {"after": histogram.after}
    return pd.DataFrame({"bin": histogram.positions, "before": histogram.before, **after})


def write_plots(distributions: Distributions, folder: Path) -> None:
    """Write ``<histogram>.csv`` for every histogram and the heat maps as ``feet.png``.

    Raises:
        StorageError: The disk is full or the place cannot be written.
    """
    for histogram in distributions.histograms:
        text = histogram_csv(histogram).to_csv(index=False, lineterminator="\n")
        write_atomic(folder / f"{histogram.name}.csv", text.encode())
    write_atomic(folder / f"{HEAT_MAP}.png", heat_map_png(distributions.feet))


def heat_peak(feet: HeatMap) -> float:
    """The largest share of people in one cell of any of the maps."""
    return max(peak_share(counts) for counts in (feet.before, feet.after) if counts is not None)


def nice_step(largest: int) -> int:
    """The step between about five ticks up to ``largest``: 1, 2 or 5 times a power of ten."""
    rough = max(1.0, largest / 5)
    power = 10 ** math.floor(math.log10(rough))
    return int(next(step * power for step in (1, 2, 5, 10) if step * power >= rough))


def _names(histogram: Histogram) -> list[str]:
    if not histogram.whole:
        return [f"{low:g} to {high:g}" for low, high in zip(histogram.edges[:-1], histogram.edges[1:], strict=True)]
    *numbers, last = (f"{edge:g}" for edge in histogram.edges[:-1])
    return [*numbers, f"{last} or more"]


def _x(value: float, low: float, high: float) -> float:
    return LEFT + (WIDTH - LEFT - RIGHT) * (value - low) / (high - low)


def _bar(kind: str, left: float, right: float, share: float) -> str:
    height = (HEIGHT - TOP - BOTTOM) * share
    return (
        f'<rect class="{kind}" x="{left + 0.5:.2f}" width="{right - left - 1:.2f}" '
        f'y="{HEIGHT - BOTTOM - height:.2f}" height="{height:.2f}"/>'
    )


def _ticks(top: int, step: int) -> str:
    lines = []
    for value in range(0, top + 1, step):
        y = HEIGHT - BOTTOM - (HEIGHT - TOP - BOTTOM) * value / top
        lines.append(
            f'<line x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y:.1f}" y2="{y:.1f}" stroke="currentColor" opacity="0.15"/>'
            f'<text x="{LEFT - 6}" y="{y + 4:.1f}" text-anchor="end">{value:,}</text>'
        )
    return "".join(lines)


def _axis(histogram: Histogram, low: float, high: float) -> str:
    if histogram.whole:  # a number stands below the middle of its bar
        marks = [(position + 0.5, f"{position:g}") for position in histogram.positions]
    else:
        marks = [(low + (high - low) * step / 5, f"{low + (high - low) * step / 5:g}") for step in range(6)]
    y = HEIGHT - BOTTOM + 18
    return "".join(
        f'<text x="{_x(value, low, high):.1f}" y="{y}" text-anchor="middle">{text}</text>' for value, text in marks
    )


def _labels(across: str, down: str) -> str:
    middle = (LEFT + WIDTH - RIGHT) / 2, (TOP + HEIGHT - BOTTOM) / 2
    return (
        f'<text x="{middle[0]}" y="{HEIGHT - 8}" text-anchor="middle">{escape(across)}</text>'
        f'<text transform="translate(14 {middle[1]}) rotate(-90)" text-anchor="middle">{escape(down)}</text>'
    )


def _picture(png: bytes, x: float, y: float, width: float, height: float) -> str:
    data = base64.b64encode(png).decode("ascii")
    return (
        f'<image x="{x}" y="{y}" width="{width}" height="{height}" preserveAspectRatio="none" '
        f'style="image-rendering:pixelated" href="data:image/png;base64,{data}"/>'
    )
