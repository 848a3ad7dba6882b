"""A dataset as one page that needs nothing beside itself."""

from __future__ import annotations

from html import escape
from pathlib import Path
from string import Template

import pandas as pd

from privseg.datasets.manifest import write_atomic
from privseg.datasets.reports.cleansing_sheets import SHOWN_REASONS
from privseg.datasets.reports.plots import heat_map_svg, heat_peak, histogram_svg, write_plots
from privseg.datasets.reports.study import Study
from privseg.datasets.reports.tables import Table, mean_share, write_tables
from privseg.datasets.split import SPLITS

__all__ = ["WORDS", "cell_text", "write_report"]

CLEANSING_PAGE = "../cleansing/index.html"
GATE_PAGE = "../validation/validation.html"
WORDS = ("Rule", "Why")  # columns of prose
_PAGE = Template("""<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>$title</title>
<style>
:root { color-scheme: light dark; --line: #8884; --soft: #8882; --before: #a9b1bb; --after: #1f6fb4; }
@media (prefers-color-scheme: dark) { :root { --before: #59616b; --after: #58a6ff; } }
body { font: 16px/1.5 system-ui, sans-serif; max-width: 76rem; margin: 2rem auto; padding: 0 1rem; }
h1 { margin-bottom: .2rem; overflow-wrap: anywhere; } h2 { margin-top: 2.5rem; } h3 { margin: 1.8rem 0 .3rem; }
nav { display: flex; flex-wrap: wrap; gap: .3rem 1.2rem; margin: 1rem 0; }
.cards { display: grid; grid-template-columns: repeat(auto-fit, minmax(13.5rem, 1fr)); gap: .7rem; margin: 1.2rem 0; }
.cards div { background: var(--soft); border-radius: 6px; padding: .7rem .9rem; }
.cards b { display: block; font-size: 1.3rem; line-height: 1.4; white-space: nowrap; }
@media (max-width: 32rem) { .cards { grid-template-columns: 1fr 1fr; } .cards b { font-size: 1.1rem; } }
.scroll { overflow-x: auto; }
table { border-spacing: 0; font-size: .9rem; font-variant-numeric: tabular-nums; }
th, td { padding: 6px .55rem; line-height: 22px; text-align: right; white-space: nowrap; }
th, td { border-bottom: 1px solid var(--line); }
thead th { vertical-align: bottom; white-space: normal; min-width: 4rem; }
th:first-child, .words { text-align: left; } td.words { white-space: normal; min-width: 11rem; }
tbody th { font-weight: 400; position: sticky; left: 0; background: Canvas; } tr.total > * { font-weight: 600; }
p.note { margin: .2rem 0 .6rem; font-size: .9rem; opacity: .8; }
.plots { display: grid; grid-template-columns: repeat(auto-fill, minmax(min(100%, 26rem), 1fr)); gap: 1rem 2rem; }
figure { margin: 0; } figcaption { font-weight: 600; margin-bottom: .3rem; }
svg { width: 100%; height: auto; } svg text { fill: currentColor; font: 12.5px system-ui, sans-serif; }
.before { fill: var(--before); } .after { fill: var(--after); }
.key::before { content: "\\25A0"; margin-right: .3em; color: var(--after); }
.key.old::before { color: var(--before); } .key { margin-right: 1.2rem; font-size: .9rem; }
code { overflow-wrap: anywhere; }
</style>
<h1>$heading</h1>
<p>$intro</p>
$links
<div class="cards">
$cards
</div>
$body
</html>
""")


def render_dataset_page(study: Study) -> str:
    """Render a dataset: its figures, tables and plots; what there was before cleansing beside what was kept."""
    final = study.after is not None
    heading = f"Dataset <code>{escape(study.version)}</code>" if final else "Dataset before cleansing"
    return _PAGE.substitute(
        title=escape(f"Dataset {study.version}" if final else "Dataset before cleansing"),
        heading=heading,
        intro=_intro(study),
        links=_links() if final else "",
        cards="\n".join(f"<div><b>{value}</b>{label}</div>" for label, value in _cards(study)),
        body="\n".join(_sections(study)),
    )


def write_report(study: Study, report_dir: Path) -> None:
    """Write a dataset's page ``index.html``, ``tables/*.csv`` and ``plots/*``.

    Raises:
        StorageError: The disk is full or the place cannot be written.
    """
    write_tables(study.tables.values(), report_dir / "tables")
    write_plots(study.distributions, report_dir / "plots")
    write_atomic(report_dir / "index.html", render_dataset_page(study).encode())


def cell_text(value: object) -> str:
    """A cell as people read it: thousands apart, shares with three digits, '-' where there is no figure."""
    if value is None:
        return "-"
    if isinstance(value, float):
        return f"{value:.3f}"
    return f"{value:,}" if isinstance(value, int) else str(value)


def _intro(study: Study) -> str:
    size = study.params.image.size
    sources = ", ".join(escape(name) for name in study.params.sources)
    return f"Pictures of {size}x{size} pixels, each with a mask of its people, from {sources}."


def _links() -> str:
    return (
        f'<nav><a href="{CLEANSING_PAGE}">What was removed, in pictures</a>'
        f'<a href="{GATE_PAGE}">The gate</a>'
        '<a href="README.md">README</a></nav>'
    )


