"""Options that several commands have, and how commands show tables."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

__all__ = ["DataOption", "HomeOption", "JsonOption", "show_table"]

DataOption = Annotated[
    Path | None,
    typer.Option(
        envvar="PRIVSEG_DATA",
        help="Folder with public datasets; without it generated scenes are used. It also says which home is meant.",
    ),
]
HomeOption = Annotated[
    Path | None,
    typer.Option(
        envvar="PRIVSEG_HOME", help="Folder for everything a run makes [.privseg/generated or .privseg/public]."
    ),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON.")]


def show_table(columns: list[str], rows: list[list[str]]) -> None:
    """Print a table on stdout, as wide as the terminal, or 160 characters where there is none."""
    from rich.console import Console
    from rich.table import Table

    table = Table(show_edge=False)
    for column in columns:
        table.add_column(column, overflow="fold")
    for row in rows:
        table.add_row(*row)
    Console(width=None if sys.stdout.isatty() else 160).print(table)
