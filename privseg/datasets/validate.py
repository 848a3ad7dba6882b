"""Validate: the gate a dataset passes before anything is trained on it, run by Great Expectations.

The only module that knows Great Expectations: others see a plain `ValidationReport`. Its own data docs pages load
styles from public servers, so a self-contained page is written instead.
"""

from __future__ import annotations

import json
import os
import warnings
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from privseg.datasets._validation_checks import Check, build_checks
from privseg.datasets._validation_page import render_page
from privseg.datasets._validation_tables import Tables, build_tables
from privseg.datasets.manifest import dataset_version, read_manifest, write_atomic
from privseg.errors import GateFailedError
from privseg.params import Params

__all__ = ["Outcome", "ValidationReport", "validate"]

_EXAMPLES = 5


@dataclass(frozen=True)
class Outcome:
    """How one expectation came out.

    Attributes:
        name: The expectation's short name.
        meaning: What holds when it passes.
        column: The manifest's column, or the derived one, it looks at; '' for the whole table.
        severity: ``critical`` closes the gate, ``warning`` does not.
        success: Whether it passed.
        unexpected_count: Rows that break it.
        examples: Up to five sample ids that break it.
        faults: What is wrong with their files, where files are at fault; each begins with the file.
        observed: The value found, for counts and shares; else the number of rows looked at, or an error.
        next_step: What to do when it fails.
    """

    name: str
    meaning: str
    column: str
    severity: str
    success: bool
    unexpected_count: int
    examples: list[str]
    faults: list[str]
    observed: str
    next_step: str


@dataclass(frozen=True)
class ValidationReport:
    """The result of the gate.

    Attributes:
        success: No critical expectation failed.
        dataset_version: ``ds-`` and 12 hex digits of the manifest's fingerprint.
        expectations: All outcomes, in the order in which failures are worth reading.
        page: The HTML report.
    """

    success: bool
    dataset_version: str
    expectations: list[Outcome]
    page: Path

    def to_dict(self) -> dict[str, Any]:
        """What ``validation.json`` holds; it names no time, so equal data gives equal bytes."""
        return {
            "success": self.success,
            "dataset_version": self.dataset_version,
            "expectations": [asdict(outcome) for outcome in self.expectations],
        }

    def raise_if_failed(self) -> None:
        """Close the gate.

        Raises:
            GateFailedError: Names the first critical failure, its examples and files, and what to do.
        """
        failed = [outcome for outcome in self.expectations if not outcome.success and outcome.severity == "critical"]
        if not failed:
            return
        first = failed[0]
        fault = f"check {first.name} failed (expected: {first.meaning}; found: {first.observed})"
        named = first.faults or first.examples
        if named:
            fault += f"; for example {'; '.join(named[:3])}"
        if len(failed) > 1:
            fault += f" (and {len(failed) - 1} more failed)"
        raise GateFailedError(f"dataset {self.dataset_version}", fault, f"{first.next_step}; see {self.page}")


def validate(params: Params, manifest: Path, root: Path, report_dir: Path) -> ValidationReport:
    """Check a split manifest and the files it names.

    All kept files are compared with their sha256; at most 200 pairs are decoded.

    Args:
        params: ``gate``, ``image`` and ``cleanse`` are read.
        manifest: The manifest to check.
        root: Folder that its paths are relative to.
        report_dir: Where ``validation.json`` and ``validation.html`` are written, also when the gate closes.

    Raises:
        DataError: The manifest is missing or broken.
        StorageError: The reports cannot be written.
    """
    df = read_manifest(manifest)
    tables, checks = build_tables(params, df, root), build_checks(params)
    results = _run(checks, tables)
    outcomes = [_outcome(check, results[check.name], tables) for check in checks]
    success = all(outcome.success or outcome.severity != "critical" for outcome in outcomes)
    report = ValidationReport(success, dataset_version(df), outcomes, report_dir / "validation.html")
    data = report.to_dict()
    write_atomic(report_dir / "validation.json", (json.dumps(data, indent=2) + "\n").encode())
    write_atomic(report.page, render_page(data).encode())
    return report


def _run(checks: list[Check], tables: Tables) -> dict[str, Mapping[str, Any]]:
    """Run every check in an ephemeral context, which writes nothing; results by check name."""
    os.environ["GX_ANALYTICS_ENABLED"] = "false"  # read while it is imported
    results: dict[str, Mapping[str, Any]] = {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # deprecations inside the library
        import great_expectations as gx  # seconds to import, and validation alone needs it
        from great_expectations.data_context.types.base import ProgressBarsConfig

        context = gx.get_context(mode="ephemeral")
        context.variables.progress_bars = ProgressBarsConfig(globally=False)
        source = context.data_sources.add_pandas("dataset")
        for name, frame in tables.frames.items():
            definition = source.add_dataframe_asset(name).add_batch_definition_whole_dataframe("all")
            suite = gx.ExpectationSuite(
                name,
                expectations=[
                    getattr(gx.expectations, check.expectation)(
                        **check.arguments, severity=check.severity, meta={"check": check.name}
                    )
                    for check in checks
                    if check.table == name
                ],
            )
            index = {"unexpected_index_column_names": ["sample_id"]} if "sample_id" in frame else {}
            result = definition.get_batch(batch_parameters={"dataframe": frame}).validate(
                suite, result_format={"result_format": "COMPLETE", **index}
            )
            results |= {one.expectation_config.meta["check"]: one.to_json_dict() for one in result.results}
    return results


def _outcome(check: Check, result: Mapping[str, Any], tables: Tables) -> Outcome:
    detail, success = result["result"], bool(result["success"])
    column = str(check.arguments.get("column", ""))
    if check.table == "summary":
        examples = [] if success else tables.suspects.get(check.name, [])
        unexpected = len(examples)
        observed = f"{tables.frames['summary'][column].iloc[0]:g}"
    else:
        examples = [str(row["sample_id"]) for row in detail.get("unexpected_index_list") or []]
        unexpected = int(detail.get("unexpected_count") or 0)
        observed = _observed(result)
    return Outcome(
        name=check.name,
        meaning=check.meaning,
        column=column,
        severity=check.severity,
        success=success,
        unexpected_count=unexpected,
        examples=examples[:_EXAMPLES],
        faults=[f"{name} ({tables.faults[name]})" for name in examples[:_EXAMPLES] if name in tables.faults],
        observed=observed,
        next_step=check.next_step,
    )


def _observed(result: Mapping[str, Any]) -> str:
    detail = result["result"]
    if "element_count" in detail:
        return f"{detail.get('unexpected_count', 0)} of {detail['element_count']} differ"
    if "observed_value" in detail:  # of the one check on the table's columns
        misplaced = detail.get("details", {}).get("mismatched", [])
        return f"{len(misplaced)} columns out of place"
    return f"an error ({_first_message(result.get('exception_info', {}))})"


def _first_message(info: Mapping[str, Any]) -> str:
    """The library nests its exceptions by metric, or not at all."""
    for entry in (info, *(value for value in info.values() if isinstance(value, dict))):
        if entry.get("exception_message"):
            return str(entry["exception_message"])
    return "unknown"
