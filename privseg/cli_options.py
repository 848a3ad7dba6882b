"""Options that several commands have, and how commands show tables."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from privseg.errors import UsageError

__all__ = ["DataOption", "HomeOption", "JsonOption", "local_model", "model_homes", "show_table"]

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


def model_homes(home: Path | None) -> list[Path]:
    """Where results may be: the folder asked for, or either default one."""
    return [home] if home else [Path(".privseg/public"), Path(".privseg/generated")]


def local_model(home: Path | None) -> Path:
    """The version directory that a local server of ``home``, or of either default home, would serve.

    Raises:
        UsageError: There is none.
    """
    from privseg.serving.artifact import MODEL_NAME
    from privseg.serving.shipped import SHIPPED
    from privseg.serving.versions import accepted

    repositories = [*(place / "model_repository" for place in model_homes(home)), SHIPPED]
    for repository in repositories:
        version = accepted(repository)
        if version is not None:
            return repository / MODEL_NAME / str(version)
    raise UsageError(repositories[0], "holds no model version", "publish one, or name a Triton with --triton")
