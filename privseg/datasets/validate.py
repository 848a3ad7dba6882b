"""Validate: the gate a dataset passes before anything is trained on it, run by Great Expectations.

The only module that knows Great Expectations: others see a plain `ValidationReport`. Beside its own data docs, whose
pages load styles from public servers, a page is written that needs nothing from anywhere.
"""

from __future__ import annotations

import json
import os
import shutil
import warnings
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from privseg.datasets.drift import BINS, read_baseline
from privseg.datasets.gate.checks import Check, build_checks
from privseg.datasets.gate.page import render_page
from privseg.datasets.gate.tables import Tables, build_tables
from privseg.datasets.manifest import dataset_version, read_manifest, write_atomic
from privseg.errors import GateFailedError, StorageError
from privseg.params import Params

__all__ = ["Outcome", "ValidationReport", "validate"]

_DATA_DOCS = "data_docs"


@dataclass(frozen=True)
class Outcome:
    """How one expectation came out.

    Attributes:
        name: The expectation's short name.
        group: What it is about: manifest, files and pixels, people, splits or drift.
        meaning: What holds when it passes.
        column: The manifest's column, or the derived one, it looks at; '' for the whole table.
        severity: ``critical`` closes the gate, ``warning`` does not.
        success: Whether it passed.
        unexpected_count: Rows that break it.
        examples: Up to twenty sample ids, or sources, that break it.
        named: The same with their file, and what is wrong with it if that is known.
        observed: The value found, for counts and shares; else the number of rows looked at, or an error.
        value: The number found, for counts, shares and drift; None for checks of rows.
        least: Its lower bound; None if it has none.
        most: Its upper bound; None if it has none.
        next_step: What to do when it fails.
    """

    name: str
    group: str
    meaning: str
    column: str
    severity: str
    success: bool
    unexpected_count: int
    examples: list[str]
    named: list[str]
    observed: str
    value: float | None
    least: float | None
    most: float | None
    next_step: str


