"""The tables of the benchmark page."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

from privseg.benchmark.columns import NOTHING, Column, best_rows

__all__ = ["figures_table", "measured_shapes", "plain_table", "runtime_name", "speed_table", "study_table"]

Row = Mapping[str, Any]
_RUNTIMES = {"pytorch": "PyTorch", "onnxruntime": "ONNX Runtime", "openvino": "OpenVINO"}
_DEVICES = {"cpu": "processor", "cuda": "GPU"}
_PER_GROUP = ("p50, ms", "p95, ms", "FPS", "ratio")


def runtime_name(runtime: str) -> str:
    """What a runtime calls itself."""
    return _RUNTIMES.get(runtime, runtime)


def plain_table(heads: Sequence[str], rows: Sequence[Sequence[str]], *, words: Sequence[int] = ()) -> str:
    """A table of text; the columns in ``words``, and the first, hold words and are set from the left."""
    return _table(_line(heads, "th", words), [_line(row, "td", words) for row in rows])


def figures_table(rows: Sequence[Row], columns: Sequence[Column], winner: str) -> str:
    """A row a candidate, a column a figure; the best figure of a column stands out, and so does the winner's row."""
    best = [best_rows(column, rows) for column in columns]
    lines = []
    for position, row in enumerate(rows):
        cells = "".join(
            _cell(column.text(row), position in marked) for column, marked in zip(columns, best, strict=True)
        )
        lines.append(_named(row, winner, cells))
    return _table(_line(["Candidate", *(column.heading for column in columns)], "th"), lines)


def measured_shapes(rows: Sequence[Row]) -> list[tuple[int, int]]:
    """Heights and widths at which speed was measured, in the order of measuring."""
    return list(dict.fromkeys((t["height"], t["width"]) for row in rows for t in row["measurements"]))


def speed_table(rows: Sequence[Row], shape: tuple[int, int], winner: str) -> str:
    """Latency and speed at one shape, a group of columns for every runtime and device.

    ``ratio`` is a candidate's pictures a second as a multiple of the winner's in the same group.
    """
    groups: dict[str, dict[str, Row]] = {}
    for row in rows:
        for timing in row["measurements"]:
            if (timing["height"], timing["width"]) == shape:
                groups.setdefault(_group(timing), {})[row["candidate"]] = timing
    lines = []
    for row in rows:
        cells = ""
        for timings in groups.values():
            timing, fastest = timings.get(row["candidate"]), max(timings.values(), key=lambda t: float(t["fps"]))
            cells += _timing_cells(timing, timings.get(winner), fastest=timing is fastest and len(timings) > 1)
        lines.append(_named(row, winner, cells))
    top = '<th rowspan="2" scope="col">Candidate</th>' + "".join(
        f'<th colspan="{len(_PER_GROUP)}" scope="colgroup" class="group">{escape(name)}</th>' for name in groups
    )
    below = "".join(f'<th scope="col">{name}</th>' for _ in groups for name in _PER_GROUP)
    return _table(f"<tr>{top}</tr><tr>{below}</tr>", lines)


def study_table(study: Sequence[Row], rows: Sequence[Row]) -> str:
    """The study's models, and beside each ours of the same architecture, where it was measured."""
    ours = {row["candidate"]: row for row in rows}
    lines = []
    for model in study:
        row = ours.get(model["candidate"])
        mine = [NOTHING] * 3 if row is None else _ours(row)
        published = [model["model"], model["resolution"], f"{model['iterations']:,}".replace(",", "\N{THIN SPACE}")]
        lines.append([*published, f"{model['fps']:.2f}", f"{model['mean_iou']:.3f}", *mine])
    heads = [
        "Study's model", "Resolution", "Iterations", "FPS, V100", "mIoU, Cityscapes", "Our candidate", "FPS, here",
        "Mean IoU, here",
    ]  # fmt: skip
    return plain_table(heads, lines, words=(5,))


def _ours(row: Row) -> list[str]:
    return [row["candidate"], f"{row['speed']['fps']:.1f}", f"{row['accuracy']['mean_iou']:.3f}"]


def _group(timing: Row) -> str:
    name = f"{runtime_name(timing['runtime'])}, {_DEVICES.get(timing['device'], timing['device'])}"
    return f"{name}, {timing['precision']}" + (", best batch" if timing["batch"] > 1 else "")


def _timing_cells(timing: Row | None, winners: Row | None, *, fastest: bool) -> str:
    if timing is None:
        return _cell(NOTHING) * len(_PER_GROUP)
    ratio = f"{timing['fps'] / winners['fps']:.2f}" if winners else NOTHING
    batch = f" (batch {timing['batch']})" if timing["batch"] > 1 else ""
    cells = _cell(f"{timing['p50_ms']:.1f}") + _cell(f"{timing['p95_ms']:.1f}")
    return cells + _cell(f"{timing['fps']:.1f}{batch}", fastest) + _cell(ratio)


def _named(row: Row, winner: str, cells: str) -> str:
    won = row["candidate"] == winner
    name = escape(row["candidate"]) + (" ★" if won else "")
    return f'<tr{" class=winner" if won else ""}><th scope="row">{name}</th>{cells}</tr>'


def _cell(text: str, best: bool = False) -> str:
    return f"<td class=best>{escape(text)}</td>" if best else f"<td>{escape(text)}</td>"


def _line(cells: Sequence[str], tag: str, words: Sequence[int] = ()) -> str:
    scope = ' scope="col"' if tag == "th" else ""
    parts = []
    for position, cell in enumerate(cells):
        kind = " class=words" if position in words else ""
        name = tag if position else "th"
        parts.append(f"<{name}{scope if position else scope or ' scope=row'}{kind}>{escape(cell)}</{name}>")
    return f"<tr>{''.join(parts)}</tr>"


def _table(head: str, lines: Sequence[str]) -> str:
    body = "\n".join(lines)
    return f'<div class="scroll" tabindex="0"><table><thead>{head}</thead>\n<tbody>\n{body}\n</tbody></table></div>'
