"""``privseg benchmark``. Imports happen inside the command, so that ``--help`` is instant."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from privseg import pipeline
from privseg.cli_options import DataOption, HomeOption, JsonOption, show_table
from privseg.errors import DataError

__all__ = ["benchmark"]

REPORTS = Path("workspace") / "reports"
_AGAIN = "in the workspace: dvc repro --force --single-item select"


def benchmark(data: DataOption = None, home: HomeOption = None, as_json: JsonOption = False) -> None:
    """Show the last comparison of the candidates, what was chosen and why, and where its page lies."""
    from privseg.benchmark.columns import SUMMARY, verdict

    reports = (home or pipeline.default_home(data)) / REPORTS
    path = reports / "results.json"
    results = _read(path)
    try:
        rows = [
            [
                row["candidate"] + (" ★" if row["candidate"] == results["winner"] else ""),
                *(column.text(row) for column in SUMMARY),
                "" if row["accepted"] else row["reason"],
            ]
            for row in results["candidates"]
        ]
        below = [f"{row['candidate']} failed: {row['reason']}" for row in results["failed"]] + [verdict(results)]
    except KeyError as error:
        raise DataError(path, f"is not a benchmark (it has no {error})", _AGAIN) from None
    except (TypeError, ValueError, AttributeError) as error:
        raise DataError(path, f"is not a benchmark ({error})", _AGAIN) from None
    if as_json:
        print(json.dumps(results, indent=2))
        return
    show_table(["candidate", *(column.heading for column in SUMMARY), "out, because"], rows)
    print("\n".join(below))
    print(f"page: {reports / 'benchmark.html'}")


def _read(path: Path) -> dict[str, Any]:
    try:
        results = json.loads(path.read_text(encoding="utf-8"))
        version = results["schema_version"]
    except FileNotFoundError:
        raise DataError(path, "there is no benchmark here yet", "privseg run, or dvc repro select there") from None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(path, f"is not a benchmark ({error})", _AGAIN) from None
    if version != 1:
        raise DataError(path, f"is of another version ({version})", _AGAIN)
    return dict(results)