@dataclass(frozen=True)
class ValidationReport:
    """The result of the gate.

    Attributes:
        success: No critical expectation failed.
        dataset_version: ``ds-`` and 12 hex digits of the manifest's fingerprint.
        baseline: The dataset version that people's distribution was compared with; '' if there was none.
        drift: By measure: psi, chance, edges, previous and current counts (`privseg.datasets.drift`); empty without a
            baseline.
        expectations: All outcomes, in the order in which failures are worth reading.
        page: The HTML report.
    """

    success: bool
    dataset_version: str
    baseline: str
    drift: dict[str, dict[str, Any]]
    expectations: list[Outcome]
    page: Path

    def to_dict(self) -> dict[str, Any]:
        """What ``validation.json`` holds; it names no time, so equal data gives equal bytes."""
        return {
            "success": self.success,
            "dataset_version": self.dataset_version,
            "baseline": self.baseline,
            "drift": self.drift,
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
        if first.named:
            fault += f"; for example {'; '.join(first.named[:3])}"
        if len(failed) > 1:
            fault += f" (and {len(failed) - 1} more failed)"
        raise GateFailedError(f"dataset {self.dataset_version}", fault, f"{first.next_step}; see {self.page}")


def validate(
    params: Params,
    manifest: Path,
    root: Path,
    report_dir: Path,
    *,
    baseline: Path | None = None,
    data_docs: bool = True,
) -> ValidationReport:
    """Check a split manifest and the files it names.

    All kept files must be there; ``gate.hashed_files`` pairs are compared with their sha256, and the pixels of
    ``gate.decoded_pairs`` looked at. Into ``report_dir`` go ``validation.json``, ``validation.html``,
    ``distribution.json`` (the baseline of the next version) and ``data_docs/`` (Great Expectations' own pages, which
    bear the time of the run), also when the gate closes.

    Args:
        params: ``sources``, ``image``, ``cleanse``, ``merge``, ``split`` and ``gate`` are read.
        manifest: The manifest to check.
        root: Folder that its paths are relative to.
        report_dir: Where the reports are written.
        baseline: The ``distribution.json`` of the previous dataset version; without it drift is not judged.
        data_docs: Build Great Expectations' own pages too, which takes as long as a quarter of the checks.

    Raises:
        DataError: The manifest or the baseline is missing or broken.
        StorageError: The reports cannot be written.
    """
    before = None if baseline is None else read_baseline(baseline)
    df = read_manifest(manifest)
    version = dataset_version(df)
    tables = build_tables(params, df, root, before)
    del df
    checks = build_checks(params, tables)
    docs = report_dir / _DATA_DOCS if data_docs else None
    results = _run(checks, tables, version, docs)
    outcomes = [_outcome(check, results[check.name], tables, manifest) for check in checks]
    drift = {measure: asdict(one) | {"edges": list(BINS[measure])} for measure, one in tables.drift.items()}
    success = all(outcome.success or outcome.severity != "critical" for outcome in outcomes)
    report = ValidationReport(success, version, tables.baseline, drift, outcomes, report_dir / "validation.html")
    data = report.to_dict()
    mine = {"dataset_version": version, "distribution": tables.distribution}
    write_atomic(report_dir / "distribution.json", (json.dumps(mine, indent=2) + "\n").encode())
    write_atomic(report_dir / "validation.json", (json.dumps(data, indent=2) + "\n").encode())
    write_atomic(report.page, render_page(data, data_docs=f"{_DATA_DOCS}/index.html" if docs else "").encode())
    return report


def _run(checks: list[Check], tables: Tables, version: str, docs: Path | None) -> dict[str, Mapping[str, Any]]:
    """Run every check in a context in memory, and build its data docs where ``docs`` says; results by check name."""
    os.environ["GX_ANALYTICS_ENABLED"] = "false"  # read while it is imported
    results: dict[str, Mapping[str, Any]] = {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # deprecations inside the library
        import great_expectations as gx  # seconds to import, and validation alone needs it
        from great_expectations.core.run_identifier import RunIdentifier
        from great_expectations.data_context.types.base import ProgressBarsConfig

        context = gx.get_context(mode="ephemeral")
        _remove_own_docs(context)
        context.variables.progress_bars = ProgressBarsConfig(globally=False)
        run = RunIdentifier(run_name=version)
        source = context.data_sources.add_pandas("dataset")
        for name, frame in tables.frames.items():
            data = source.add_dataframe_asset(name).add_batch_definition_whole_dataframe("all")
            expectations = [
                getattr(gx.expectations, check.expectation)(
                    **check.arguments,
                    severity=check.severity,
                    description=check.meaning,
                    meta={"check": check.name, "next_step": check.next_step},
                )
                for check in checks
                if check.table == name
            ]
            suite = context.suites.add(gx.ExpectationSuite(name, expectations=expectations))
            definition = context.validation_definitions.add(gx.ValidationDefinition(name=name, data=data, suite=suite))
            # What fails is named by the frame's index, 20 rows at most. Given columns to name it by, the library would
            # describe all rows that fail one by one, and a whole dataset may.
            key = next((column for column in ("sample_id", "source") if column in frame), None)
            keyed = frame if key is None else frame.set_axis(frame[key].to_numpy(object))
            result = definition.run(batch_parameters={"dataframe": keyed}, result_format="SUMMARY", run_id=run)
            results |= {one.expectation_config.meta["check"]: one.to_json_dict() for one in result.results}
        if docs is not None:
            _build_docs(context, docs)
    return results


def _remove_own_docs(context: Any) -> None:
    """A context in memory makes a temporary folder for pages, and leaves it."""
    for name, site in dict(context.list_data_docs_sites()).items():
        shutil.rmtree(site["store_backend"]["base_directory"], ignore_errors=True)
        context.delete_data_docs_site(name)


def _build_docs(context: Any, docs: Path) -> None:
    """Write the pages of this run, and of no other, into ``docs``."""
    backend = {"class_name": "TupleFilesystemStoreBackend", "base_directory": str(docs.absolute())}
    site = {"class_name": "SiteBuilder", "show_how_to_buttons": False, "store_backend": backend}
    context.add_data_docs_site(_DATA_DOCS, site)
    try:
        if docs.exists():
            shutil.rmtree(docs)
        context.build_data_docs()
    except OSError as error:
        raise StorageError.from_os_error(docs, error) from None


def _outcome(check: Check, result: Mapping[str, Any], tables: Tables, manifest: Path) -> Outcome:
    detail, success = result["result"], bool(result["success"])
    column = str(check.arguments.get("column", ""))
    value = None
    if check.group == "drift" and not tables.drift:
        observed, unexpected = "nothing to compare with", 0
    elif check.table == "summary":
        value = float(tables.frames["summary"][column].iloc[0])
        is_share = column.endswith(("_share", "_ratio")) and not column.startswith("psi_")
        observed = f"{value:.2%}" if is_share else f"{value:.4g}" if value % 1 else f"{value:.0f}"
        unexpected = int(not success)
    else:
        observed = _observed(result)
        unexpected = int(detail.get("unexpected_count") or 0)
    if check.table == "summary":
        examples = [] if success else tables.suspects.get(check.name, [])
    else:
        examples = [str(name) for name in detail.get("partial_unexpected_index_list") or []]
    named = [tables.named(name) for name in examples]
    return Outcome(
        name=check.name,
        group=check.group,
        meaning=check.meaning,
        column=column,
        severity=check.severity,
        success=success,
        unexpected_count=unexpected,
        examples=examples,
        named=named if success or named else [str(manifest)],
        observed=observed,
        value=value,
        least=check.arguments.get("min_value"),
        most=check.arguments.get("max_value"),
        next_step=check.next_step,
    )


def _observed(result: Mapping[str, Any]) -> str:
    detail = result["result"]
    if "element_count" in detail:
        return f"{detail.get('unexpected_count', 0)} of {detail['element_count']} fail"
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
