"""``privseg triton …``. Imports happen inside the commands, so that ``--help`` is instant."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Annotated

import typer

from privseg import pipeline
from privseg.cli_options import DataOption, HomeOption, JsonOption
from privseg.errors import ServerUnavailableError

if TYPE_CHECKING:
    from privseg.serving.triton_state import RunningTriton

__all__ = ["triton_app"]

triton_app = typer.Typer(help="The local Triton server.", no_args_is_help=True)


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
        raise ServerUnavailableError("Triton", local_triton.why_not_running(place / "triton"), "privseg triton up")
    _show_triton(running, as_json)


@triton_app.command("config")
def triton_config(
    profile: Annotated[str, typer.Option(help="local, onnxruntime-gpu or tensorrt.")] = "local",
    write: Annotated[bool, typer.Option("--write", help="Put it into the model repository of the home.")] = False,
    keep_loaded: Annotated[int, typer.Option(min=1, help="Newest versions that are loaded at a time.")] = 1,
    data: DataOption = None,
    home: HomeOption = None,
) -> None:
    """Print the model's config.pbtxt for a way to deploy it, with what `privseg bench serve` chose here."""
    from privseg.serving.config import measured_choice, write_config
    from privseg.serving.profiles import default_choice, render_config, require_profile

    place = home or pipeline.default_home(data)
    known = require_profile(profile)
    # What was measured is about the processor; a GPU gets one instance.
    choice = (measured_choice(place) or default_choice()) if known == "local" else None
    text = render_config(known, choice, keep_loaded=keep_loaded)
    if not write:
        print(text, end="")
        return
    repository = pipeline.model_repository(place)
    if not write_config(repository, text):
        print(f"{repository}: nothing changes")
        return
    print(f"{repository}: written; the next load or start of a server uses it, and loads every version anew")


def _show_triton(running: RunningTriton, as_json: bool) -> None:
    values = {
        "grpc": running.grpc_url,
        "metrics": running.metrics_url,
        "pid": running.pid,
        "log": str(running.log),
        "ready": running.ready,
        "versions": list(running.versions),
        "runtime": running.runtime or None,
        "supervisor": running.supervisor or None,
        "restarts": running.restarts,
        "reloads": running.reloads,
        "last_event": running.last_event or None,
    }
    if as_json:
        print(json.dumps(values, indent=2))
        return
    said = {name: value for name, value in values.items() if value is not None}
    said["versions"] = ", ".join(map(str, running.versions)) or "none"
    said["ready"] = "yes" if running.ready else "no"
    print("  ".join(f"{name} {value}" for name, value in said.items()))
