"""One reader for each format: chunks of columns, with the physical line or row that each row came from.

Text tables are read by Rust (`_native.TableReader`), JSON lines line by line, Parquet and frames by polars. polars'
own CSV and JSON scanners are not used: they fail on one ragged row, or lose a field without a word.
"""

from __future__ import annotations

import gzip
import json
import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any, Protocol

import numpy as np
import polars as pl
from numpy.typing import NDArray

from llm_esr._native import TableReader
from llm_esr.files import checksum
from llm_esr.tables.frames import checksum_frame, is_frame, to_polars
from llm_esr.tables.published_formats import item_reader, parse_json
from llm_esr.tables.values import number_text

TEXT_ROWS = 1 << 17  # rows of a chunk of a text file
TYPED_ROWS = 1 << 20  # rows of a chunk of a Parquet file or a frame
SHOWN = 120  # characters of a bad record that are kept

FORMATS = {
    ".csv": "csv",
    ".tsv": "tsv",
    ".tab": "tsv",
    ".parquet": "parquet",
    ".pq": "parquet",
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".json": "jsonl",
    ".txt": "inter",
}


@dataclass(frozen=True)
class Malformed:
    """A record that could not be read at all."""

    line: int
    text: str
    reason: str


@dataclass(frozen=True)
class Chunk:
    """Some rows of one input: the columns asked for, and where each row stands in its file."""

    frame: pl.DataFrame
    lines: NDArray[np.int64]  # [rows of frame]: physical line (text) or row (Parquet, frame), from 1
    rows: NDArray[np.int64]  # [rows of frame]: 0-based record number in the file, malformed records counted
    malformed: list[Malformed] = field(default_factory=list)

    @property
    def n_read(self) -> int:
        """Records read, those that do not fit included."""
        return self.frame.height + len(self.malformed)


class Source(Protocol):
    """A table that can be read from its start, any number of times."""

    name: str  # the path, or what kind of frame
    format: str
    place: str  # 'line' or 'row': what `Chunk.lines` counts
    typed: bool  # whether columns have types of their own (else all are text)

    @property
    def columns(self) -> list[str]:
        """Names of all columns."""

    def chunks(self, columns: Sequence[str]) -> Iterator[Chunk]:
        """Read `columns` (names that exist), from the start."""

    def provenance(self) -> dict[str, Any]:
        """Where the rows came from: path, size and checksum."""


def open_sources(
    table: Any, file_format: str, role: str, names: tuple[str, str], source: str = "table"
) -> list[Source]:
    """Open an input: a path, a list of paths (read one after another), or a data frame.

    Args:
        table: path(s), or a pandas, polars or Arrow table.
        file_format: a format of `DataConfig.format`; `auto` goes by the file's name.
        role: 'interactions' or 'items', for messages.
        names: what the two columns of a headerless `user item` file are called; the second is the items' id.
        source: whose files, `DataConfig.source`; JSON lines of items are read as that source writes them.

    Raises:
        FileNotFoundError: a path that does not exist.
        ValueError: no input, an unknown format, an empty file.
    """
    if is_frame(table):
        return [FrameSource(table, role)]
    paths = list(table) if isinstance(table, list | tuple) else [table]
    if not paths:
        raise ValueError(f"{role}: got an empty list; expected a path, some paths, or a data frame")
    return [_open_path(path, file_format, role, names, source) for path in paths]


def _open_path(value: Any, file_format: str, role: str, names: tuple[str, str], source: str) -> Source:
    if not hasattr(value, "__fspath__") and not isinstance(value, str):
        raise ValueError(
            f"{role}: got {type(value).__name__}; expected a path, a list of paths, or a pandas, polars or Arrow table"
        )
    path = Path(value).expanduser()
    if not path.exists():
        raise FileNotFoundError(f"{role}: {path} does not exist; check the path (from {Path.cwd()})")
    if path.is_dir():
        raise ValueError(f"{role}: {path} is a folder; expected a file, or a list of files")
    chosen = format_of(path) if file_format == "auto" else file_format
    if role == "items" and file_format != "auto":
        # --format is said of the interactions; it speaks for the items only where their name says nothing.
        chosen = format_of(path) or file_format
    match chosen:
        case None:
            raise ValueError(
                f"{role}: the format of {path.name} is not known from its name (known: {', '.join(FORMATS)}, "
                "each also with .gz); name it with --format csv|tsv|parquet|jsonl|inter"
            )
        case "parquet":
            return ParquetSource(path)
        case "jsonl":
            original = role == "items" and source != "table"
            return JsonLinesSource(path, item_reader(source, names[1]) if original else parse_json)
        case "inter":
            if role == "items":
                raise ValueError(
                    f"items: {path} reads as `user item` pairs, which hold no item texts; "
                    "expected CSV, TSV, Parquet or JSON lines"
                )
            return TextSource(path, "inter", names)
        case _:
            return TextSource(path, chosen, names)


def format_of(path: Path) -> str | None:
    """The format that a file's name tells, or None."""
    suffixes = [suffix.lower() for suffix in path.suffixes]
    if suffixes and suffixes[-1] == ".gz":
        suffixes.pop()
    return FORMATS.get(suffixes[-1]) if suffixes else None


class TextSource:
    """CSV, TSV, or headerless `user item` pairs, plain or gzip."""

    place = "line"
    typed = False

    def __init__(self, path: Path, file_format: str, names: tuple[str, str]) -> None:
        self.name = str(path)
        self.format = file_format
        self._path = path
        self._renamed = dict(zip(names, ("user", "item"), strict=True)) if file_format == "inter" else {}
        self._columns = self._reader().columns
        if file_format == "inter":
            self._columns = list(names)

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
            rows = _record_numbers(lines, malformed, before)
            before += len(lines) + len(malformed)
            yield Chunk(pl.DataFrame(series), lines, rows, malformed)

    def provenance(self) -> dict[str, Any]:
        """Path, size, checksum."""
        return _file_provenance(self._path, self.format)


