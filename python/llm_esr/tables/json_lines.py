"""JSON lines, parsed line by line: polars' scanner fails on one bad line."""

from __future__ import annotations

import gzip
import json
import math
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO, Any

import numpy as np
import polars as pl

from llm_esr.tables.published_formats import item_reader, parse_json
from llm_esr.tables.source import TEXT_ROWS, Chunk, LateColumns, Malformed, TableFile, file_provenance, record_numbers
from llm_esr.tables.values import number_text

SHOWN = 120  # characters of a bad record that are kept


class JsonLinesSource:
    """One JSON object a line, plain or gzip; items of a published format as its publisher writes them."""

    format = "jsonl"
    line_kind = "line"
    typed = True

    def __init__(self, file: TableFile) -> None:
        """Find the columns.

        Raises:
            ValueError: the first lines hold no JSON object; a damaged gzip stream.
        """
        self.name = str(file.path)
        self._path = file.path
        published = file.role == "items" and file.publisher != "table"
        # A record of a line, or a `ValueError`.
        self._read = item_reader(file.publisher, file.names[1]) if published else parse_json
        self._columns: list[str] = []
        self._late: list[str] = []
        names: dict[str, None] = {}
        for records, _, _ in self._parsed(4096):
            for record in records:
                names.update(dict.fromkeys(record))
            break
        if not names:
            raise ValueError(
                f"{self._path}: the first lines hold no JSON object; expected one object a line, such as "
                '{"user_id": "u1", "item_id": "i1"} (a JSON array has to be written as lines)'
            )
        self._columns = list(names)

    @property
    def columns(self) -> list[str]:
        """Every key of the first 4,096 records, and every one that a reading met later."""
        return self._columns

    def find_all_columns(self) -> None:
        """Look through the whole file for keys that come late."""
        names = dict.fromkeys(self._columns)
        for records, _, _ in self._parsed(TEXT_ROWS):
            for record in records:
                names.update(dict.fromkeys(record))
        self._columns = list(names)

    def _parsed(
        self, rows: int, columns: Sequence[str] | None = None
    ) -> Iterator[tuple[list[dict[str, Any]], list[int], list[Malformed]]]:
        records: list[dict[str, Any]] = []
        lines: list[int] = []
        bad: list[Malformed] = []
        known = set(self._columns) if columns is not None else set()
        try:
            with _open_bytes(self._path) as file:
                for line, raw in enumerate(file, start=1):
                    text = raw.removeprefix(b"\xef\xbb\xbf").strip() if line == 1 else raw.strip()
                    if not text:
                        continue
                    try:
                        record = self._read(text)
                        if b"\\u" in text and _has_half_characters(record):
                            raise ValueError("holds half of a character, such as an emoji that was cut in two")
                    except ValueError as error:
                        bad.append(Malformed(line, _shown(text), str(error)))
                    else:
                        if isinstance(record, dict):
                            # A chunk of whole reviews would hold gigabytes of text that nobody asked for.
                            if columns is not None and not known.issuperset(record):
                                known.update(record)
                                self._late += [name for name in record if name not in self._columns + self._late]
                            wanted = record if columns is None else {name: record.get(name) for name in columns}
                            records.append(wanted)
                            lines.append(line)
                        else:
                            bad.append(Malformed(line, _shown(text), f"a {type(record).__name__}, not an object"))
                    if len(records) + len(bad) >= rows:
                        yield records, lines, bad
                        records, lines, bad = [], [], []
        except (EOFError, gzip.BadGzipFile, zlib.error) as error:
            raise ValueError(
                f"{self._path}: the gzip stream is damaged or cut off ({error}); fetch the file again"
            ) from None
        if records or bad:
            yield records, lines, bad

    def chunks(self, columns: Sequence[str]) -> Iterator[Chunk]:
        """Read `columns`; a key that a record lacks is a null.

        Raises:
            LateColumns: after the last chunk, where a record has a key that the first ones had not.
        """
        before, self._late = 0, []
        for records, at, malformed in self._parsed(TEXT_ROWS, columns):
            series = [_json_column(name, [record[name] for record in records]) for name in columns]
            lines = np.asarray(at, dtype=np.int64)
            rows = record_numbers(lines, malformed, before)
            before += len(at) + len(malformed)
            yield Chunk(pl.DataFrame(series), lines, rows, malformed)
        if self._late:
            self._columns, self._late = self._columns + self._late, []
            raise LateColumns

    def provenance(self) -> dict[str, Any]:
        """Path, size, checksum."""
        return file_provenance(self._path, self.format)


def _open_bytes(path: Path) -> IO[bytes] | gzip.GzipFile:
    with path.open("rb") as file:
        compressed = file.read(2) == b"\x1f\x8b"
    return gzip.open(path, "rb") if compressed else path.open("rb")


def _shown(text: bytes) -> str:
    return text[: 4 * SHOWN].decode("utf-8", "replace")[:SHOWN]


def _json_column(name: str, values: list[Any]) -> pl.Series:
    """One type for a column of JSON values; where a column mixes types, their texts."""
    kinds = {type(value) for value in values if value is not None}
    if kinds == {int} and all(-(1 << 63) <= value < 1 << 63 for value in values if value is not None):
        return pl.Series(name, values, dtype=pl.Int64)
    if kinds == {float}:
        return pl.Series(name, values, dtype=pl.Float64)
    if kinds == {bool}:
        return pl.Series(name, values, dtype=pl.Boolean)
    return pl.Series(name, [None if _is_missing(value) else _json_text(value) for value in values], dtype=pl.String)


def _has_half_characters(value: Any) -> bool:
    """Whether a text holds a lone surrogate, as JSON's escapes can write it and UTF-8 cannot."""
    if isinstance(value, str):
        return not value.isascii() and any("\ud800" <= char <= "\udfff" for char in value)
    if isinstance(value, dict):
        return any(_has_half_characters(key) or _has_half_characters(part) for key, part in value.items())
    return isinstance(value, list) and any(map(_has_half_characters, value))


def _is_missing(value: Any) -> bool:
    """Python writes a missing number as NaN, and infinities; no JSON number is any of them."""
    return value is None or (isinstance(value, float) and not math.isfinite(value))


def _json_text(value: Any) -> str:
    if isinstance(value, str):
        return value
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, int | float):
        return number_text(value)
    if isinstance(value, list):
        return ", ".join(_json_text(part) for part in value if not _is_missing(part))
    return json.dumps(value, ensure_ascii=False)
