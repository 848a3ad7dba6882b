"""The ``privseg`` command. Imports happen inside the commands, so that ``--help`` is instant."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Annotated

import typer

from privseg import pipeline, stages
from privseg.cli_assess import assess
from privseg.cli_bench import bench_app
from privseg.cli_benchmark import benchmark
from privseg.cli_dataset import dataset_app
from privseg.cli_keys import KeyRingOption, approve, keys_app, unscramble
from privseg.cli_model import triton_app
from privseg.cli_options import DataOption, HomeOption, JsonOption, local_model, model_homes
from privseg.cli_privacy import methods
from privseg.cli_repository import model_app
from privseg.cli_stream import stream
from privseg.errors import PrivacyViolationPrevented, PrivsegError, StorageError, UsageError
from privseg.repro import ERROR_FILE_VARIABLE

app = typer.Typer(
    name="privseg",
    help="Privacy-protected video surveillance: every frame that leaves has its people protected, or is blank.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
app.add_typer(triton_app, name="triton")
app.add_typer(bench_app, name="bench")
app.add_typer(model_app, name="model")
app.add_typer(dataset_app, name="dataset")
app.add_typer(keys_app, name="keys")

SetOption = Annotated[
    list[str] | None, typer.Option("--set", help="Change a parameter of params.yaml: train.smoke.seconds=20")
]
RecipeOption = Annotated[
    Path | None, typer.Option(help="File of such changes, dotted name to value; --set goes on top of it.")
]
UrlOption = Annotated[
    str | None,
    typer.Option("--triton", envvar="PRIVSEG_TRITON", help="Triton's gRPC address, host:port [the local server's]."),
]


@app.command()
def run(
    data: DataOption = None, home: HomeOption = None, recipe: RecipeOption = None, overrides: SetOption = None
) -> None:
    """Do the main job: retrain through Airflow, publish to a local Triton, protect a clip."""
    from privseg.runner import run_main_job

    run_main_job(home or pipeline.default_home(data), data=data, overrides=_changes(recipe, overrides))


@app.command()
def workspace(
    data: DataOption = None, home: HomeOption = None, recipe: RecipeOption = None, overrides: SetOption = None
) -> None:
    """Prepare the folder in which the pipeline runs; `dvc repro` works there."""
    place = home or pipeline.default_home(data)
    pipeline.prepare(str(place), str(data) if data else None, _changes(recipe, overrides))


@app.command(hidden=True)
def stage(name: str, argument: Annotated[str | None, typer.Argument()] = None) -> None:
    """Run one pipeline stage in the current workspace: the commands of dvc.yaml."""
    stages.run_stage(name, argument)


@app.command()
def airflow(data: DataOption = None, home: HomeOption = None, port: int = 8080) -> None:
    """Start Airflow (scheduler, page, SQLite) with privseg's DAGs on http://127.0.0.1:PORT."""
    from privseg.runner import airflow_environment

    place = home or pipeline.default_home(data)
    settings = airflow_environment(place, data=data) | {"AIRFLOW__API__PORT": str(port)}
    os.execvpe(sys.executable, [sys.executable, "-m", "airflow", "standalone"], os.environ | settings)  # noqa: S606


@app.command()
def audit(
    data: DataOption = None,
    home: HomeOption = None,
    roll_back: Annotated[bool, typer.Option(help="Take a version back that does not hold.")] = True,
    as_json: JsonOption = False,
) -> None:
    """Send golden clips through the live servers; a model that leaks is taken back, exit 6."""
    found = pipeline.audit(str(home or pipeline.default_home(data)), roll_back=roll_back)
    if as_json:
        print(json.dumps(found, indent=2))
    if found["breaches"]:
        raise PrivacyViolationPrevented(f"version {found['version']}", "; ".join(found["breaches"]), found["outcome"])


