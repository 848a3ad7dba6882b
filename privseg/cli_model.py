"""``privseg triton …`` and ``privseg model …``. Imports happen inside the commands, so that ``--help`` is instant."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Annotated

import typer

from privseg import pipeline
from privseg.cli_options import DataOption, HomeOption, JsonOption, show_table
from privseg.errors import ServerUnavailableError

if TYPE_CHECKING:
    from privseg.serving.triton_state import RunningTriton

__all__ = ["model_app", "triton_app"]

triton_app = typer.Typer(help="The local Triton server.", no_args_is_help=True)
model_app = typer.Typer(help="The model versions Triton serves.", no_args_is_help=True)


@triton_app.command("up")
def triton_up(data: DataOption = None, home: HomeOption = None, as_json: JsonOption = False) -> None:
    """Start the local Triton on loopback, or show the one that runs; at first it serves the model that is shipped."""
    _show_triton(pipeline.start_triton(home or pipeline.default_home(data)), as_json)


@triton_app.command("down")
def triton_down(data: DataOption = None, home: HomeOption = None) -> None:
    """Stop the local Triton."""
    from privseg.serving import local_triton

    place = home or pipeline.default_home(data)
    print("stopped" if local_triton.down(place / "triton") else "was not running")


@triton_app.command("status")
def triton_status(data: DataOption = None, home: HomeOption = None, as_json: JsonOption = False) -> None:
    """Show the local Triton; exit 5 when none runs."""
    from privseg.serving import local_triton

    place = home or pipeline.default_home(data)
    running = local_triton.status(place / "triton")
    if running is None:
        raise ServerUnavailableError("Triton", "is not running", "privseg triton up")
    _show_triton(running, as_json)


@model_app.command("publish")
def model_publish(
    data: DataOption = None,
    home: HomeOption = None,
    force: Annotated[bool, typer.Option(help="Publish it although the model that serves was found better.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Publish the workspace's exported model to Triton, if it won; a bad version is taken back by itself."""
    place = home or pipeline.default_home(data)
    published = pipeline.publish(str(place / "workspace"), str(place), force=force)
    if as_json:
        print(json.dumps(published, indent=2))


@model_app.command("rollback")
def model_rollback(data: DataOption = None, home: HomeOption = None) -> None:
    """Take the newest version back: the one before serves again, on every server."""
    from privseg.serving.repository import roll_back

    place = home or pipeline.default_home(data)
    version = roll_back(pipeline.model_repository(place), endpoints=pipeline.triton_endpoints(place))
    print(f"version {version} serves again")


@model_app.command("list")
def model_list(data: DataOption = None, home: HomeOption = None, as_json: JsonOption = False) -> None:
    """List the versions in the model repository."""
    from privseg.serving.versions import list_versions, read_record

    repository = pipeline.model_repository(home or pipeline.default_home(data))
    rows = [
        {"version": version, **{k: record.get(k) for k in ("candidate", "dataset_version", "created", "sha256")}}
        for version, record in ((v, read_record(repository, v)) for v in list_versions(repository))
    ]
    if as_json:
        print(json.dumps(rows, indent=2))
        return
    show_table(
        ["version", "candidate", "dataset", "created", "sha256"], [[str(v)[:25] for v in row.values()] for row in rows]
    )


def _show_triton(running: RunningTriton, as_json: bool) -> None:
    values = {
        "grpc": running.grpc_url,
        "metrics": running.metrics_url,
        "pid": running.pid,
        "log": str(running.log),
    }
    if as_json:
        print(json.dumps(values, indent=2))
    else:
        print("  ".join(f"{name} {value}" for name, value in values.items()))
