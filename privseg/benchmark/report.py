"""The benchmark as one page that needs nothing beside itself."""

from __future__ import annotations

import base64
import json
from html import escape
from pathlib import Path
from string import Template
from typing import Any

from privseg.benchmark.plot import bubble_plot
from privseg.benchmark.select import read_result
from privseg.datasets.manifest import write_atomic
from privseg.errors import DataError, UsageError

__all__ = ["report"]

COLUMNS: tuple[tuple[str, str, str, str, float], ...] = (
    # heading, section, figure, format, scale
    ("IoU human", "accuracy", "iou_human", ".3f", 1),
    ("Dice", "accuracy", "dice", ".3f", 1),
    ("Pixel accuracy", "accuracy", "pixel_accuracy", ".3f", 1),
    ("Precision", "accuracy", "precision", ".3f", 1),
    ("Recall", "accuracy", "recall", ".3f", 1),
    ("Parameters, M", "complexity", "parameters", ".2f", 1e-6),
    ("GFLOPs", "complexity", "flops", ".2f", 1e-9),
    ("p50, ms", "speed", "p50_ms", ".1f", 1),
    ("p95, ms", "speed", "p95_ms", ".1f", 1),
    ("FPS", "speed", "fps", ".1f", 1),
)

PAGE = Template("""<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>privseg benchmark</title>
<style>
:root { color-scheme: light dark; --line: #8884; --mark: #0a7d3322; --accent: #0a7d33; }
body { font: 16px/1.5 system-ui, sans-serif; max-width: 70rem; margin: 2rem auto; padding: 0 1rem; }
h1 { margin-bottom: .2rem; } h2 { margin-top: 2.5rem; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; width: 100%; }
th, td { padding: .4rem .7rem; text-align: right; border-bottom: 1px solid var(--line); }
th:first-child, td:first-child, td.reason { text-align: left; } thead th { vertical-align: bottom; }
tr.winner { background: var(--mark); font-weight: 600; }
svg { width: 100%; max-width: 44rem; height: auto; } svg text { fill: currentColor; font: 13px system-ui, sans-serif; }
.samples { display: grid; gap: .4rem; } .samples img { width: 100%; display: block; border-radius: 4px; }
.samples b { align-self: end; font-size: .85rem; overflow-wrap: anywhere; } small { opacity: .8; }
</style>
<h1>Benchmark</h1>
<p>Served: <strong>$winner</strong>. $rule</p>
<h2>Candidates</h2>
<div class="scroll"><table><thead><tr><th scope="col">Candidate</th>$headings<th scope="col">Score</th></tr></thead>
<tbody>
$rows
</tbody></table></div>
<p><small>$conditions</small></p>
<h2>Accuracy over speed</h2>
$plot
<h2>Why</h2>
<table><tbody>
$reasons
</tbody></table>
$samples
</html>
""")


def report(results: list[Path], selection: Path, out_html: Path, *, samples: int = 4) -> Path:
    """Write the benchmark page: table, plot, reasons and sample pictures, all inside one file.

    Args:
        results: Files that ``evaluate`` wrote; each one's pictures lie in the folder of its name without suffix.
        selection: The file that ``select`` wrote.
        out_html: The page to write.
        samples: Test pictures to show at most; none without the folders.

    Returns:
        ``out_html``.

    Raises:
        UsageError: No results.
        DataError: A result or the selection cannot be used.
        StorageError: The page cannot be written.
    """
    if not results:
        raise UsageError("report", "got no benchmark result", "dvc repro evaluate")
    chosen = _read_selection(selection)
    judged = {row["candidate"]: row for row in chosen["candidates"]}
    measured = {result["candidate"]: (path, result) for path in results for result in (read_result(path),)}
    if missing := sorted(set(measured) ^ set(judged)):
        raise DataError(selection, f"does not cover the same candidates ({missing[0]})", "dvc repro select")
    ordered = [name for name in judged if name in measured]
    winner = str(chosen["winner"])
    page = PAGE.substitute(
        winner=escape(winner),
        rule=escape(_rule(chosen["rule"])),
        headings="".join(f'<th scope="col">{escape(column[0])}</th>' for column in COLUMNS),
        rows="\n".join(_row(measured[name][1], judged[name], name == winner) for name in ordered),
        conditions=escape(_conditions(measured[ordered[0]][1])),
        plot=bubble_plot([measured[name][1] for name in ordered], winner),
        reasons="\n".join(
            f'<tr><td>{escape(name)}</td><td class="reason">{escape(judged[name]["reason"])}</td></tr>'
            for name in ordered
        ),
        samples=_samples({name: measured[name][0].with_suffix("") for name in ordered}, samples),
    )
    write_atomic(out_html, page.encode())
    return out_html


def _read_selection(path: Path) -> dict[str, Any]:
    try:
        selection = json.loads(path.read_text(encoding="utf-8"))
        str(selection["winner"]), selection["rule"]["score"]
        for row in selection["candidates"]:
            str(row["candidate"]), float(row["score"]), str(row["reason"])
    except FileNotFoundError:
        raise DataError(path, "does not exist", "dvc repro select") from None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(path, f"is not a selection ({error})", "dvc repro select") from error
    return dict(selection)


def _rule(rule: dict[str, Any]) -> str:
    return f"It has the highest {rule['score']} among those within {rule['max_latency_ms']:g} ms."


def _row(result: dict[str, Any], judged: dict[str, Any], won: bool) -> str:
    cells = "".join(f"<td>{result[section][figure] * scale:{form}}</td>" for _, section, figure, form, scale in COLUMNS)
    name = escape(result["candidate"]) + (" ★" if won else "")
    return f"<tr{' class=winner' if won else ''}><td>{name}</td>{cells}<td>{judged['score']:.3f}</td></tr>"


def _conditions(result: dict[str, Any]) -> str:
    speed, hardware = result["speed"], result.get("hardware", {})
    return (
        f"{result.get('images', '?')} test images, {result.get('people_images', '?')} of them with people; a pixel "
        f"counts as human from probability {result.get('threshold', '?')}. Latency: one {speed.get('size', '?')}-pixel "
        f"picture in {speed.get('runtime', '?')} on {hardware.get('cpu', 'an unknown processor')}, "
        f"{hardware.get('threads', '?')} threads. FLOPs: {result['complexity'].get('flops_convention', '')}."
    )


def _samples(folders: dict[str, Path], limit: int) -> str:
    """Lay out the sample pictures: one line each, with the input, the truth and every candidate's mask."""
    first = next(iter(folders.values()))
    numbers = [n for n in range(1, limit + 1) if (first / f"{n}_input.jpg").is_file()]
    if not numbers:
        return ""
    heads = "".join(f"<b>{escape(title)}</b>" for title in ("Picture", "Truth", *folders))
    cells = "".join(
        _image(first / f"{n}_input.jpg", f"test picture {n}")
        + _image(first / f"{n}_truth.jpg", f"true people of picture {n}")
        + "".join(_image(folder / f"{n}_predicted.jpg", f"{name} on picture {n}") for name, folder in folders.items())
        for n in numbers
    )
    columns = f"grid-template-columns: repeat({2 + len(folders)}, minmax(6rem, 1fr))"
    return (
        f'<h2>Test pictures</h2>\n<div class="scroll"><div class="samples" style="{columns}">{heads}{cells}</div></div>'
    )


def _image(path: Path, text: str) -> str:
    try:
        data = base64.b64encode(path.read_bytes()).decode("ascii")
    except OSError:
        return f"<span>no {escape(path.name)}</span>"
    return f'<img alt="{escape(text)}" src="data:image/jpeg;base64,{data}">'
