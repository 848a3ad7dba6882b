"""``privseg bench …``. Imports happen inside the commands, so that ``--help`` is instant."""

from __future__ import annotations

import json
import sys
from typing import Annotated, Any

import typer

from privseg import pipeline
from privseg.cli_options import DataOption, HomeOption, JsonOption, show_table

__all__ = ["bench_app"]

bench_app = typer.Typer(help="Measure what this machine does best.", no_args_is_help=True)


@bench_app.callback()
def bench() -> None:
    """Measure what this machine does best."""


@bench_app.command("serve")
def bench_serve(
    data: DataOption = None,
    home: HomeOption = None,
    seconds: Annotated[float, typer.Option(min=0.01, help="How long every way, size and batch is timed.")] = 1.0,
    as_json: JsonOption = False,
) -> None:
    """Measure the runtimes that can serve the model here, and keep the choice in HOME/serving.json.

    A new model repository is served by that choice; `privseg triton config --write` brings it to the one there is.
    """
    from privseg.serving.bench_serve import Effort
    from privseg.serving.bench_serve import bench_serve as measure

    place = home or pipeline.default_home(data)
    result = measure(
        pipeline.model_repository(place, local=True),
        place,
        data=data,
        effort=Effort(seconds=seconds),
        say=lambda line: print(line, file=sys.stderr, flush=True),
    )
    if as_json:
        print(json.dumps(result, indent=2))
        return
    _show(result)


def _show(result: dict[str, Any]) -> None:
    parity = {(row["runtime"], row["precision"], row["size"]): row for row in result["parity"]}
    choice = result["choice"]
    rows = []
    for row in result["figures"]:
        size = f"{row['height']}x{row['width']}"
        compared = parity[row["runtime"], row["precision"], size]
        chosen = (row["runtime"], row["precision"], row["threads"]) == (
            choice["runtime"],
            choice["inference_precision"],
            choice["threads"],
        )
        held = "same" if compared["holds"] else "off"
        rows.append(
            [
                f"{row['runtime']} {row['precision']}" + (" ★" if chosen else ""),
                str(row["threads"]),
                size,
                str(row["batch"]),
                f"{row['p50_ms']:.1f}",
                f"{row['p95_ms']:.1f}",
                f"{row['fps']:.1f}",
                f"{held}: masks {compared['mask_agreement']:.5f}, worst {compared['worst_mask_agreement']:.5f}",
            ]
        )
    columns = ["runtime", "threads", "size", "batch", "p50 ms", "p95 ms", "pictures/s", "against ONNX Runtime f32"]
    show_table(columns, rows)
    for row in result["left_out"]:
        print(f"left out: {row['runtime']} {row['precision']}: {row['reason']}")
    print("chosen: {runtime} {inference_precision}, threads: {threads}, instances: {instances}".format(**choice))
