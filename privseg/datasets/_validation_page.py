"""The validation report as one HTML page that needs nothing from anywhere else."""

from __future__ import annotations

from html import escape
from typing import Any

__all__ = ["render_page"]

_STYLE = """
:root { color-scheme: light dark; --line: #8884; --good: #1a7f37; --bad: #cf222e; --warn: #9a6700; }
@media (prefers-color-scheme: dark) { :root { --good: #3fb950; --bad: #ff7b72; --warn: #d29922; } }
body { font: 15px/1.5 system-ui, sans-serif; max-width: 66rem; margin: 2rem auto; padding: 0 1rem; }
table { border-collapse: collapse; width: 100%; }
th, td { text-align: left; vertical-align: top; padding: .4rem .6rem; border-bottom: 1px solid var(--line); }
code { font-size: .9em; overflow-wrap: anywhere; }
.passed { color: var(--good); } .failed { color: var(--bad); } .warning { color: var(--warn); }
.passed, .failed, .warning { font-weight: 600; white-space: nowrap; }
"""


def render_page(report: dict[str, Any]) -> str:
    """Render what `ValidationReport.to_dict` gives; failures come first."""
    expectations = report["expectations"]
    failed = [one for one in expectations if not one["success"]]
    passed = [one for one in expectations if one["success"]]
    verdict, kind = ("The gate is open", "passed") if report["success"] else ("The gate is closed", "failed")
    return f"""<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Dataset {escape(report["dataset_version"])}: {escape(verdict.lower())}</title>
<style>{_STYLE}</style>
<h1>Dataset <code>{escape(report["dataset_version"])}</code></h1>
<p><span class="{kind}">{verdict}</span>: {len(passed)} of {len(expectations)} expectations hold.</p>
<table>
<thead><tr><th>Result<th>Expectation<th>Column<th>Found<th>Examples and what to do</tr></thead>
<tbody>
{"".join(_row(one) for one in [*failed, *passed])}</tbody>
</table>
</html>
"""


def _row(one: dict[str, Any]) -> str:
    result = "passed" if one["success"] else "failed" if one["severity"] == "critical" else "warning"
    named = "".join(f"<li><code>{escape(text)}</code>" for text in one["faults"] or one["examples"])
    advice = "" if one["success"] else f"{f'<ul>{named}</ul>' if named else ''}<p>{escape(one['next_step'])}</p>"
    return (
        f'<tr><td class="{result}">{result}<td>{escape(one["meaning"])}<br><code>{escape(one["name"])}</code>'
        f"<td><code>{escape(one['column'])}</code><td>{escape(one['observed'])}<td>{advice}</tr>\n"
    )
