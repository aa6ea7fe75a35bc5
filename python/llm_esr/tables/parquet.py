"""Parquet files, read by polars."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import polars as pl

from llm_esr.files.parquet import collect, scan_parquet
from llm_esr.tables.source import TYPED_ROWS, Chunk, TableFile, file_provenance, numbered


class ParquetSource:
    """A Parquet file, read by row ranges."""

    format = "parquet"
    line_kind = "row"
    typed = True

    def __init__(self, file: TableFile) -> None:
        """Read the schema and the number of rows.

        Raises:
            ValueError: not a readable Parquet file.
        """
        self.name = str(file.path)
        self.path = file.path
        self.schema = collect(scan_parquet(file.path).head(0), file.path).schema
        self._columns = list(self.schema)
        self.height = int(collect(scan_parquet(file.path).select(pl.len()), file.path).item())

    @property
    def columns(self) -> list[str]:
        """Names of all columns."""
        return self._columns

    def chunks(self, columns: Sequence[str]) -> Iterator[Chunk]:
        """Read `columns`; only row groups that a range touches are decoded."""
        for start in range(0, self.height, TYPED_ROWS):
            part = collect(scan_parquet(self.path).select(list(columns)).slice(start, TYPED_ROWS), self.path)
            yield numbered(part, start)

    def provenance(self) -> dict[str, Any]:
        """Path, size, checksum."""
        return file_provenance(self.path, self.format)
