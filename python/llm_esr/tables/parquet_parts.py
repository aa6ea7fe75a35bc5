"""A folder of Parquet parts, as Spark, Dask and warehouses write one, also hive-partitioned (`date=2024-01-01/...`).

Hidden names and those that begin with `_` (`_SUCCESS`, `_metadata`) are no parts, nor are `.crc` files. Parts are read
in the order of their paths, each as a source of its own, so that messages name the part and its row.
"""

from __future__ import annotations

import datetime
import hashlib
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import polars as pl

from llm_esr.files import checksum
from llm_esr.tables.parquet import ParquetSource
from llm_esr.tables.source import Chunk, Source, TableFile

_MAGIC = b"PAR1"
_WHOLE = re.compile(r"0|-?[1-9][0-9]{0,16}")
_DAY = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")
_NULL = "__HIVE_DEFAULT_PARTITION__"  # what Hive and Spark call a partition of nulls


class ParquetPart(ParquetSource):
    """One part of a folder; columns of its path stand beside those of the file.

    Attributes:
        folder: whose part it is.

    """

    def __init__(self, file: TableFile, folder: Path, values: dict[str, Any], types: dict[str, pl.DataType]) -> None:
        super().__init__(file)
        self.folder = folder
        # What a file holds itself counts.
        self._of_path = {name: value for name, value in values.items() if name not in self._columns}
        self._types = types

    @property
    def columns(self) -> list[str]:
        """Names of all columns, those of the path last."""
        return [*self._columns, *self._of_path]

    def chunks(self, columns: Sequence[str]) -> Iterator[Chunk]:
        """As of a single file; a column of the path has its one value in every row."""
        own = [name for name in columns if name not in self._of_path]
        # A column to count rows by, where none of the file's own is asked for.
        for chunk in super().chunks(own or self._columns[:1]):
            constants = [pl.lit(self._of_path[name], self._types[name]).alias(name)
                         for name in columns if name in self._of_path]  # fmt: skip
            yield Chunk(chunk.frame.with_columns(constants).select(list(columns)), chunk.lines, chunk.rows)


def open_parts(folder: Path, role: str, names: tuple[str, str], publisher: str = "table") -> list[Source]:
    """The parts of a folder, in the order of their paths; those without rows are left out.

    Raises:
        ValueError: no part, a file that is none, a Delta table, a damaged part, or parts whose columns differ; the
            message names the part and the column.
    """
    paths = part_paths(folder, role)
    hive = {path: _hive(path.relative_to(folder)) for path in paths}
    keys = list(hive[paths[0]])
    for path in paths:
        if list(hive[path]) != keys:
            raise ValueError(
                f"{path}: its folders name the columns {list(hive[path])}, those of {paths[0]} {keys}; expected parts "
                "of one table: move the others out of the folder"
            )
    types = {name: _type([hive[path][name] for path in paths]) for name in keys}
    parts = []
    for path in paths:
        values = {name: _value(hive[path][name], types[name]) for name in keys}
        parts.append(ParquetPart(TableFile(path, "parquet", role, names, publisher), folder, values, types))
    # A task that had nothing writes a part without rows, sometimes without types.
    parts = [part for part in parts if part.height] or parts[:1]
    for part in parts:
        refuse_other_columns(part.path, part.schema, parts[0].path, parts[0].schema)
    return list(parts)


