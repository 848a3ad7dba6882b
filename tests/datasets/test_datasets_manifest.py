"""The manifest: types, order, bytes and faults."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from privseg.datasets.manifest import (
    MANIFEST_COLUMNS,
    dataset_version,
    empty_row,
    manifest_fingerprint,
    manifest_frame,
    merge_manifests,
    read_manifest,
    write_manifest,
)
from privseg.errors import DataError, StorageError, UsageError


def row(sample_id: str, **fields: Any) -> dict[str, Any]:
    return empty_row(sample_id=sample_id, source=sample_id.split("/")[0], is_human=True, human_ratio=0.1) | fields


def test_columns_start_with_the_contract() -> None:
    assert MANIFEST_COLUMNS[:20] == (
        *("sample_id", "source", "image_path", "mask_path", "height", "width", "original_height", "original_width"),
        *("is_human", "human_ratio", "ignore_ratio", "components", "largest_component_ratio", "min_component_height"),
        *("phash", "split", "status", "reason", "sha256", "pool"),
    )


def test_written_and_read_back_sorted_with_the_same_types(tmp_path: Path) -> None:
    df = manifest_frame([row("a/2", human_ratio=1 / 3), row("a/1")])
    write_manifest(tmp_path / "manifest.parquet", df)
    back = read_manifest(tmp_path / "manifest.parquet")
    pd.testing.assert_frame_equal(back, df.iloc[::-1].reset_index(drop=True))


def test_same_content_gives_same_bytes_and_leaves_no_other_file(tmp_path: Path) -> None:
    df = manifest_frame([row("a/2"), row("a/1")])
    write_manifest(tmp_path / "one", df)
    write_manifest(tmp_path / "two", df.iloc[::-1])
    assert (tmp_path / "one").read_bytes() == (tmp_path / "two").read_bytes()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["one", "two"]


def test_an_empty_manifest_keeps_its_columns(tmp_path: Path) -> None:
    write_manifest(tmp_path / "m", manifest_frame([]))
    assert tuple(read_manifest(tmp_path / "m").columns) == MANIFEST_COLUMNS


def test_fingerprint_follows_content_not_order_nor_local_paths() -> None:
    df = manifest_frame([row("a/1"), row("a/2")])
    assert manifest_fingerprint(df) == manifest_fingerprint(df.iloc[::-1])
    assert manifest_fingerprint(df) == manifest_fingerprint(df.assign(detail="/some/folder: broken"))
    for column in MANIFEST_COLUMNS[:-1]:
        first = df[column].iloc[0]
        value = not first if df[column].dtype == "bool" else "other" if isinstance(first, str) else first + 1
        assert manifest_fingerprint(df) != manifest_fingerprint(df.assign(**{column: value})), column
    assert dataset_version(df) == f"ds-{manifest_fingerprint(df)[:12]}"


def test_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"nothing\.parquet: there is no manifest"):
        read_manifest(tmp_path / "nothing.parquet")


@pytest.mark.parametrize("column", ["human_ratio", "sha256", "detail"])
def test_missing_column_is_named(column: str, tmp_path: Path) -> None:
    manifest_frame([row("a/1")]).drop(columns=column).to_parquet(tmp_path / "m.parquet")
    with pytest.raises(DataError, match=f"no column {column}"):
        read_manifest(tmp_path / "m.parquet")


def test_column_of_another_type_is_named(tmp_path: Path) -> None:
    df = manifest_frame([row("a/1")])
    df.assign(height="tall").to_parquet(tmp_path / "m.parquet")
    with pytest.raises(DataError, match="column height is not all int64"):
        read_manifest(tmp_path / "m.parquet")


@pytest.mark.parametrize("value", [None, float("nan")])
def test_a_ratio_that_is_no_number_is_named(value: float | None, tmp_path: Path) -> None:
    df = manifest_frame([row("a/1")]).assign(human_ratio=value).astype({"human_ratio": "float64"})
    table = pa.Table.from_pandas(df, preserve_index=False)
    ratios = pa.array([value], pa.float64(), from_pandas=False)
    pq.write_table(table.set_column(table.column_names.index("human_ratio"), "human_ratio", ratios), tmp_path / "m")
    with pytest.raises(DataError, match="column human_ratio is not all double"):
        read_manifest(tmp_path / "m")


def test_damaged_file_is_named(tmp_path: Path) -> None:
    write_manifest(tmp_path / "m.parquet", manifest_frame([row("a/1")]))
    data = (tmp_path / "m.parquet").read_bytes()
    (tmp_path / "m.parquet").write_bytes(data[: len(data) // 2])
    with pytest.raises(DataError, match=r"m\.parquet: is no readable Parquet file"):
        read_manifest(tmp_path / "m.parquet")


def test_merge_refuses_a_sample_twice_and_nothing_at_all(tmp_path: Path) -> None:
    for name, sample_id in (("one", "b/1"), ("two", "a/1"), ("three", "b/1")):
        write_manifest(tmp_path / name, manifest_frame([row(sample_id)]))
    merged = merge_manifests([tmp_path / "one", tmp_path / "two"])
    assert list(merged["sample_id"]) == ["a/1", "b/1"]
    with pytest.raises(DataError, match="b/1: is in more than one manifest"):
        merge_manifests([tmp_path / "one", tmp_path / "three"])
    with pytest.raises(UsageError):
        merge_manifests([])


def test_an_unwritable_place_is_a_storage_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError):
        write_manifest(tmp_path / "file" / "manifest.parquet", manifest_frame([]))


def test_the_fingerprint_is_that_of_all_rows_as_one_text(monkeypatch: pytest.MonkeyPatch) -> None:
    df = manifest_frame([row(f"a/{index:02d}", human_ratio=1 / (index + 1)) for index in range(25)])
    whole = manifest_fingerprint(df)
    monkeypatch.setattr("privseg.datasets.manifest._ROWS_AT_ONCE", 7)
    assert manifest_fingerprint(df) == whole
    assert manifest_fingerprint(df.iloc[:-1]) != whole
    assert len(manifest_fingerprint(df.iloc[:0])) == 64