class JsonLinesSource:
    """One JSON object a line, plain or gzip; `read` makes a record of a line, or raises a `ValueError`."""

    format = "jsonl"
    place = "line"
    typed = True

    def __init__(self, path: Path, read: Callable[[bytes], Any] = parse_json) -> None:
        self.name = str(path)
        self._path = path
        self._read = read
        names: dict[str, None] = {}
        for records, _, _ in self._parsed(4096):
            for record in records:
                names.update(dict.fromkeys(record))
            break
        if not names:
            raise ValueError(
                f"{path}: the first lines hold no JSON object; expected one object a line, such as "
                '{"user_id": "u1", "item_id": "i1"} (a JSON array has to be written as lines)'
            )
        self._columns = list(names)

    @property
    def columns(self) -> list[str]:
        """Every key of the first 4,096 records."""
        return self._columns

    def _parsed(
        self, rows: int, columns: Sequence[str] | None = None
    ) -> Iterator[tuple[list[dict[str, Any]], list[int], list[Malformed]]]:
        records: list[dict[str, Any]] = []
        lines: list[int] = []
        bad: list[Malformed] = []
        try:
            with _open_bytes(self._path) as file:
                for line, raw in enumerate(file, start=1):
                    text = raw.removeprefix(b"\xef\xbb\xbf").strip() if line == 1 else raw.strip()
                    if not text:
                        continue
                    try:
                        record = self._read(text)
                    except ValueError as error:
                        bad.append(Malformed(line, _shown(text), str(error)))
                    else:
                        if isinstance(record, dict):
                            # A chunk of whole reviews would hold gigabytes of text that nobody asked for.
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
        """Read `columns`; a key that a record lacks is a null."""
        before = 0
        for records, at, malformed in self._parsed(TEXT_ROWS, columns):
            series = [_json_column(name, [record[name] for record in records]) for name in columns]
            lines = np.asarray(at, dtype=np.int64)
            rows = _record_numbers(lines, malformed, before)
            before += len(at) + len(malformed)
            yield Chunk(pl.DataFrame(series), lines, rows, malformed)

    def provenance(self) -> dict[str, Any]:
        """Path, size, checksum."""
        return _file_provenance(self._path, self.format)


class ParquetSource:
    """A Parquet file, read by row ranges."""

    format = "parquet"
    place = "row"
    typed = True

    def __init__(self, path: Path) -> None:
        self.name = str(path)
        self._path = path
        try:
            self._columns = pl.scan_parquet(path).collect_schema().names()
            self._height = int(pl.scan_parquet(path).select(pl.len()).collect().item())
        except (pl.exceptions.PolarsError, OSError) as error:
            raise self._unreadable(error) from None

    def _unreadable(self, error: Exception) -> ValueError:
        first = str(error).splitlines()[0]
        return ValueError(f"{self.name} is not a readable Parquet file ({first}); write or fetch it again")

    @property
    def columns(self) -> list[str]:
        """Names of all columns."""
        return self._columns

    def chunks(self, columns: Sequence[str]) -> Iterator[Chunk]:
        """Read `columns`; only row groups that a range touches are decoded."""
        for start in range(0, self._height, TYPED_ROWS):
            try:
                part = pl.scan_parquet(self._path).select(list(columns)).slice(start, TYPED_ROWS).collect()
            except (pl.exceptions.PolarsError, OSError) as error:
                raise self._unreadable(error) from None
            yield _numbered(part, start)

    def provenance(self) -> dict[str, Any]:
        """Path, size, checksum."""
        return _file_provenance(self._path, self.format)


class FrameSource:
    """A pandas, polars or Arrow table."""

    format = "frame"
    place = "row"
    typed = True

    def __init__(self, table: Any, role: str) -> None:
        self.name = f"the {role} frame"
        self._frame = to_polars(table, role)

    @property
    def columns(self) -> list[str]:
        """Names of all columns."""
        return self._frame.columns

    def chunks(self, columns: Sequence[str]) -> Iterator[Chunk]:
        """Hand out slices of `columns`."""
        for start in range(0, self._frame.height, TYPED_ROWS):
            yield _numbered(self._frame.select(list(columns)).slice(start, TYPED_ROWS), start)

    def provenance(self) -> dict[str, Any]:
        """Shape and a checksum of the contents."""
        return {
            "format": self.format,
            "shape": list(self._frame.shape),
            "checksum": checksum_frame(self._frame),
        }


def _numbered(part: pl.DataFrame, start: int) -> Chunk:
    rows = np.arange(start, start + part.height, dtype=np.int64)
    return Chunk(part, rows + 1, rows)


def _record_numbers(lines: NDArray[np.int64], malformed: list[Malformed], before: int) -> NDArray[np.int64]:
    bad = np.asarray([record.line for record in malformed], dtype=np.int64)
    return before + np.arange(len(lines), dtype=np.int64) + np.searchsorted(bad, lines)


def _file_provenance(path: Path, file_format: str) -> dict[str, Any]:
    return {
        "format": file_format,
        "path": str(path.absolute()),
        "size": path.stat().st_size,
        "checksum": checksum(path),
    }


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
    return pl.Series(name, [None if value is None else _json_text(value) for value in values], dtype=pl.String)


def _json_text(value: Any) -> str:
    if isinstance(value, str):
        return value
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, int | float):
        return number_text(value)
    if isinstance(value, list):
        return ", ".join(_json_text(part) for part in value if part is not None)
    return json.dumps(value, ensure_ascii=False)
