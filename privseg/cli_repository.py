"""``privseg model …``: the versions Triton serves. Imports happen inside the commands: ``--help`` is instant."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from privseg import pipeline, publishing
from privseg.cli_options import DataOption, HomeOption, JsonOption, show_table

__all__ = ["model_app"]

model_app = typer.Typer(help="The model versions Triton serves.", no_args_is_help=True)

SkipOption = Annotated[
    str | None,
    typer.Option(
        "--skip-smoke-load",
        metavar="REASON",
        envvar=publishing.SKIP_VARIABLE,
        help="Do not try the model in a throw-away Triton first; the reason goes into the history.",
    ),
]


@model_app.command("publish")
def model_publish(
    data: DataOption = None,
    home: HomeOption = None,
    force: Annotated[bool, typer.Option(help="Publish it although the model that serves was found better.")] = False,
    skip_smoke_load: SkipOption = None,
    as_json: JsonOption = False,
) -> None:
    """Publish the workspace's exported model to Triton, if it won; a bad version is taken back by itself."""
    place = home or pipeline.default_home(data)
    published = pipeline.publish(str(place / "workspace"), str(place), force=force, skip_smoke_load=skip_smoke_load)
    if as_json:
        print(json.dumps(published, indent=2))


@model_app.command("sign")
def model_sign(
    folder: Annotated[Path, typer.Argument(metavar="FOLDER", help="With model.onnx and model.json.")],
) -> None:
    """Sign a model with PRIVSEG_SIGNING_KEY, the shipped one for example: you vouch for where it came from."""
    from privseg.serving.artifact import sign_artifact

    print(f"{folder}: signed, {sign_artifact(folder).record['signature']['algorithm']}")


@model_app.command("promote")
def model_promote(
    what: Annotated[str, typer.Argument(metavar="VERSION|FOLDER", help="Or a folder with model.onnx and model.json.")],
    data: DataOption = None,
    home: HomeOption = None,
    skip_smoke_load: SkipOption = None,
    as_json: JsonOption = False,
) -> None:
    """Let an older version serve again, under the next number; or publish the model that lies in a folder."""
    place = home or pipeline.default_home(data)
    older = int(what) if what.isdigit() else None
    published = publishing.promote(place, Path(what) if older is None else older, skip_smoke_load=skip_smoke_load)
    facts = {
        "version": published.version,
        "promoted_from": None if published.reused else older,
        "reused": published.reused,
        "sha256": published.model_json["sha256"],
        "replicas": published.replicas,
        "came": published.changes.came,
        "gone": published.changes.gone,
    }
    changes = f" ({published.changes})" if str(published.changes) else ""
    _show(facts, f"version {published.version} serves on {', '.join(published.replicas)}{changes}", as_json)


@model_app.command("rollback")
def model_rollback(
    data: DataOption = None,
    home: HomeOption = None,
    reason: Annotated[str, typer.Option(help="Why; goes into the history.")] = "",
    as_json: JsonOption = False,
) -> None:
    """Take the newest version back: the one before serves again, on every server."""
    version = publishing.roll_back(home or pipeline.default_home(data), reason=reason)
    _show({"version": version}, f"version {version} serves again", as_json)


@model_app.command("verify")
def model_verify(
    data: DataOption = None,
    home: HomeOption = None,
    live: Annotated[bool, typer.Option("--live", help="Ask every server, too.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Check every version's files, and with --live that every server answers as the version on disk; else exit 4."""
    from privseg.serving.verification import require_sound, verify_disk, verify_live

    place = home or pipeline.default_home(data)
    repository = pipeline.model_repository(place)
    findings = verify_disk(repository)
    if live and not any(finding.error for finding in findings):
        findings += verify_live(repository, pipeline.triton_endpoints(place), publishing.triton_access())
    if as_json:
        print(json.dumps([finding.to_dict() for finding in findings], indent=2))
    else:
        rows = [[f.subject, str(f.version), f.error.fault if f.error else "sound"] for f in findings]
        show_table(["subject", "version", "found"], rows)
    require_sound(findings)


@model_app.command("list")
def model_list(
    data: DataOption = None,
    home: HomeOption = None,
    live: Annotated[bool, typer.Option("--live", help="Ask every server what it has loaded and answered.")] = False,
    as_json: JsonOption = False,
) -> None:
    """List the versions in the model repository: which one serves, and what was rejected and why."""
    from privseg.serving.overview import overview, with_requests

    place = home or pipeline.default_home(data)
    entries = overview(pipeline.model_repository(place))
    if live:
        entries = with_requests(entries, pipeline.triton_endpoints(place), publishing.triton_access())
    if as_json:
        print(json.dumps([entry.to_dict() for entry in entries], indent=2))
        return
    rows = [
        [
            str(entry.version or "-"),
            f"{entry.state} (was {entry.promoted_from})" if entry.promoted_from else entry.state,
            *(str(value or "-")[:25] for value in (entry.candidate, entry.dataset_version, entry.created)),
            (entry.sha256 or "-")[:12],
            *(str(count) for count in (entry.servers, entry.answered, entry.failed) if count is not None),
            entry.reason,
        ]
        for entry in entries
    ]
    counts = ["servers", "answered", "failed"] if live else []
    show_table(["version", "state", "candidate", "dataset", "created", "sha256", *counts, "reason"], rows)


@model_app.command("prune")
def model_prune(
    keep: Annotated[int, typer.Option(help="Versions that stay, the newest; at least 2.")],
    data: DataOption = None,
    home: HomeOption = None,
    as_json: JsonOption = False,
) -> None:
    """Remove old versions from the disk; the one that serves and the one before it always stay."""
    from privseg.serving.repository import prune

    gone = prune(pipeline.model_repository(home or pipeline.default_home(data)), keep)
    _show({"removed": gone}, f"removed: {', '.join(map(str, gone)) or 'nothing'}", as_json)


@model_app.command("diff")
def model_diff(
    first: Annotated[int, typer.Argument(metavar="A", help="A version.")],
    second: Annotated[int, typer.Argument(metavar="B", help="Another.")],
    data: DataOption = None,
    home: HomeOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show what sets two versions apart: origin, parameters, metrics, and what they see on golden frames."""
    from privseg.serving.differences import diff

    place = home or pipeline.default_home(data)
    threshold = publishing.judging_threshold(place)
    found = diff(pipeline.model_repository(place), first, second, threshold=threshold)
    if as_json:
        print(json.dumps(found.to_dict(), indent=2))
        return
    rows = [[name, _short(one), _short(other)] for name, (one, other) in found.record.items()]
    rows.append(["golden scenes: people found", *(f"{share:.1%}" for share in found.found)])
    rows.append(["golden scenes: else called a person", *(f"{share:.1%}" for share in found.called)])
    show_table(["", f"version {first}", f"version {second}"], rows)
    agreement = f"masks agree on {found.mask_agreement:.3%} of the pixels"
    print(f"{agreement}, mean difference {found.mean_difference:.2f} of 255")


def _show(facts: dict[str, Any], line: str, as_json: bool) -> None:
    print(json.dumps(facts, indent=2) if as_json else line)


def _short(value: object) -> str:
    return "-" if value is None else str(value)[:60]
