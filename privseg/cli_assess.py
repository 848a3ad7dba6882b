"""``privseg assess``. Imports happen inside the command, so that ``--help`` is instant."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated

import typer

from privseg.cli_options import JsonOption, show_table
from privseg.errors import UsageError

__all__ = ["assess"]

# a terminal is narrower than the table of the documents
_SHOWN = (
    "method",
    "class",
    "inversion dB",
    "fusion dB, still",
    "restorer dB",
    "re-identified by appearance",
    "by outline too",
    "found",
    "posture",
)


def assess(
    method: Annotated[list[str] | None, typer.Option(help="A method, or several joined by +; may be repeated.")] = None,
    every: Annotated[bool, typer.Option("--all", help="Every method.")] = False,
    data: Annotated[
        Path | None,
        typer.Option(
            envvar="PRIVSEG_DATA",
            help="Folder with pairs/clothing, pairs/pennfudan, pairs/coco_person and video; else drawn scenes.",
        ),
    ] = None,
    out: Annotated[Path, typer.Option(help="Where assess.json, table.md and plot.png go.")] = Path(
        ".privseg/assessment"
    ),
    docs: Annotated[
        bool, typer.Option("--docs", help="Regenerate docs/privacy.md and its pictures; needs --all.")
    ] = False,
    model: Annotated[Path | None, typer.Option(help="Version directory of the person model [the shipped one].")] = None,
    as_json: JsonOption = False,
) -> None:
    """Attack the protection methods and measure what is left to see."""
    if every == bool(method):
        raise UsageError("privseg assess", "needs either --all or --method", "privseg assess --all")
    if docs and not every:
        raise UsageError("--docs", "needs every method in the tables", "privseg assess --all --docs")
    from privseg.assessment.assess import assess as run
    from privseg.assessment.assess import check_methods
    from privseg.assessment.report import DOCUMENT, check_document, write_document, write_result
    from privseg.assessment.table import COLUMNS, rows_of, targets
    from privseg.privacy.filters.registry import METHODS

    names = list(METHODS) if every else list(dict.fromkeys(method or []))
    check_methods(names)
    if docs:
        check_document(DOCUMENT)
    directory = model or _shipped()
    result = run(names, data, directory, out, say=lambda line: print(line, file=sys.stderr, flush=True))
    write_result(result, out)
    if docs:
        write_document(result, DOCUMENT, data, directory)
    if as_json:
        print(json.dumps(result, indent=2))
        return
    shown = [index for index, (heading, _) in enumerate(COLUMNS) if heading in _SHOWN]
    show_table([COLUMNS[index][0] for index in shown], [[row[index] for index in shown] for row in rows_of(result)])
    print("\n".join(f"{'holds' if held else 'FAILS'}: {words} ({worst})" for words, held, worst in targets(result)))
    print(f"{out / 'assess.json'}, table.md, plot.png")


def _shipped() -> Path:
    """The version directory of the model that the checkout carries."""
    from privseg.serving.artifact import MODEL_NAME
    from privseg.serving.shipped import SHIPPED
    from privseg.serving.versions import accepted

    version = accepted(SHIPPED)
    if version is None:
        raise UsageError(SHIPPED, "holds no model version", "name one with --model")
    return SHIPPED / MODEL_NAME / str(version)