def part_paths(folder: Path, role: str) -> list[Path]:
    """The Parquet files of a folder and its folders, sorted by path.

    Raises:
        ValueError: none, another file among them, or a table of a format whose log says which files count.
    """
    found = []
    for path in sorted(folder.rglob("*"), key=lambda path: path.relative_to(folder).parts):
        inner = path.relative_to(folder).parts
        if inner[0] == "_delta_log":
            raise ValueError(
                f"{role}: {folder} is a Delta table, whose log says which of its files count; write it out as plain "
                "Parquet first: spark.read.format('delta').load(...).write.parquet(...)"
            )
        if any(map(_is_hidden, inner)) or path.suffix == ".crc":
            continue
        if path.is_dir():
            if path.is_symlink():
                raise ValueError(
                    f"{role}: {path} links to a folder, whose parts would not be read; give the folder that it leads "
                    "to, or a list of files"
                )
            continue
        if not path.is_file():
            raise ValueError(f"{role}: {path} is no file, or links to none; take it out of the folder of parts")
        if not _is_parquet(path):
            raise ValueError(
                f"{role}: {path} is no Parquet file, and {folder} was given as a folder of Parquet parts; expected "
                "parts alone (names that begin with '.' or '_' are passed over), or a list of files"
            )
        found.append(path)
    if not found:
        raise ValueError(f"{role}: {folder} is a folder without a Parquet part; expected a file, or a folder of parts")
    return found


def _is_hidden(name: str) -> bool:
    """As Spark has it: a column of the path may begin with `_`."""
    return name.startswith(".") or (name.startswith("_") and "=" not in name)


def _is_parquet(path: Path) -> bool:
    if path.suffix.lower() in {".parquet", ".pq"}:
        return True  # a damaged one is named when it is opened
    with path.open("rb") as file:
        return file.read(len(_MAGIC)) == _MAGIC  # Impala and BigQuery leave the suffix out


def refuse_other_columns(path: Path, schema: pl.Schema, first: Path, expected: pl.Schema) -> None:
    """Raise a `ValueError` where a part has other columns than the first one; a column of nulls alone fits any type."""
    for name in [*expected, *schema]:
        came, wanted = schema.get(name), expected.get(name)
        if came == wanted or (came is not None and wanted is not None and pl.Null in (came, wanted)):
            continue
        said = f"has no column '{name}'" if came is None else f"has the column '{name}' of type {came}"
        other = "has none of that name" if wanted is None else f"has it as {wanted}"
        raise ValueError(f"{path} {said}, and {first} {other}; write all parts with the same columns and types")


def folder_provenance(folder: Path, parts: Sequence[ParquetPart]) -> dict[str, Any]:
    """One record for the parts of a folder: path, number, size, and a checksum of what they hold.

    Args:
        folder: whose parts they are.
        parts: those that hold rows.
    """
    return {
        "format": "parquet",
        "path": str(folder.absolute()),
        "parts": len(parts),
        "size": sum(part.path.stat().st_size for part in parts),
        "checksum": parts_checksum(folder, [part.path for part in parts]),
    }


def parts_checksum(folder: Path, paths: Sequence[Path]) -> str:
    """SHA-256 over the checksums of parts, each with the folders that it lies in; the names of files do not count."""
    sums = sorted(f"{path.parent.relative_to(folder).as_posix()} {checksum(path)}" for path in paths)
    return hashlib.sha256("\n".join(sums).encode()).hexdigest()


def _hive(path: Path) -> dict[str, str]:
    """`date=2024-01-01/shop=3/part.parquet` -> {'date': '2024-01-01', 'shop': '3'}."""
    pairs = (part.partition("=") for part in path.parts[:-1] if "=" in part)
    return {unquote(name): unquote(value) for name, _, value in pairs}


def _type(texts: Sequence[str]) -> pl.DataType:
    """Whole numbers, days, or text: what all values of a column of the path are, as Spark infers it."""
    values = [text for text in texts if text != _NULL]
    if values and all(_WHOLE.fullmatch(text) for text in values):
        return pl.Int64()
    if values and all(_day(text) is not None for text in values):
        return pl.Date()
    return pl.String()


def _value(text: str, kind: pl.DataType) -> Any:
    if text == _NULL:
        return None
    return int(text) if kind == pl.Int64 else _day(text) if kind == pl.Date else text


def _day(text: str) -> datetime.date | None:
    try:
        return datetime.date.fromisoformat(text) if _DAY.fullmatch(text) else None
    except ValueError:
        return None
