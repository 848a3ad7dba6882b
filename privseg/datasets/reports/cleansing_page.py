"""The cleansing report as one light HTML page; the contact sheets lie beside it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

from privseg.datasets.reports.cleansing_sheets import Sheet

__all__ = ["render_page"]

_STYLE = """
:root { color-scheme: light dark; --line: #8884; }
body { font: 15px/1.5 system-ui, sans-serif; max-width: 78rem; margin: 2rem auto; padding: 0 1rem; }
nav { display: flex; flex-wrap: wrap; gap: .2rem 1.1rem; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; }
th, td { text-align: right; padding: .3rem .7rem; border-bottom: 1px solid var(--line); white-space: nowrap; }
th:first-child, td:first-child { text-align: left; }
h2 { margin-top: 2.2rem; }
p.rule { margin: .2rem 0 .6rem; opacity: .8; }
img { max-width: 100%; height: auto; border-radius: 4px; display: block; }
code { font-size: .9em; overflow-wrap: anywhere; }
"""
_TITLES = {
    "reason": "Removed: {code}",
    "suspect": "Suspicious, not removed: {code}",
    "score": "Kept, {code} surveillance score",
}
_LINKS = {"reason": "{code}", "suspect": "{code}", "score": "{code} score"}


def render_page(report: Mapping[str, Any], sheets: Sequence[Sheet], meanings: Mapping[str, str]) -> str:
    """Render the page.

    Args:
        report: What ``report.json`` holds.
        sheets: The contact sheets, in the order of the page.
        meanings: What a code removes or suspects, by code.
    """
    links = "".join(
        f'<a href="#{sheet.kind}-{sheet.code}">{escape(_LINKS[sheet.kind].format(code=sheet.code))}</a>'
        for sheet in sheets
    )
    return f"""<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Cleansing: {report["kept"]} of {report["images"]} pictures kept</title>
<style>{_STYLE}</style>
<h1>Cleansing</h1>
<p>{report["kept"]} of {report["images"]} pictures are kept. On the sheets people are outlined in orange and what the
label leaves open is tinted blue. Each sheet runs from the pictures nearest to the rule's threshold to the most
extreme ones.</p>
<nav>{links}</nav>
<h2>Before and after</h2>
{_before_after(report)}
<h2>By surveillance score</h2>
<p class="rule">Pictures with people.</p>
{_scores(report)}
<h2>Removed, by source</h2>
{_reasons(report)}
{"".join(_section(sheet, meanings) for sheet in sheets)}</html>
"""


def _section(sheet: Sheet, meanings: Mapping[str, str]) -> str:
    title = _TITLES[sheet.kind].format(code=sheet.code)
    meaning = meanings.get(sheet.code, "")
    pictures = "1 picture" if sheet.count == 1 else f"{sheet.count} pictures"
    rule = ": ".join(part for part in (pictures, meaning) if part)
    return (
        f'<h2 id="{sheet.kind}-{sheet.code}">{escape(title)}</h2>\n<p class="rule">{escape(rule)}</p>\n'
        f'<img src="{sheet.file_name}" alt="{escape(title)}" loading="lazy">\n'
    )


def _before_after(report: Mapping[str, Any]) -> str:
    sources = {**report["by_source"], "all": {"before": report["before"], "after": report["after"]}}
    rows = []
    for name, both in sources.items():
        old, new = both["before"], both["after"]
        shares = [_percent(part[key]) for key in ("mean_human_ratio", "mean_tallest_ratio") for part in (old, new)]
        rows.append([name, old["images"], new["images"], old["with_people"], new["with_people"], *shares])
    head = [
        "Source", "Readable", "Kept", "With people", "Kept", "Mean human share", "Kept", "Tallest person", "Kept",
    ]  # fmt: skip
    return _table(head, rows)


def _scores(report: Mapping[str, Any]) -> str:
    rows = [
        [
            f"{one['from']:.1f} to {one['to']:.1f}",
            one["before"],
            one["after"],
            _percent(one["mean_human_ratio"]),
            _percent(one["mean_tallest_ratio"]),
        ]
        for one in report["by_surveillance_score"]
    ]
    return _table(["Score", "Readable", "Kept", "Mean human share", "Tallest person"], rows)


def _reasons(report: Mapping[str, Any]) -> str:
    sources = report["removed_by_source"]
    rows = [
        [reason, *(counts.get(reason, 0) for counts in sources.values()), total]
        for reason, total in report["removed"].items()
    ]
    return _table(["Reason", *sources, "All"], rows)


def _percent(share: float | None) -> str:
    return "none" if share is None else f"{share:.1%}"


def _table(head: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    top = "".join(f"<th>{escape(cell)}" for cell in head)
    body = "".join("<tr>" + "".join(f"<td>{escape(str(cell))}" for cell in row) + "</tr>\n" for row in rows)
    return f'<div class="scroll"><table><thead><tr>{top}</tr></thead>\n<tbody>\n{body}</tbody></table></div>'
