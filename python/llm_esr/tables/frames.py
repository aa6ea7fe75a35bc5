"""Data frames of pandas, polars and Arrow, and a checksum of their contents."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from llm_esr.tables.source import TYPED_ROWS, Chunk, numbered
from llm_esr.tables.values import number_text


class FrameSource:
    """A pandas, polars or Arrow table."""

    format = "frame"
    line_kind = "row"
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
            yield numbered(self._frame.select(list(columns)).slice(start, TYPED_ROWS), start)

    def provenance(self) -> dict[str, Any]:
        """Shape and a checksum of the contents."""
        return {
            "format": self.format,
            "shape": list(self._frame.shape),
            "checksum": checksum_frame(self._frame),
        }


def is_frame(table: Any) -> bool:
    """Whether `table` is a pandas, polars or Arrow table."""
    return isinstance(table, pl.DataFrame | pl.LazyFrame) or _is_pandas(table) or hasattr(table, "__arrow_c_stream__")


def to_polars(table: Any, role: str) -> pl.DataFrame:
    """A polars frame with the same columns; a pandas column of mixed values becomes text.

    Raises:
        ValueError: a column name twice, or one that is not text.
    """
    if isinstance(table, pl.LazyFrame):
        return table.collect()
    if isinstance(table, pl.DataFrame):
        return table
    if _is_pandas(table):
        names = list(table.columns)
        if not all(isinstance(name, str) for name in names) or len(set(names)) != len(names):
            raise ValueError(f"{role}: the frame's column names must be different texts, got {names}; rename them")
        return pl.DataFrame([_pandas_column(table[name], name) for name in names])
    frame = pl.DataFrame(table)
    if not isinstance(frame, pl.DataFrame):
        raise ValueError(f"{role}: got {type(table).__name__}; expected a table with named columns")
    return frame


def checksum_frame(frame: pl.DataFrame) -> str:
    """SHA-256 over column names, types and the values of every row, in order."""
    digest = hashlib.sha256(repr(list(frame.schema.items())).encode())
    # Not every release of polars hashes lists.
    plain = frame.with_columns(
        pl.Series(name, list(map(repr, frame[name].to_list())), dtype=pl.String)
        for name, kind in frame.schema.items()
        if kind.is_nested()
    )
    if plain.width:
        digest.update(plain.hash_rows(seed=0).to_numpy().tobytes())
    return digest.hexdigest()


def _is_pandas(table: Any) -> bool:
    kind = type(table)
    return kind.__module__.split(".")[0] == "pandas" and kind.__name__ == "DataFrame"


def _pandas_column(column: Any, name: str) -> pl.Series:
    kind = getattr(column.dtype, "kind", "O")
    if str(column.dtype) in {"int64", "int32", "int16", "int8", "uint64", "uint32", "float64", "float32", "bool"}:
        return pl.Series(name, column.to_numpy())
    if kind == "M" and getattr(column.dtype, "tz", None) is None:
        return datetimes(name, column.to_numpy())
    if kind == "M":
        return datetimes(name, column.dt.tz_convert("UTC").dt.tz_localize(None).to_numpy())
    missing = column.isna().to_numpy()
    values = [None if gone else value for gone, value in zip(missing, column.tolist(), strict=True)]
    kinds = {type(value) for value in values if value is not None}
    if len(kinds) <= 1:
        try:
            return pl.Series(name, values, strict=True)
        except (TypeError, ValueError, OverflowError, pl.exceptions.PolarsError):
            pass
    texts = [None if value is None else _text(value) for value in values]
    try:
        return pl.Series(name, texts, dtype=pl.String)
    except UnicodeEncodeError:
        row = next(row for row, text in enumerate(texts) if text and any("\ud800" <= char <= "\udfff" for char in text))
        raise ValueError(
            f"column '{name}', row {row + 1}: {texts[row]!r:.80} holds half of a character, such as an emoji that was "
            "cut in two; correct it, or replace it: text.encode('utf-8', 'replace').decode()"
        ) from None


def datetimes(name: str, values: NDArray[np.datetime64]) -> pl.Series:
    """NumPy datetimes of any unit; those that 64 bits of milliseconds do not hold become the last that they hold."""
    unit = np.datetime_data(values.dtype)[0]
    if unit in ("ms", "us", "ns"):
        return pl.Series(name, values)
    seconds = values.astype("datetime64[s]").astype(np.int64)
    limit = np.iinfo(np.int64).max // 1000
    milliseconds = np.clip(seconds, -limit, limit) * 1000
    series = pl.Series(name, milliseconds).cast(pl.Datetime("ms"))
    return series.zip_with(pl.Series(~np.isnat(values)), pl.Series([None], dtype=pl.Datetime("ms")))


def _text(value: Any) -> str | None:
    if isinstance(value, float) and not math.isfinite(value):
        return None
    number = isinstance(value, int | float) and not isinstance(value, bool)
    return number_text(value) if number else str(value)
