"""``privseg stream``: the gateway, for a configuration or for one camera."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any, Final

import typer

from privseg.cli_options import HomeOption, JsonOption, local_model
from privseg.errors import UsageError

__all__ = ["stream"]

_CAMERA: Final = "camera"


def stream(
    source: Annotated[
        str | None,
        typer.Argument(metavar="[SOURCE]", help="One camera: /dev/video0, rtsp://…, http://…, synthetic://, a file."),
    ] = None,
    config: Annotated[Path | None, typer.Option(help="cameras.yaml: cameras, methods, outputs, metrics, page.")] = None,
    method: Annotated[str, typer.Option(help="SOURCE: how people are covered; see `privseg methods`.")] = "blank",
    schedule: Annotated[str, typer.Option(help="SOURCE: every-frame, or adaptive for a small machine.")] = "adaptive",
    record: Annotated[Path | None, typer.Option(help="SOURCE: a folder for protected recordings.")] = None,
    retention_hours: Annotated[float, typer.Option(help="SOURCE: how long --record keeps them.")] = 24.0,
    purpose: Annotated[str, typer.Option(help="SOURCE: what the camera is for; part of the record.")] = "a trial",
    page_port: Annotated[int, typer.Option(help="SOURCE: port of the live page on this machine; 0: any.")] = 8070,
    metrics_port: Annotated[int, typer.Option(help="SOURCE: port of /metrics on this machine; 0: any.")] = 9464,
    triton: Annotated[str | None, typer.Option(help="SOURCE: host:port of Triton, if wanted.")] = None,
    home: HomeOption = None,
    log: Annotated[str, typer.Option(help="Lines on stderr: text, or json.")] = "text",
    schema: Annotated[bool, typer.Option("--schema", help="Print the JSON schema of cameras.yaml and end.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Protect cameras until stopped; pictures on the live page, metrics on /metrics.

    One camera, with nothing to write first:

      privseg stream /dev/video0

      privseg stream rtsp://user:password@192.0.2.10/stream --method silhouette --record recordings

    All cameras of a configuration; after a change to the file, send the process SIGHUP:

      privseg stream --config cameras.yaml
    """
    from privseg.streaming.config import load_config, read_config, schema_text
    from privseg.streaming.log import LogFormat

    if schema:
        print(schema_text())
        return
    if (config is None) == (source is None):
        raise UsageError("privseg stream", "needs either a camera or --config", "see `privseg stream --help`")
    if log not in set(LogFormat):
        raise UsageError(f"log {log}", "is not known", f"choose one of {', '.join(LogFormat)}")
    if config is not None:
        wanted = load_config(config)
    else:
        camera: dict[str, Any] = {
            "source": source, "method": method, "schedule": schedule, "purpose": purpose,
            "retention_hours": retention_hours if record else 0, "recording": {"folder": record} if record else None,
        }  # fmt: skip
        wanted = read_config({
            "cameras": {_CAMERA: camera},
            "live": {"port": page_port},
            "metrics": {"port": metrics_port},
            **({"triton": {"url": triton}} if triton else {"local": local_model(home)}),
        })  # fmt: skip
    from privseg.streaming.gateway import run_until_stopped

    run_until_stopped(
        wanted,
        on_reports=(lambda reports: print(json.dumps(reports, indent=2))) if as_json else None,
        path=config,
        log=LogFormat(log),
    )
