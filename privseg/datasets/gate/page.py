"""The validation report as one HTML page that needs nothing from anywhere else."""

from __future__ import annotations

from html import escape
from typing import Any

__all__ = ["render_page"]

_GROUPS = {
    "manifest": "The list of pictures is consistent: every picture has one row, and every removed one a reason.",
    "files and pixels": "The files are there, are those that were made, and masks say where people are, no more.",
    "people": "Labels of people make sense, and enough pictures, but not all, show people.",
    "splits": "What the model is tested on is nothing it has learnt from, nor anything that looks like it.",
    "drift": "People are as large as in the version before: a model meets the sizes it was made for.",
}
_SHOWN = 5  # of the samples that break an expectation; the others unfold
_DOCS = """<p class="quiet">The same results as <a href="{}">Great Expectations' data docs</a>; those pages load
styles and scripts from public servers, this one loads nothing.</p>"""
_MEASURES = {"human_ratio": "Share of the picture that people cover", "tallest_ratio": "Height of the tallest person"}
_STYLE = """
:root { color-scheme: light dark; --line: #8884; --soft: #8882; --good: #1a7f37; --bad: #cf222e; --warn: #9a6700;
  --old: #8c959f; --new: #0969da; }
@media (prefers-color-scheme: dark) { :root { --good: #3fb950; --bad: #ff7b72; --warn: #d29922; --old: #6e7681;
  --new: #58a6ff; } }
* { box-sizing: border-box; }
body { font: 15px/1.5 system-ui, sans-serif; max-width: 66rem; margin: 2rem auto; padding: 0 1rem; }
h1 { font-size: 1.6rem; margin: 0; } h2::first-letter { text-transform: uppercase; }
h2 { font-size: 1.2rem; margin: 2.2rem 0 .2rem; }
code { font-size: .88em; overflow-wrap: anywhere; } .quiet { opacity: .75; margin: 0 0 .6rem; } a { color: var(--new); }
.verdict { border: 2px solid; border-radius: .5rem; padding: .8rem 1rem; margin: 1rem 0; }
.verdict strong { font-size: 1.2rem; } .verdict p { margin: .2rem 0 0; color: CanvasText; }
.counts { display: flex; flex-wrap: wrap; gap: .5rem; margin: 1rem 0; padding: 0; list-style: none; }
.counts li { background: var(--soft); border-radius: .5rem; padding: .4rem .9rem; } .counts b { font-size: 1.3rem; }
.passed { color: var(--good); } .failed { color: var(--bad); } .warning { color: var(--warn); }
.tag { font-weight: 600; white-space: nowrap; }
.row { display: grid; grid-template-columns: 5rem minmax(0, 1fr) 15rem; gap: .2rem 1rem; padding: .5rem 0;
  border-bottom: 1px solid var(--line); }
.row code.name { opacity: .7; } .found { text-align: right; }
.card { border-left: 4px solid; padding: .2rem 0 .2rem 1rem; margin: 1rem 0; } .card > * { color: CanvasText; }
.card h3 { margin: 0; font-size: 1rem; } .card p { margin: .3rem 0; }
.card ul { margin: .3rem 0; padding-left: 1.2rem; }
svg { display: block; width: 100%; } .found svg { height: 8px; margin-top: .3rem; }
figure { margin: 1rem 0; } figcaption { font-weight: 600; }
.figures { display: grid; grid-template-columns: repeat(auto-fit, minmax(17rem, 1fr)); gap: 1rem; }
.axis { display: flex; justify-content: space-between; font-size: .8rem; opacity: .75; }
@media (max-width: 40rem) { .row { grid-template-columns: 4.5rem minmax(0, 1fr); }
  .found { grid-column: 2; text-align: left; } }
"""


def render_page(report: dict[str, Any], *, data_docs: str) -> str:
    """Render what `ValidationReport.to_dict` gives; failures come first.

    Args:
        report: The report.
        data_docs: Where Great Expectations' own pages are, relative to this page; '' if they were not built.
    """
    expectations = report["expectations"]
    failed = [one for one in expectations if not one["success"]]
    failed.sort(key=lambda one: str(one["severity"]))  # critical before warning
    closed = not report["success"]
    kind, verdict = ("failed", "The gate is closed") if closed else ("passed", "The gate is open")
    meaning = (
        "Nothing is trained on this dataset until the failures below are put right."
        if closed
        else "This dataset may be trained on."
    )
    version = escape(report["dataset_version"])
    baseline = f"compared with <code>{escape(report['baseline'])}</code>" if report["baseline"] else "the first version"
    docs = _DOCS.format(escape(data_docs)) if data_docs else ""
    problems = f"<h2>What failed</h2>{''.join(map(_card, failed))}" if failed else ""
    return f"""<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Dataset {version}: {verdict.lower()}</title>
<style>{_STYLE}</style>
<h1>Dataset <code>{version}</code></h1>
<p class="quiet">{baseline}</p>
<div class="verdict {kind}"><strong>{verdict}</strong><p>{meaning}</p></div>
{_counts(expectations)}
{problems}
{"".join(_group(name, expectations, report["drift"]) for name in _GROUPS)}
{docs}
</html>
"""


