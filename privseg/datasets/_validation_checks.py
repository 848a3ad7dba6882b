"""What the dataset gate expects, as data: one entry an expectation."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from privseg.datasets.analyze import SPLITS
from privseg.datasets.manifest import MANIFEST_COLUMNS
from privseg.params import Params

__all__ = ["Check", "build_checks"]

_AGAIN = "run the ingest, cleanse and split stages again"
_SPLIT = "run the split stage again"
_CHANGED = "the files changed after ingest: ingest the source again"
_REPAIR = "replace or remove the named raw files, then ingest the source again"
_MORE = "add data, or lower the threshold under gate in params.yaml"
_LABELS = "check the source's label values (human, ignore) in params.yaml"
_REASONS = "check the reasons, then the data or the thresholds under cleanse in params.yaml"


@dataclass(frozen=True)
class Check:
    """One expectation on one table.

    Attributes:
        name: Short and unique.
        meaning: What holds when it passes.
        table: Key in ``Tables.frames``.
        expectation: Class name in ``great_expectations.expectations``.
        arguments: Its arguments.
        next_step: What to do when it fails.
        severity: A critical failure closes the gate, a warning is only reported.
    """

    name: str
    meaning: str
    table: str
    expectation: str
    arguments: dict[str, Any]
    next_step: str
    severity: Literal["critical", "warning"] = "critical"


def build_checks(params: Params) -> list[Check]:
    """All checks, in the order in which a failure is worth reading."""
    return [*_manifest_checks(), *_file_checks(params), *_row_checks(params), *_count_checks(params)]


def _manifest_checks() -> list[Check]:
    columns, unique, regex = (
        f"Expect{rest}"
        for rest in ("TableColumnsToMatchOrderedList", "ColumnValuesToBeUnique", "ColumnValuesToMatchRegex")
    )
    id_form = {"column": "sample_id", "regex": r"^[a-z0-9][a-z0-9_]{0,40}/[^/\\]+$"}
    return [
        Check(
            "columns",
            "the manifest has its columns, in their order",
            "manifest",
            columns,
            {"column_list": list(MANIFEST_COLUMNS)},
            _AGAIN,
        ),
        Check("sample_id_unique", "every sample is listed once", "manifest", unique, {"column": "sample_id"}, _AGAIN),
        Check("sample_id_form", "every sample_id is source/name", "manifest", regex, id_form, _AGAIN),
        _among("status", "every sample is kept or removed", "manifest", "status", ["kept", "removed"], _AGAIN),
        Check(
            "reason",
            "every removed sample says why",
            "removed",
            regex,
            {"column": "reason", "regex": "^[a-z_]+$"},
            _AGAIN,
        ),
    ]


def _file_checks(params: Params) -> list[Check]:
    size, unreadable = params.image.size, params.gate.max_unreadable
    squares = f"images and masks are {size}x{size} pixels"
    ratio = "the manifest's human_ratio is that of the mask file"
    bytes_ = "all kept files exist and have the bytes that were ingested"
    return [
        _total("unreadable", f"at most {unreadable} samples are unreadable", _REPAIR, most=unreadable),
        _among("decodes", "images and masks decode", "pixels", "decodes", [True], _CHANGED),
        _among("pixel_size", squares, "pixels", "size_fits", [True], _CHANGED),
        _among("mask_values", "masks hold only 0, 1 and 255", "pixels", "values_closed", [True], _CHANGED),
        _among("human_ratio_recomputed", ratio, "pixels", "ratio_fits", [True], _CHANGED),
        _among("files_intact", bytes_, "files", "intact", [True], _CHANGED),
    ]


def _row_checks(params: Params) -> list[Check]:
    size, ignored = params.image.size, params.cleanse.max_ignore_ratio
    known, pools = (
        "every kept sample is in train, validation or test",
        "test images, and only they, are from test pools",
    )
    looks = "no two images that look the same are in two splits"
    unlabelled = f"at most {ignored:.0%} of a kept picture is unlabelled"
    return [
        _among("height", f"kept samples are {size} pixels high", "kept", "height", [size], _AGAIN),
        _among("width", f"kept samples are {size} pixels wide", "kept", "width", [size], _AGAIN),
        _within("human_ratio", "human_ratio is between 0 and 1", "manifest", _AGAIN, least=0, most=1),
        _within("ignore_ratio", unlabelled, "kept", _AGAIN, least=0, most=ignored),
        _among("split", known, "kept", "split", list(SPLITS), _SPLIT),
        _among("pool_fits_split", pools, "kept", "pool_fits_split", [True], _SPLIT),
        _among("same_bytes_one_split", "no file is in two splits", "kept", "splits_of_sha256", [1], _SPLIT),
        _among("same_look_one_split", looks, "kept", "splits_of_phash", [1], _SPLIT),
    ]


def _count_checks(params: Params) -> list[Check]:
    gate = params.gate
    low, high = gate.min_mean_human_ratio, gate.max_mean_human_ratio
    share = f"at least {gate.min_human_share:.0%} of the kept images show people"
    mean = f"where there are people, they cover {low:.1%} to {high:.0%} of the picture on average"
    removed = f"at most {gate.max_removed_share:.0%} of the samples were removed"
    trains, tests = f"at least {gate.min_train_images} to train on", f"at least {gate.min_test_images} to test on"
    return [
        _total("images", f"at least {gate.min_images} images are kept", _MORE, least=gate.min_images),
        _total("train_images", trains, _MORE, least=gate.min_train_images),
        _total("test_images", tests, _MORE, least=gate.min_test_images),
        _total("human_share", share, _MORE, least=gate.min_human_share),
        _total("mean_human_ratio", mean, _LABELS, least=low, most=high),
        _total("removed_share", removed, _REASONS, most=gate.max_removed_share),
        _total("validation_images", "at least one image to validate on", _MORE, least=1, severity="warning"),
        _total("sources_emptied", "every source keeps an image", _REASONS, most=0, severity="warning"),
    ]


def _among(name: str, meaning: str, table: str, column: str, values: list[Any], next_step: str) -> Check:
    arguments = {"column": column, "value_set": values}
    return Check(name, meaning, table, "ExpectColumnValuesToBeInSet", arguments, next_step)


def _within(
    name: str,
    meaning: str,
    table: str,
    next_step: str,
    *,
    least: float | None = None,
    most: float | None = None,
    severity: Literal["critical", "warning"] = "critical",
) -> Check:
    arguments = {"column": name, "min_value": least, "max_value": most}
    return Check(name, meaning, table, "ExpectColumnValuesToBeBetween", arguments, next_step, severity)


def _total(name: str, meaning: str, next_step: str, **bounds: Any) -> Check:
    return _within(name, meaning, "summary", next_step, **bounds)
