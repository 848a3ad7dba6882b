"""The README of a dataset version, as Markdown."""

from __future__ import annotations

from html import escape

from privseg.datasets.reports.page import WORDS, cell_text
from privseg.datasets.reports.study import Study
from privseg.datasets.reports.tables import Table, mean_share
from privseg.datasets.split import SPLITS
from privseg.params import SourceParams

__all__ = ["render_readme"]


def render_readme(study: Study) -> str:
    """Say what a dataset version is, what it is made of, how it was made, where it falls short, and how to get it."""
    after = study.before if study.after is None else study.after
    splits = ", ".join(f"{int((after['split'] == name).sum()):,} {name}" for name in SPLITS)
    people = int(after["is_human"].sum())
    size = study.params.image.size
    parts = [
        f"# Dataset {study.version}",
        f"{len(after):,} pictures of {size}x{size} pixels, {people:,} of them with people ({splits}). Each has a mask: "
        "0 background, 1 human, 255 not labelled. On average people cover "
        f"{cell_text(mean_share(after))} of a picture's labelled pixels. Made by privseg to train the segmentation of "
        "people for surveillance cameras.",
        "## Get it",
        f"    privseg dataset checkout {study.version}",
        "The command brings back the manifest, the pictures and the masks byte for byte.",
        "## Sources",
        "\n".join(_source(name, source) for name, source in study.params.sources.items()),
        "Whoever uses the pictures, or a model trained on them, is bound by the terms of every source.",
        _table(study.tables["composition"]),
        "## Cleansing",
        *(_table(study.tables[name]) for name in ("cleansing", "cleansing_sizes", "sources", "reasons")),
        "## Split",
        *(_table(study.tables[name]) for name in ("split", "split_sizes", "splits_by_source")),
        "## What a surveillance-like picture is",
        _table(study.tables["scores"]),
        "## Known limits",
        "\n".join(_limits(study)),
        _table(study.tables["suspects"]),
    ]
    return "\n\n".join(parts) + "\n"


def _source(name: str, source: SourceParams) -> str:
    share = source.no_human_share
    without = "all pictures without people" if share is None else f"{share:g} pictures without people per picture with"
    # Markdown lets HTML pass, and a line break would end the list's entry.
    terms = escape(" ".join(source.terms.split()), quote=False) or "no terms of use recorded"
    return f"- **{name}** ({source.kind}): {terms}; {without}"


def _limits(study: Study) -> list[str]:
    after = study.before if study.after is None else study.after
    doubtful = int((after["suspect"] != "").sum())
    bits = study.params.cleanse.near_duplicate_bits
    return [
        "- The labels are the sources' own. People whom a source left unlabelled count as background.",
        f"- Kept pictures with a label that may be wrong: {doubtful:,}. `tables/suspect_pictures.csv` names them.",
        "- Connected human pixels count as one person: people who overlap are one, one behind a pole may be two.",
        f"- Near duplicates are pictures of which at most {bits} of 64 bits of a perceptual hash differ; a scene seen "
        "from another side is not found.",
        "- The study does not publish its rule for cleansing; the thresholds above are this dataset's own.",
    ]


def _table(table: Table) -> str:
    columns = [str(name) for name in table.frame.columns]
    lines = [
        _line(columns),
        "|" + "|".join("---" if name in (columns[0], *WORDS) else "---:" for name in columns) + "|",
        *(_line([cell_text(value) for value in values]) for values in table.frame.itertuples(index=False, name=None)),
    ]
    note = f"\n{table.note}\n" if table.note else ""
    return f"### {table.title}\n{note}\n" + "\n".join(lines)


def _line(cells: list[str]) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"