def _cards(study: Study) -> list[tuple[str, str]]:
    before, after = study.before, study.after
    if after is None:
        return [
            ("pictures", f"{len(before):,}"),
            ("show people", f"{int(before['is_human'].sum()):,}"),
            ("people", f"{study.people[0]:,}"),
            ("mean human share", cell_text(mean_share(before))),
            ("mean surveillance score", cell_text(_score(before))),
        ]
    return [
        (f"pictures, of {len(before):,}", f"{len(after):,}"),
        (f"show people, of {int(before['is_human'].sum()):,}", f"{int(after['is_human'].sum()):,}"),
        (f"people, of {study.people[0]:,}", f"{study.people[1]:,}"),
        ("mean human share", f"{cell_text(mean_share(before))} → {cell_text(mean_share(after))}"),
        (
            "mean share with people",
            " → ".join(cell_text(mean_share(rows[rows["is_human"]])) for rows in (before, after)),
        ),
        ("mean surveillance score", f"{cell_text(_score(before))} → {cell_text(_score(after))}"),
        (" / ".join(SPLITS), " / ".join(f"{int((after['split'] == name).sum()):,}" for name in SPLITS)),
    ]


def _score(rows: pd.DataFrame) -> float | None:
    people = rows.loc[rows["is_human"], "surveillance_score"]
    return float(people.mean()) if len(people) else None


def _sections(study: Study) -> list[str]:
    table = {name: _table(one) for name, one in study.tables.items()}
    terms = "".join(
        f"<li>{escape(name)}: {escape(source.terms or 'no terms of use recorded')}"
        for name, source in study.params.sources.items()
    )
    parts = ["<h2>Sources</h2>", table["composition"], f"<h3>Terms of use</h3>\n<ul>{terms}</ul>"]
    if study.after is not None:
        seen = f'<p>The pictures behind every reason: <a href="{CLEANSING_PAGE}">contact sheets</a>.</p>'
        parts += ["<h2>Cleansing</h2>", *(table[name] for name in ("cleansing", "cleansing_sizes", "sources"))]
        parts += [table["reasons"], seen, "<h2>Split</h2>"]
        parts += [*(table[name] for name in ("split", "split_sizes", "splits_by_source"))]
    parts += ["<h2>Distributions</h2>", _histograms(study), "<h2>Where people stand</h2>", _heat_maps(study)]
    return [*parts, "<h2>Surveillance score and labels</h2>", table["scores"], table["suspects"]]


def _histograms(study: Study) -> str:
    key = '<span class="key old">before cleansing</span>'
    if study.after is not None:
        key += '<span class="key">kept</span>'
    figures = "\n".join(
        f"<figure><figcaption>{escape(one.title)}</figcaption>{histogram_svg(one)}</figure>"
        for one in study.distributions.histograms
    )
    specks = study.distributions.specks
    note = f"People are connected groups of human pixels; {specks:,} lower than a fiftieth of the picture are left out."
    return f'<p>{key}</p>\n<div class="plots">{figures}</div>\n<p class="note">{note}</p>'


def _heat_maps(study: Study) -> str:
    feet = study.distributions.feet
    peak = heat_peak(feet)
    maps = [("Before cleansing", feet.before, study.people[0])]
    if feet.after is not None:
        maps.append(("After cleansing", feet.after, study.people[1]))
    figures = "\n".join(
        f"<figure><figcaption>{title}: {number:,} people</figcaption>{heat_map_svg(counts, peak)}</figure>"
        for title, counts, number in maps
    )
    note = "The middle of the lower edge of every person. Colours follow the square root, so that thin places show."
    return f'<p class="note">{note}</p>\n<div class="plots">{figures}</div>'


def _table(table: Table) -> str:
    frame = table.frame
    heads = "".join(
        f'<th scope="col"{_class(name)}>{escape(name).replace("_", "_<wbr>")}</th>' for name in frame.columns
    )
    rows = "\n".join(_row(list(frame.columns), values) for values in frame.itertuples(index=False, name=None))
    note = f'\n<p class="note">{escape(table.note)}</p>' if table.note else ""
    return (
        f'<h3>{escape(table.title)}</h3>{note}\n<div class="scroll"><table><thead><tr>{heads}</tr></thead>\n'
        f"<tbody>\n{rows}\n</tbody></table></div>"
    )


def _row(columns: list[str], values: tuple[object, ...]) -> str:
    cells = "".join(
        f"<td{_class(name)}>{escape(cell_text(value))}</td>"
        for name, value in zip(columns[1:], values[1:], strict=True)
    )
    total = values[0] == "TOTAL"
    name = escape(cell_text(values[0]))
    if columns[0] == "Reason" and name in SHOWN_REASONS and values[columns.index("TOTAL")]:
        name = f'<a href="{CLEANSING_PAGE}#reason-{name}">{name}</a>'
    kind = ' class="total"' if total else ""
    return f'<tr{kind}><th scope="row">{name}</th>{cells}</tr>'


def _class(column: str) -> str:
    return ' class="words"' if column in WORDS else ""
