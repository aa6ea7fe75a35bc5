"""Which format is read by what, and the opening of an input: paths or a data frame."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from llm_esr.files import given_path
from llm_esr.tables.delimited import DelimitedSource
from llm_esr.tables.frames import FrameSource, is_frame
from llm_esr.tables.json_lines import JsonLinesSource
from llm_esr.tables.parquet import ParquetSource
from llm_esr.tables.parquet_parts import open_parts
from llm_esr.tables.source import Source, TableFile


@dataclass(frozen=True)
class Format:
    """A format of files."""

    suffixes: tuple[str, ...]
    open: Callable[[TableFile], Source]


# By the names of `DataConfig.format`.
FORMATS: dict[str, Format] = {
    "csv": Format((".csv",), DelimitedSource),
    "tsv": Format((".tsv", ".tab"), DelimitedSource),
    "parquet": Format((".parquet", ".pq"), ParquetSource),
    "jsonl": Format((".jsonl", ".ndjson", ".json"), JsonLinesSource),
    "inter": Format((".txt",), DelimitedSource),
}


def open_sources(
    table: Any, file_format: str, role: str, names: tuple[str, str], publisher: str = "table"
) -> list[Source]:
    """Open an input: a path, a list of paths (read one after another), or a data frame.

    Args:
        table: path(s), of files or of folders of Parquet parts, or a pandas, polars or Arrow table.
        file_format: a format of `DataConfig.format`; `auto` goes by the file's name.
        role: 'interactions' or 'items', for messages.
        names: what the two columns of a headerless `user item` file are called; the second is the items' id.
        publisher: whose files, `DataConfig.source`; JSON lines of items are read as that publisher writes them.

    Raises:
        FileNotFoundError: a path that does not exist.
        ValueError: no input, an unknown format, an empty file.
    """
    if is_frame(table):
        return [FrameSource(table, role)]
    paths = list(table) if isinstance(table, list | tuple) else [table]
    if not paths:
        raise ValueError(f"{role}: got an empty list; expected a path, some paths, or a data frame")
    return [one for path in paths for one in _open_path(path, file_format, role, names, publisher)]


def _open_path(value: Any, file_format: str, role: str, names: tuple[str, str], publisher: str) -> list[Source]:
    if not hasattr(value, "__fspath__") and not isinstance(value, str):
        raise ValueError(
            f"{role}: got {type(value).__name__}; expected a path, a list of paths, or a pandas, polars or Arrow table"
        )
    path = given_path(value)
    if not path.exists():
        raise FileNotFoundError(f"{role}: {path} does not exist; check the path (from {Path.cwd()})")
    if path.is_dir():
        if role == "interactions" and file_format not in {"auto", "parquet"}:
            raise ValueError(f"{role}: {path} is a folder; expected a {file_format} file, or a list of files")
        return open_parts(path, role, names, publisher)
    chosen = format_of(path) if file_format == "auto" else file_format
    if role == "items" and file_format != "auto":
        # --format is said of the interactions; it speaks for the items only where their name says nothing.
        chosen = format_of(path) or file_format
    if chosen is None:
        suffixes = ", ".join(suffix for known in FORMATS.values() for suffix in known.suffixes)
        raise ValueError(
            f"{role}: the format of {path.name} is not known from its name (known: {suffixes}, "
            f"each also with .gz); name it with --format {'|'.join(FORMATS)}"
        )
    return [FORMATS[chosen].open(TableFile(path, chosen, role, names, publisher))]


def format_of(path: Path) -> str | None:
    """The format that a file's name tells, or None."""
    suffixes = [suffix.lower() for suffix in path.suffixes]
    if suffixes and suffixes[-1] == ".gz":
        suffixes.pop()
    last = suffixes[-1] if suffixes else None
    return next((name for name, known in FORMATS.items() if last in known.suffixes), None)
