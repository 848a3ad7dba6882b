"""Small typed tables in Parquet files: the datasets' tables besides the manifest."""

from __future__ import annotations

import io
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from privseg.datasets.manifest import write_atomic
from privseg.errors import DataError

__all__ = ["TableFile"]

_ARROW = {"str": pa.string(), "int64": pa.int64(), "float64": pa.float64(), "bool": pa.bool_()}


@dataclass(frozen=True)
class TableFile:
    """One kind of table.

    Attributes:
        what: What a message calls it.
        types: Pandas type of every column, in order.
        key: Columns that give the order of the rows.
        stage: The stage that writes it.
    """

    what: str
    types: dict[str, str]
    key: tuple[str, ...]
    stage: str

    @property
    def columns(self) -> tuple[str, ...]:
        """The columns' names, in order."""
        return tuple(self.types)

    def frame(self, rows: list[dict[str, Any]] | pd.DataFrame) -> pd.DataFrame:
        """A table from rows, sorted, its columns in order and of the right types."""
        df = pd.DataFrame(rows, columns=list(self.types)).astype(self.types)
        return df.sort_values(list(self.key), kind="stable", ignore_index=True)

    def write(self, path: Path, df: pd.DataFrame) -> None:
        """Write a table, atomically; the same content gives the same bytes.

        Raises:
            StorageError: The disk is full or the place cannot be written.
        """
        schema = pa.schema([pa.field(name, _ARROW[kind], nullable=False) for name, kind in self.types.items()])
        buffer = io.BytesIO()
        pq.write_table(
            pa.Table.from_pandas(self.frame(df), schema=schema, preserve_index=False), buffer, compression="zstd"
        )
        write_atomic(path, buffer.getvalue())

    def read(self, path: Path) -> pd.DataFrame:
        """Read a table.

        Raises:
            DataError: The file is missing, is no Parquet, or a column is missing or of another type.
        """
        again = f"run the stage {self.stage} again: dvc repro"
        if not path.is_file():
            raise DataError(path, f"there is no {self.what} here", again)
        try:
            table = pq.ParquetFile(io.BytesIO(path.read_bytes())).read()
        except (OSError, pa.ArrowException) as error:
            raise DataError(path, f"is no readable Parquet file ({error})", again) from None
        df: pd.DataFrame = table.to_pandas()
        for name, kind in self.types.items():
            if name not in df or df[name].isna().any():
                raise DataError(path, f"the {self.what} has no complete column {name}", again)
            found, wanted = table.schema.field(name).type, _ARROW[kind]
            if found != wanted and not (pa.types.is_large_string(found) and pa.types.is_string(wanted)):
                raise DataError(path, f"column {name} is {found}, not {wanted}", again)
        return self.frame(df)
