"""What every format gives: chunks of columns, each row with its source line."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import polars as pl
from numpy.typing import NDArray

from llm_esr.files import checksum

TEXT_ROWS = 1 << 17  # rows of a chunk of a text file
TYPED_ROWS = 1 << 20  # rows of a chunk of a Parquet file or a frame


@dataclass(frozen=True)
class TableFile:
    """A file to open, and what is known of it."""

    path: Path
    format: str
    role: str  # 'interactions' or 'items'
    names: tuple[str, str]  # what the two columns of a headerless file are called; the second is the items' id
    publisher: str  # `DataConfig.source`: 'table', or whose published format it has


@dataclass(frozen=True)
class Malformed:
    """A record that could not be read at all."""

    line: int
    text: str
    reason: str


@dataclass(frozen=True)
class Chunk:
    """Some rows of one input: the columns asked for, and each row's source line."""

    frame: pl.DataFrame
    lines: NDArray[np.int64]  # [rows of frame]: source line (text) or row (Parquet, frame), from 1
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
    line_kind: str  # 'line' or 'row': what `Chunk.lines` counts
    typed: bool  # whether columns have types of their own (else all are text)

    @property
    def columns(self) -> list[str]:
        """Names of all columns."""

    def chunks(self, columns: Sequence[str]) -> Iterator[Chunk]:
        """Read `columns` (names that exist), from the start.

        Raises:
            LateColumns: after the last chunk, where later lines have columns that `columns` did not name before.
        """

    def provenance(self) -> dict[str, Any]:
        """The origin of the rows: path, size and checksum."""


class LateColumns(Exception):  # noqa: N818 (a signal, not an error)
    """Columns were found that the first lines did not show; `Source.columns` has them now, and reading starts anew."""


def chunks_of(source: Source, columns: Sequence[str]) -> Iterator[Chunk]:
    """The chunks of columns that were chosen by name, whatever other columns come late."""
    with suppress(LateColumns):
        yield from source.chunks(columns)


def numbered(part: pl.DataFrame, start: int) -> Chunk:
    """A chunk of a table without lines: its rows are counted, `start` of them come before it."""
    rows = np.arange(start, start + part.height, dtype=np.int64)
    return Chunk(part, rows + 1, rows)


def record_numbers(lines: NDArray[np.int64], malformed: list[Malformed], before: int) -> NDArray[np.int64]:
    """Record numbers of rows at `lines`, 0-based, malformed records counted; `before` come in earlier chunks."""
    bad = np.asarray([record.line for record in malformed], dtype=np.int64)
    return before + np.arange(len(lines), dtype=np.int64) + np.searchsorted(bad, lines)


def file_provenance(path: Path, file_format: str) -> dict[str, Any]:
    """Path, size and checksum of a file."""
    return {
        "format": file_format,
        "path": str(path.absolute()),
        "size": path.stat().st_size,
        "checksum": checksum(path),
    }