@app.command()
def anonymize(
    source: Annotated[str, typer.Argument(metavar="IN", help="Video, folder of pictures, camera address.")],
    out: Annotated[Path, typer.Argument(metavar="OUT", help="Protected H.264 file (.mp4).")],
    method: Annotated[str, typer.Option(help="Protection method; see `privseg methods`.")] = "blank",
    param: Annotated[list[str] | None, typer.Option(help="Method parameter, name=value; may be repeated.")] = None,
    report: Annotated[Path | None, typer.Option(help="Write frames in/out/blanked, model, fps as JSON.")] = None,
    triton: UrlOption = None,
    home: HomeOption = None,
    local: Annotated[bool, typer.Option("--local", help="Run the model in this process; no Triton needed.")] = False,
    shared_memory: Annotated[
        str, typer.Option(help="To a Triton on this machine: auto, off, or the directory it has as /dev/shm.")
    ] = "auto",
    stream: Annotated[bool, typer.Option("--stream", help="Ask Triton over one bidirectional stream.")] = False,
    schedule: Annotated[
        str, typer.Option(help="Ask the model about every-frame, or adaptive: some, and cover what changed between.")
    ] = "every-frame",
    realtime: Annotated[bool, typer.Option(help="Read a file at its frame rate, as a camera would.")] = False,
    image_rate: Annotated[float, typer.Option(help="Pictures a second, where IN is a folder of them.")] = 10,
    max_frames: Annotated[int | None, typer.Option(min=1, help="Stop after so many frames.")] = None,
    metrics_port: Annotated[int | None, typer.Option(help="Serve /metrics meanwhile; 0: any port.")] = None,
    key_ring: KeyRingOption = None,
    insecure: Annotated[bool, typer.Option(help="Send raw frames to a Triton elsewhere without TLS.")] = False,
    profile: Annotated[str, typer.Option(help="production, or laboratory: any method goes.")] = "production",
    allow_obfuscation: Annotated[
        bool, typer.Option("--allow-obfuscation", help="Accept a method that only obfuscates; it is recorded.")
    ] = False,
    policy: Annotated[list[str] | None, typer.Option(help="Mask policy, name=value; may be repeated.")] = None,
    zones: Annotated[Path | None, typer.Option(help="YAML file of polygons: always covered, and never_shown.")] = None,
    as_json: JsonOption = False,
) -> None:
    """Write IN with its people protected to OUT; a frame without an answer from the model is left blank."""
    from privseg.privacy.filters.registry import create_method
    from privseg.privacy.key_ring import open_key_ring
    from privseg.privacy.profile import Profile
    from privseg.streaming.adaptive import Schedule
    from privseg.streaming.anonymize import anonymize_file
    from privseg.streaming.config import load_zones, read_policy

    if schedule not in set(Schedule):
        raise UsageError(f"schedule {schedule}", "is not known", f"choose one of {', '.join(Schedule)}")
    if profile not in set(Profile):
        raise UsageError(f"profile {profile}", "is not known", f"choose one of {', '.join(Profile)}")
    allowed = Profile(profile).allows_obfuscation(allow_obfuscation)
    done = anonymize_file(
        source,
        out,
        method=create_method(method, _pairs(param), secrets=open_key_ring(key_ring, [out]), allow_obfuscation=allowed),
        triton=None if local else _triton_url(triton, home),
        local=local_model(home) if local else None,
        insecure=insecure,
        policy=read_policy(_pairs(policy)),
        zones=load_zones(zones) if zones else None,
        profile=Profile(profile),
        allow_obfuscation=allow_obfuscation,
        shared_memory=shared_memory if shared_memory in {"auto", "off"} else Path(shared_memory),
        stream=stream,
        schedule=Schedule(schedule),
        report=report,
        realtime=realtime,
        image_rate=image_rate,
        max_frames=max_frames,
        metrics_port=metrics_port,
        say=lambda line: print(line, file=sys.stderr, flush=True),
    )
    versions = ", ".join(done["model_versions"])
    worth = done["privacy_class"] + (", obfuscation allowed" if done["obfuscation_allowed"] else "")
    summary = f"{out}: {done['frames_out']} frames, {done['method']} ({worth}), model version {versions}"
    print(json.dumps(done, indent=2) if as_json else summary)
    if done["frames_blanked"]:
        blank = f"{done['frames_blanked']} of {done['frames_out']} frames are blank ({done['blank_reason']})"
        raise PrivacyViolationPrevented(out, blank, "see `privseg triton status`, then run the same command again")


app.command()(stream)
app.command()(methods)
app.command()(assess)
app.command()(approve)
app.command()(unscramble)
app.command()(benchmark)


def _triton_url(given: str | None, home: Path | None) -> str:
    """The address asked for, else that of the local server of ``home`` or of either default home."""
    from privseg.errors import ServerUnavailableError
    from privseg.serving import local_triton

    if given:
        return given
    for place in model_homes(home):
        running = local_triton.status(place / "triton")
        if running is not None:
            return running.grpc_url
    raise ServerUnavailableError("Triton", "is not running", "privseg triton up, or name a server with --triton")


def _changes(recipe: Path | None, overrides: list[str] | None) -> dict[str, str]:
    """Changes of parameters, dotted name to YAML text: a recipe's, and on top of them those of the command line."""
    if recipe is None:
        return _pairs(overrides)
    from privseg.params import read_params_file

    return {str(name): json.dumps(value) for name, value in read_params_file(recipe).items()} | _pairs(overrides)


def _pairs(texts: list[str] | None) -> dict[str, str]:
    pairs: dict[str, str] = {}
    for text in texts or []:
        name, separator, value = text.partition("=")
        if not separator or not name:
            raise UsageError(text, "is not of the form name=value", "write it as name=value")
        pairs[name] = value
    return pairs


def main() -> None:
    """Run the command line; a deliberate error is one line on stderr and its documented exit code."""
    try:
        app()
    except PrivsegError as error:
        _report(error)
        raise SystemExit(error.exit_code) from None
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise SystemExit(0) from None
    except KeyboardInterrupt:
        print("privseg: interrupted", file=sys.stderr)
        raise SystemExit(130) from None
    except OSError as error:
        wrapped = StorageError.from_os_error(error.filename or "the disk", error)
        _report(wrapped)
        raise SystemExit(wrapped.exit_code) from None


def _report(error: PrivsegError) -> None:
    print(f"privseg: {error}", file=sys.stderr, flush=True)
    file = os.environ.get(ERROR_FILE_VARIABLE)
    if file:
        error.save(Path(file))
