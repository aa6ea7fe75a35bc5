"""CSV, TSV and headerless pairs, read by Rust (`_native.TableReader`).

polars' own CSV scanner is not used: it fails on one ragged row, or loses a field without a word.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import polars as pl

from llm_esr._native import TableReader
from llm_esr.tables.source import TEXT_ROWS, Chunk, Malformed, TableFile, file_provenance, record_numbers


class DelimitedSource:
    """CSV, TSV, or headerless `user item` pairs, plain or gzip."""

    line_kind = "line"
    typed = False

    def __init__(self, file: TableFile) -> None:
        """Read the header.

        Raises:
            ValueError: pairs as an items table; an empty file.
        """
        self.name = str(file.path)
        self.format = file.format
        self._path = file.path
        pairs = file.format == "inter"
        if pairs and file.role == "items":
            raise ValueError(
                f"items: {file.path} reads as `user item` pairs, which hold no item texts; "
                "expected CSV, TSV, Parquet or JSON lines"
            )
        self._renamed = dict(zip(file.names, ("user", "item"), strict=True)) if pairs else {}
        columns = self._reader().columns
        self._columns = list(file.names) if pairs else columns

    @property
    def columns(self) -> list[str]:
        """Names of all columns, from the header."""
        return self._columns

    def _reader(self) -> TableReader:
        return TableReader(self._path, layout="pairs" if self.format == "inter" else self.format)

    def chunks(self, columns: Sequence[str]) -> Iterator[Chunk]:
        """Read `columns` as text."""
        reader = self._reader()
        names = [self._renamed.get(column, column) for column in columns]
        before = 0
        while (part := reader.read(TEXT_ROWS, names)) is not None:
            lines, fields, bad = part
            series = [pl.Series(name, values, dtype=pl.String) for name, values in zip(columns, fields, strict=True)]
            malformed = [
                Malformed(line, text, reason if last == line else f"{reason}; lines {line} to {last}")
                for line, last, text, reason in bad
            ]
            rows = record_numbers(lines, malformed, before)
            before += len(lines) + len(malformed)
            yield Chunk(pl.DataFrame(series), lines, rows, malformed)

    def provenance(self) -> dict[str, Any]:
        """Path, size, checksum."""
        return file_provenance(self._path, self.format)
