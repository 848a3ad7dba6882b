"""A bubble plot as inline SVG, so that the page needs no script and no library."""

from __future__ import annotations

import math
from html import escape
from typing import Any

__all__ = ["bubble_plot"]

WIDTH, HEIGHT = 720, 420
LEFT, RIGHT, TOP, BOTTOM = 60, 20, 20, 50
LARGEST_RADIUS = 34.0
COLOURS = ("#0a7d33", "#1f6fb4", "#b4471f", "#7a3fb0", "#8a7a10", "#b01f6f")


def bubble_plot(results: list[dict[str, Any]], winner: str) -> str:
    """Plot human IoU over pictures a second; the area of a bubble stands for the parameters.

    Args:
        results: What ``evaluate`` wrote, one a candidate.
        winner: Name of the candidate drawn with a ring.
    """
    fastest = _ceiling(max(result["speed"]["fps"] for result in results) * 1.15)
    largest = max(result["complexity"]["parameters"] for result in results)
    parts = [_axes(fastest)]
    for index, result in enumerate(sorted(results, key=lambda result: -result["complexity"]["parameters"])):
        name, parameters = result["candidate"], result["complexity"]["parameters"]
        x, y = _x(result["speed"]["fps"], fastest), _y(result["accuracy"]["iou_human"])
        radius = max(5.0, LARGEST_RADIUS * math.sqrt(parameters / largest))
        ring = 'stroke="currentColor" stroke-width="3"' if name == winner else ""
        title = f"{name}: IoU {result['accuracy']['iou_human']:.3f}, {result['speed']['fps']:.1f} FPS"
        right = x > WIDTH * 0.7
        parts.append(
            f'<circle cx="{x:.1f}" cy="{y:.1f}" r="{radius:.1f}" fill="{COLOURS[index % len(COLOURS)]}" '
            f'fill-opacity="0.65" {ring}><title>{escape(title)}</title></circle>'
            f'<text x="{x + (-radius - 6 if right else radius + 6):.1f}" y="{y + 4:.1f}" '
            f'text-anchor="{"end" if right else "start"}">{escape(name)}, {parameters / 1e6:.1f} M</text>'
        )
    label = "human IoU over pictures a second, bubble area is the number of parameters"
    return f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{label}">{"".join(parts)}</svg>'


def _x(fps: float, fastest: float) -> float:
    return LEFT + (WIDTH - LEFT - RIGHT) * fps / fastest


def _y(iou: float) -> float:
    return TOP + (HEIGHT - TOP - BOTTOM) * (1 - iou)


def _ceiling(value: float) -> float:
    """Round up to 1, 2 or 5 times a power of ten, so that five steps read well."""
    power = 10 ** math.floor(math.log10(value))
    return float(next(step * power for step in (1, 2, 5, 10) if step * power >= value))


def _axes(fastest: float) -> str:
    lines = []
    for step in range(6):
        x, y = _x(fastest * step / 5, fastest), _y(step / 5)
        lines.append(
            f'<line x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y:.1f}" y2="{y:.1f}" stroke="currentColor" opacity="0.15"/>'
            f'<text x="{LEFT - 8}" y="{y + 4:.1f}" text-anchor="end">{step / 5:.1f}</text>'
            f'<text x="{x:.1f}" y="{HEIGHT - BOTTOM + 20}" text-anchor="middle">{fastest * step / 5:g}</text>'
        )
    across, down = (LEFT + WIDTH - RIGHT) / 2, (TOP + HEIGHT - BOTTOM) / 2
    lines.append(
        f'<text x="{across}" y="{HEIGHT - 8}" text-anchor="middle">pictures a second</text>'
        f'<text transform="translate(16 {down}) rotate(-90)" text-anchor="middle">human IoU</text>'
    )
    return "".join(lines)
