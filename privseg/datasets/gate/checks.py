"""What the dataset gate expects, as data: one entry an expectation."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Literal

from privseg.datasets.drift import Drift
from privseg.datasets.gate.tables import PHASH, Tables
from privseg.datasets.manifest import MANIFEST_COLUMNS
from privseg.datasets.split import SPLITS
from privseg.params import Params

__all__ = ["REASONS", "Check", "Group", "Severity", "build_checks"]

Group = Literal["manifest", "files and pixels", "people", "splits", "drift"]
Severity = Literal["critical", "warning"]

_AGAIN = "run the dataset stages again: dvc repro --force validate"
_SPLIT = "run the split stage again"
_CHANGED = "the files changed after ingest: ingest the source again"
_REPAIR = "replace or remove the named raw files, then ingest the source again"
_MORE = "add data, or lower the threshold under gate in params.yaml"
_LABELS = "check the source's label values (human, ignore) in params.yaml"
_REASONS = "check the reasons, then the data or the thresholds under cleanse in params.yaml"
_CLEANSE = "run the cleanse stage and those after it again"
_DRIFT = "look at what was added or removed; if the change is meant, raise gate.psi_limit for this version"
REASONS = (
    "unreadable",
    "too_small",
    "too_little_human",
    "too_much_human",
    "close_up",
    "specks",
    "too_much_ignore",
    "blank",
    "duplicate",
    "near_duplicate",
    "surplus_no_human",
)
_SIGMAS = 5  # a right split is that far off once in two million datasets
_SURE_FROM = 25  # images expected in validation; below, the normal approximation is rough


@dataclass(frozen=True)
class Check:
    """One expectation on one table.

    Attributes:
        name: Short and unique.
        group: What it is about.
        meaning: What holds when it passes.
        table: Key in ``Tables.frames``.
        expectation: Class name in ``great_expectations.expectations``.
        arguments: Its arguments.
        next_step: What to do when it fails.
        severity: A critical failure closes the gate, a warning is only reported.
    """

    name: str
    group: Group
    meaning: str
    table: str
    expectation: str
    arguments: dict[str, Any]
    next_step: str
    severity: Severity = "critical"


def build_checks(params: Params, tables: Tables) -> list[Check]:
    """All checks, in the order in which a failure is worth reading; some bounds depend on how much data there is."""
    return [
        *_manifest_checks(),
        *_file_checks(params),
        *_row_checks(params),
        *_split_checks(params, tables),
        *_count_checks(params),
        *_drift_checks(params, tables),
    ]


def _manifest_checks() -> list[Check]:
    ids = r"^[a-z0-9][a-z0-9_]{0,40}/[^/\\]+$"
    columns = {"column_list": list(MANIFEST_COLUMNS)}
    order, known = "the manifest has its columns, in their order", "every removed sample says why, by a known code"
    copies = "every duplicate, and nothing else, names the sample that stands for it"
    inside = "no path leaves the dataset's folder"
    once, form = "every sample is listed once", "every sample_id is source/name"
    table, unique, regex = (
        f"Expect{rest}"
        for rest in ("TableColumnsToMatchOrderedList", "ColumnValuesToBeUnique", "ColumnValuesToMatchRegex")
    )
    key = {"column": "sample_id"}
    return [
        Check("columns", "manifest", order, "columns", table, columns, _AGAIN),
        Check("sample_id_unique", "manifest", once, "manifest", unique, key, _AGAIN),
        Check("sample_id_form", "manifest", form, "manifest", regex, {**key, "regex": ids}, _AGAIN),
        _true("source_fits", "manifest", "every sample_id begins with its source", "manifest", _AGAIN),
        _true("paths_inside", "manifest", inside, "manifest", _AGAIN),
        _among("status", "manifest", "every sample is kept or removed", "manifest", ["kept", "removed"], _AGAIN),
        _among("reason", "manifest", known, "removed", list(REASONS), _AGAIN),
        _among("no_reason_to_keep", "manifest", "no kept sample has a reason", "kept", [""], _AGAIN, column="reason"),
        _true("duplicate_of", "manifest", copies, "manifest", _CLEANSE, column="duplicate_fits"),
    ]


def _file_checks(params: Params) -> list[Check]:
    size, most = params.image.size, params.gate.max_unreadable
    group: Group = "files and pixels"
    present, intact = "all kept files are there and not empty", "files have the bytes that were ingested"
    squares = f"images and masks are {size}x{size} pixels"
    ratio = "the manifest's human_ratio is that of the mask file"
    rest = "the manifest's components and their heights are those of the mask file"
    values = "masks hold only 0, 1 and 255"
    return [
        _total("unreadable", group, f"at most {most} samples are unreadable", _REPAIR, most=most),
        _true("files_present", group, present, "files", _CHANGED, column="present"),
        _true("decodes", group, "images and masks decode", "pixels", _CHANGED),
        _true("pixel_size", group, squares, "pixels", _CHANGED, column="size_fits"),
        _true("mask_values", group, values, "pixels", _CHANGED, column="values_closed"),
        _true("human_ratio_recomputed", group, ratio, "pixels", _CHANGED, column="ratio_fits"),
        _true("people_recomputed", group, rest, "pixels", _CHANGED, column="people_fit"),
        _true("files_intact", group, intact, "hashed", _CHANGED, column="intact"),
        _among("height", group, f"kept samples are {size} pixels high", "kept", [size], _AGAIN),
        _among("width", group, f"kept samples are {size} pixels wide", "kept", [size], _AGAIN),
    ]


def _row_checks(params: Params) -> list[Check]:
    ignored = params.cleanse.max_ignore_ratio
    unlabelled = f"at most {ignored:.0%} of a kept picture is unlabelled"
    shown = "a sample shows people exactly if human_ratio and components are above 0"
    return [
        *(
            _within(name, "people", f"{name} is between 0 and 1", "manifest", _AGAIN, least=0.0, most=1.0)
            for name in ("human_ratio", "tallest_ratio", "surveillance_score")
        ),
        _within("ignore_ratio", "people", unlabelled, "kept", _CLEANSE, least=0.0, most=ignored),
        _true("people_consistent", "people", shown, "manifest", _AGAIN),
        _true("people_are_components", "people", "no more people than components", "manifest", _AGAIN),
    ]


def _split_checks(params: Params, tables: Tables) -> list[Check]:
    known = "every kept sample is in train, validation or test"
    pools = "test images, and only they, are from test pools"
    looks = "no two images that look the same are in two splits"
    bits = params.cleanse.near_duplicate_bits
    near = f"no two images whose looks differ in at most {bits} of 64 bits are in two splits"
    hashes, form = "perceptual hashes are 16 hex digits", {"column": "phash", "regex": PHASH}
    once = "no two kept images look nearly the same"
    share, pool = params.split.validation_share, tables.training_pool
    off = _SIGMAS * math.sqrt(share * (1 - share) / max(1, pool)) + 1 / max(1, pool)
    low, high = max(0.0, share - off), min(1.0, share + off)
    shares = f"{low:.1%} to {high:.1%} of the {pool} images of the training pool validate ({share:.1%} are meant)"
    sure: Severity = "critical" if pool * min(share, 1 - share) >= _SURE_FROM else "warning"
    return [
        _among("split", "splits", known, "kept", list(SPLITS), _SPLIT),
        _true("pool_fits_split", "splits", pools, "kept", _SPLIT),
        Check("phash_form", "splits", hashes, "kept", "ExpectColumnValuesToMatchRegex", form, _AGAIN),
        _true("same_bytes_one_split", "splits", "no file is in two splits", "kept", _SPLIT, column="bytes_alone"),
        _true("same_look_one_split", "splits", looks, "kept", _SPLIT, column="look_alone"),
        _true("near_look_one_split", "splits", near, "kept", _CLEANSE, column="near_alone"),
        _true("near_duplicates_removed", "splits", once, "kept", _CLEANSE, column="no_near_copy"),
        _total("validation_share", "splits", shares, _SPLIT, least=low, most=high, severity=sure),
    ]


def _count_checks(params: Params) -> list[Check]:
    gate = params.gate
    low, high = gate.min_mean_human_ratio, gate.max_mean_human_ratio
    share = f"at least {gate.min_human_share:.0%} of the kept images show people"
    mean = f"where there are people, they cover {low:.1%} to {high:.0%} of the picture on average"
    removed = f"at most {gate.max_removed_share:.0%} of the samples were removed"
    trains, tests = f"at least {gate.min_train_images} to train on", f"at least {gate.min_test_images} to test on"
    sources = f"every source gives at least {gate.min_source_images} images, if only as copies that another one keeps"
    nobody = f"at most {params.merge.no_human_share:.0%} as many images show nobody as show people, in each pool"
    suspects = f"at most {gate.max_suspect_share:.0%} of the kept labels are suspicious"
    validates = "at least one image to validate on"
    look = "look at the suspects' contact sheet, and repair or remove bad labels"
    return [
        _total("images", "manifest", f"at least {gate.min_images} images are kept", _MORE, least=gate.min_images),
        _total("train_images", "splits", trains, _MORE, least=gate.min_train_images),
        _total("test_images", "splits", tests, _MORE, least=gate.min_test_images),
        _total("validation_images", "splits", validates, _MORE, least=1, severity="warning"),
        _within("source_images", "manifest", sources, "sources", _REASONS, least=gate.min_source_images, column="kept"),
        _total("removed_share", "manifest", removed, _REASONS, most=gate.max_removed_share),
        _total("human_share", "people", share, _MORE, least=gate.min_human_share),
        _total("mean_human_ratio", "people", mean, _LABELS, least=low, most=high),
        _total("surplus_no_human", "people", nobody, "run the merge stage and those after it again", most=0),
        _total("suspect_share", "people", suspects, look, most=gate.max_suspect_share, severity="warning"),
    ]


def _drift_checks(params: Params, tables: Tables) -> list[Check]:
    names = {"human_ratio": "people's share of the picture", "tallest_ratio": "the tallest person's height"}
    severities: tuple[tuple[Severity, float], ...] = (
        ("critical", params.gate.psi_limit),
        ("warning", params.gate.psi_warning),
    )
    return [
        Check(
            f"drift_{measure}{'' if severity == 'critical' else '_warning'}",
            "drift",
            _drift_meaning(title, tables, tables.drift.get(measure), limit),
            "summary",
            "ExpectColumnValuesToBeBetween",
            {"column": f"psi_{measure}", "min_value": 0.0, "max_value": _drift_limit(tables.drift.get(measure), limit)},
            _DRIFT,
            severity,
        )
        for severity, limit in severities
        for measure, title in names.items()
    ]


def _drift_limit(drift: Drift | None, limit: float) -> float:
    return limit if drift is None else max(limit, drift.chance)


def _drift_meaning(title: str, tables: Tables, drift: Drift | None, limit: float) -> str:
    meaning = f"{title} has not shifted by more than {limit:g} (population stability index)"
    if drift is None:
        return f"{meaning}; there is no previous version to compare with"
    chance = f", or {drift.chance:.2g}, which so few images reach by chance" if drift.chance > limit else ""
    return f"{meaning}{chance} since {tables.baseline}"


def _among(
    name: str, group: Group, meaning: str, table: str, values: list[Any], next_step: str, *, column: str = ""
) -> Check:
    arguments = {"column": column or name, "value_set": values}
    return Check(name, group, meaning, table, "ExpectColumnValuesToBeInSet", arguments, next_step)


def _true(name: str, group: Group, meaning: str, table: str, next_step: str, *, column: str = "") -> Check:
    return _among(name, group, meaning, table, [True], next_step, column=column)


def _within(
    name: str,
    group: Group,
    meaning: str,
    table: str,
    next_step: str,
    *,
    least: float | None = None,
    most: float | None = None,
    severity: Severity = "critical",
    column: str = "",
) -> Check:
    arguments = {"column": column or name, "min_value": least, "max_value": most}
    return Check(name, group, meaning, table, "ExpectColumnValuesToBeBetween", arguments, next_step, severity)


def _total(name: str, group: Group, meaning: str, next_step: str, **bounds: Any) -> Check:
    return _within(name, group, meaning, "summary", next_step, **bounds)