def _counts(expectations: list[dict[str, Any]]) -> str:
    total, passed = len(expectations), sum(one["success"] for one in expectations)
    kinds = [(kind, [one for one in expectations if one["severity"] == kind]) for kind in ("critical", "warning")]
    items = [f"<li><b>{passed}</b> of {total} expectations hold"]
    for kind, ones in kinds:
        bad = sum(not one["success"] for one in ones)
        colour = ("failed" if kind == "critical" else "warning") if bad else "passed"
        what = "critical ones failed" if kind == "critical" else "warnings raised"
        items.append(f'<li><b class="{colour}">{bad}</b> of {len(ones)} {what}')
    return f'<ul class="counts">{"".join(items)}</ul>'


def _card(one: dict[str, Any]) -> str:
    items = [f"<li><code>{escape(text)}</code>" for text in one["named"]]
    more = one["unexpected_count"] - len(items)
    rest = [*items[_SHOWN:], *([f"<li>and {more:,} others"] if more > 0 else [])]
    hidden = f"<details><summary>more</summary><ul>{''.join(rest)}</ul></details>" if rest else ""
    critical = one["severity"] == "critical"
    return (
        f'<div class="card {"failed" if critical else "warning"}"><h3>{escape(one["meaning"])}</h3>'
        f'<p><span class="tag {"failed" if critical else "warning"}">{escape(one["severity"])}</span> · '
        f"found: {escape(one['observed'])} · <code>{escape(one['name'])}</code></p>"
        f"<ul>{''.join(items[:_SHOWN])}</ul>{hidden}<p><b>Next:</b> {escape(one['next_step'])}</p></div>\n"
    )


def _group(name: str, expectations: list[dict[str, Any]], drift: dict[str, dict[str, Any]]) -> str:
    rows = "".join(_row(one) for one in expectations if one["group"] == name)
    figures = "".join(_histogram(measure, one) for measure, one in drift.items()) if name == "drift" else ""
    return (
        f'<section><h2>{escape(name)}</h2><p class="quiet">{_GROUPS[name]}</p>'
        f'{rows}{f"""<div class="figures">{figures}</div>""" if figures else ""}</section>\n'
    )


def _row(one: dict[str, Any]) -> str:
    result = "passed" if one["success"] else "failed" if one["severity"] == "critical" else "warning"
    return (
        f'<div class="row"><span class="tag {result}">{result}</span><span>{escape(one["meaning"])} '
        f'<code class="name">{escape(one["name"])}</code></span><span class="found">{escape(one["observed"])}'
        f"{_bar(one, result)}</span></div>\n"
    )


def _bar(one: dict[str, Any], result: str) -> str:
    """The value on a line from 0, the allowed range shaded; nothing where there is no upper bound to measure it by."""
    value, least, most = one["value"], one["least"] or 0.0, one["most"]
    if value is None or not most:
        return ""
    scale = max(value, most) * 1.1
    low, high, place = (round(100 * number / scale, 2) for number in (least, most, max(0.0, value)))
    return (
        '<svg viewBox="0 0 100 8" preserveAspectRatio="none" aria-hidden="true">'
        '<rect width="100" y="3" height="2" fill="var(--line)"/>'
        f'<rect x="{low}" width="{high - low:.2f}" height="8" fill="var(--soft)"/>'
        f'<rect x="{low}" width="0.6" height="8" fill="var(--line)"/>'
        f'<rect x="{high}" width="0.6" height="8" fill="var(--line)"/>'
        f'<rect x="{place}" width="1.6" height="8" fill="currentColor" class="{result}"/></svg>'
    )


def _histogram(measure: str, one: dict[str, Any]) -> str:
    """Shares by bin, the previous version's beside this one's."""
    edges, bins = one["edges"], len(one["current"])
    series = [[count / max(1, sum(counts)) for count in counts] for counts in (one["previous"], one["current"])]
    top = max(0.01, *series[0], *series[1])
    bars = "".join(
        f'<rect x="{place * 10 + 1 + which * 4}" y="{60 - 60 * share / top:.2f}" width="4" '
        f'height="{60 * share / top:.2f}" fill="var(--{colour})"><title>{edges[place]:g} to {edges[place + 1]:g}: '
        f"{share:.1%}</title></rect>"
        for which, (colour, shares) in enumerate((("old", series[0]), ("new", series[1])))
        for place, share in enumerate(shares)
    )
    ticks = "".join(f"<span>{edge:g}</span>" for edge in (edges[0], edges[bins // 2], edges[-1]))
    return (
        f"<figure><figcaption>{escape(_MEASURES[measure])}</figcaption>"
        f'<svg viewBox="0 0 {bins * 10} 60" preserveAspectRatio="none" style="height:7rem" role="img" '
        f'aria-label="{escape(_MEASURES[measure])} by bin, before and now">{bars}</svg><div class="axis">{ticks}</div>'
        f'<small><span style="color:var(--old)">■</span> before ({sum(one["previous"]):,} pictures) '
        f'<span style="color:var(--new)">■</span> now ({sum(one["current"]):,})</small></figure>'
    )
