"""``privseg dataset …``. Imports happen inside the commands, so that ``--help`` is instant."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from privseg import pipeline
from privseg.cli_options import DataOption, HomeOption, JsonOption, show_table

if TYPE_CHECKING:
    from privseg.dataset_versions import Version

__all__ = ["dataset_app"]

dataset_app = typer.Typer(help="The dataset: its versions, and the archives it is made from.", no_args_is_help=True)

_VERSION = "A version, ds-…, or the beginning of one."
_KINDS = {
    "added": "new",
    "removed": "gone",
    "changed": "other content",
    "moved": "in another split",
    "judged": "other status or reason",
    "same": "as before",
}


@dataset_app.command()
def versions(data: DataOption = None, home: HomeOption = None, as_json: JsonOption = False) -> None:
    """List the recorded versions, newest first."""
    from privseg.dataset_versions import list_versions

    workspace = _workspace(home, data)
    found = list_versions(workspace)
    if as_json:
        print(json.dumps([version.to_dict() for version in found], indent=2))
        return
    if not found:
        _say(f"{workspace} has no dataset version yet; `privseg run` records one")
        return
    columns = ["version", "recorded (UTC)", "images", "train", "validation", "test", "with people", "mean human share"]
    show_table([*columns, "code", "data in"], [_version_row(version) for version in found])


@dataset_app.command()
def diff(
    first: Annotated[str, typer.Argument(metavar="A", help=_VERSION)],
    second: Annotated[str, typer.Argument(metavar="B", help=_VERSION)],
    data: DataOption = None,
    home: HomeOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show what changed from version A to version B."""
    from privseg.dataset_diff import diff as compare
    from privseg.dataset_versions import find_version

    workspace = _workspace(home, data)
    found = compare(workspace, find_version(workspace, first), find_version(workspace, second))
    if as_json:
        print(json.dumps(found, indent=2))
    else:
        _show_diff(found)
    if found["moved"]:
        count, example = len(found["moved"]), found["moved"][0]["sample_id"]
        _say(f"WARNING: {count} samples moved between splits, for example {example}")
        _say(
            f"WARNING: a model trained on {found['from']} must not be tested on {found['to']}, nor the other way round"
        )


@dataset_app.command()
def checkout(
    version: Annotated[str, typer.Argument(metavar="V", help=_VERSION)],
    to: Annotated[Path | None, typer.Option(help="Where to [HOME/datasets/V].")] = None,
    data: DataOption = None,
    home: HomeOption = None,
    as_json: JsonOption = False,
) -> None:
    """Write the files of version V into a folder, byte for byte, and check them; the workspace stays as it is."""
    from privseg.dataset_checkout import checkout as write
    from privseg.dataset_versions import find_version

    workspace = _workspace(home, data)
    name = find_version(workspace, version)
    folder = to or workspace.parent / "datasets" / name
    written = write(workspace, name, folder, say=_say)
    if as_json:
        print(json.dumps({"version": name, "folder": str(folder), "written": written}, indent=2))
    else:
        print(f"{folder}: {name}, {'written' if written else 'was there'}; every picture has its recorded sha256")


@dataset_app.command()
def report(data: DataOption = None, home: HomeOption = None, as_json: JsonOption = False) -> None:
    """Show the newest version in numbers, a source a row, and where its pages are."""
    from privseg.dataset_report import newest_report

    found = newest_report(_workspace(home, data))
    if as_json:
        print(json.dumps(found, indent=2))
        return
    print(f"{found['version']['name']}, recorded {found['version']['created']}")
    columns = [
        "source",
        "ingested",
        "removed",
        "kept",
        "train",
        "validation",
        "test",
        "with people",
        "mean human share",
    ]
    show_table(columns, [[name, *map(_cell, row.values())] for name, row in found["sources"].items()])
    for name, page in found["pages"].items():
        print(f"{name}: {page}")
    if not found["pages"]:
        _say(f"its pages are no longer in the workspace; privseg dataset checkout {found['version']['name']}")


@dataset_app.command()
def fetch(
    source: Annotated[str, typer.Argument(help="voc, cocostuff164k, coco_instances or ade20k.")],
    to: Annotated[
        Path, typer.Option(envvar="PRIVSEG_DATA", help="Data folder: what PRIVSEG_DATA or --data names later.")
    ] = Path("data"),
    base_url: Annotated[str | None, typer.Option(help="A mirror to ask instead of the official servers.")] = None,
    keep_archives: Annotated[bool, typer.Option(help="Keep the archives after unpacking them.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Download and unpack the official archives of SOURCE; resumes what was interrupted."""
    from privseg.datasets.fetch import fetch as download
    from privseg.datasets.fetch import reporting

    with reporting() as (say, progress):
        done = download(source, to, say=say, base_url=base_url, keep_archives=keep_archives, progress=progress)
    if as_json:
        print(json.dumps(done.as_dict(), indent=2))
    else:
        print(f"{done.folder}: {done.files:,} files; use them with --data {to}")


def _workspace(home: Path | None, data: Path | None) -> Path:
    return (home or pipeline.default_home(data)).resolve() / "workspace"


def _version_row(version: Version) -> list[str]:
    places = {"cache": version.in_cache, "remote": version.in_remote, "remote (not asked)": version.in_remote is None}
    counts = (version.kept, version.train, version.validation, version.test, version.with_people)
    return [
        version.name,
        version.created[:16].replace("T", " "),
        *(_cell(count) for count in counts),
        _cell(version.mean_human_ratio),
        version.code,
        ", ".join(name for name, there in places.items() if there) or "INCOMPLETE",
    ]


def _show_diff(found: dict[str, Any]) -> None:
    before, after = found["kept"]
    print(f"{found['from']} → {found['to']}: {before:,} → {after:,} images")
    kinds = list(_KINDS)
    rows = [[source, *(f"{counts[kind]:,}" for kind in kinds)] for source, counts in found["by_source"].items()]
    show_table(["samples", *_KINDS.values()], [*rows, ["all", *(f"{found['samples'][kind]:,}" for kind in kinds)]])
    if found["judged"]:
        show_table(
            ["status and reason", "samples"], [[change, f"{count:,}"] for change, count in found["judged"].items()]
        )
    if found["parameters"]:
        changes = found["parameters"].items()
        show_table(["parameter", "was", "is"], [[name, _cell(c["from"]), _cell(c["to"])] for name, c in changes])
    drift = {measure: values for measure, values in found["drift"].items() if values}
    if drift:
        rows = [[measure, f"{values['psi']:.3f}", f"{values['chance']:.3f}"] for measure, values in drift.items()]
        show_table(["drift (PSI)", "is", "by chance up to"], rows)


def _cell(value: Any) -> str:
    if value is None:
        return "-"
    if isinstance(value, float):
        return f"{value:.4g}"
    return f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else str(value)


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)
