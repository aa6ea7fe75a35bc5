"""One cleaner for all formats: gives every row of a chunk one fate, the first that fits."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import polars as pl
from numpy.typing import NDArray

from llm_esr.config import DataConfig
from llm_esr.tables.row_report import RowReport
from llm_esr.tables.source import Chunk, LateColumns, Source, chunks_of
from llm_esr.tables.values import ID_TYPES, beyond_message, coarseness, id_text, numbers, shown_time, timestamps
from llm_esr.tables.where import Where


@dataclass(frozen=True)
class Clean:
    """A chunk after cleaning: every row's ids (they number users and items), and which rows are good."""

    users: pl.Series  # String, all rows read as a record; null: missing
    items: pl.Series
    kept: NDArray[np.bool_]
    timestamps: NDArray[np.int64] | None  # [rows], nanoseconds
    order: NDArray[np.int64] | NDArray[np.float64] | None  # [rows]
    texts: pl.DataFrame  # the text columns asked for, [rows]
    lines: NDArray[np.int64]
    source: Source


class Cleaner:
    """Reads sources chunk after chunk, counts what is not kept in `report`."""

    def __init__(self, sources: list[Source], config: DataConfig, text_columns: list[str]) -> None:
        """Find the columns.

        Raises:
            ValueError: a column that is not there; the message names the option.
        """
        self.report = RowReport()
        self.notes: list[str] = []
        self._sources = sources
        self._config = config
        self._texts = text_columns
        self._where = Where(config.where) if config.where is not None else None
        if config.user_column == config.item_column:
            raise ValueError(
                f"--user-column and --item-column are both '{config.user_column}'; expected two different columns"
            )
        self.timestamp = self._timestamp_column()
        self.order = config.order_column
        for source in sources:
            require(source, config.user_column, "--user-column")
            require(source, config.item_column, "--item-column")
            if self.timestamp is not None:
                require(source, self.timestamp, "--timestamp-column")
            if self.order is not None:
                require(source, self.order, "--order-column")
            for name in self._where.columns if self._where else []:
                require(source, name, "--where")
            for name in text_columns:
                require(source, name, "--text-columns (or --title-column)")
        wanted = [config.user_column, config.item_column, self.timestamp, self.order, *text_columns]
        wanted += self._where.columns if self._where else []
        self._columns = list(dict.fromkeys(name for name in wanted if name is not None))
        self._order_type: pl.DataType | None = None
        self._id_types: dict[str, set[pl.DataType | None]] = {"user": set(), "item": set()}
        self._numbers: set[str] | None = None

    def _timestamp_column(self) -> str | None:
        name = self._config.timestamp_column or None
        explicit = "timestamp_column" in self._config.model_fields_set
        if name is None or explicit or all(name in source.columns for source in self._sources):
            return name
        with_it = [source.name for source in self._sources if name in source.columns]
        if with_it:
            raise ValueError(
                f"{with_it[0]} has a column '{name}' and another file has none; give all files the same columns, "
                "or name the column with --timestamp-column"
            )
        return None

    def chunks(self) -> Iterator[Clean]:
        """Clean every chunk of every source, in order."""
        for source in self._sources:
            try:
                for chunk in source.chunks(self._columns):
                    yield self._clean(chunk, source)
            except LateColumns:
                if self._timestamp_column() != self.timestamp:
                    raise  # the one column that is read wherever it is

    def _clean(self, chunk: Chunk, source: Source) -> Clean:
        frame, config = chunk.frame, self._config
        self.report.read += chunk.n_read
        self.report.add(
            "malformed_record",
            len(chunk.malformed),
            ((source.name, source.line_kind, bad.line, f"{bad.text} ({bad.reason})") for bad in chunk.malformed),
        )
        for kind, column in (("user", config.user_column), ("item", config.item_column)):
            self._id_types[kind].add(frame.schema[column] if source.typed else None)
        users = _ids(frame[config.user_column], source, "--user-column")
        items = _ids(frame[config.item_column], source, "--item-column")
        fates = _Fates(self.report, chunk, source)
        fates.drop(
            "missing_id",
            users.is_null() | items.is_null(),
            lambda row: f"{config.user_column}={users[row] or ''}, {config.item_column}={items[row] or ''}",
        )
        times = self._times(frame, source, chunk, fates)
        order = self._order_values(frame, source, fates)
        if self._where is not None:
            tested = self._where_columns(frame.select(self._where.columns), fates)
            fates.drop("where", ~self._where.keep(tested, source.name), lambda row: _named(tested, row))
        return Clean(users, items, fates.kept, times, order, frame.select(self._texts), chunk.lines, source)

    def id_types(self) -> dict[str, str]:
        """Of `user` and `item`, those whose ids are numbers of one type in every chunk, and that type's name."""
        single = {kind: next(iter(types)) for kind, types in self._id_types.items() if len(types) == 1}
        return {kind: str(type_) for kind, type_ in single.items() if type_ is not None and str(type_) in ID_TYPES}

    def _times(self, frame: pl.DataFrame, source: Source, chunk: Chunk, fates: _Fates) -> NDArray[np.int64] | None:
        if self.timestamp is None:
            return None
        column, unit = frame[self.timestamp], self._config.timestamp_unit
        try:
            times = timestamps(column, unit)
        except TypeError as error:
            raise ValueError(
                f"{source.name}: column '{self.timestamp}' holds {error}; expected integers, ISO 8601 texts or "
                "datetimes: name another with --timestamp-column"
            ) from None
        coarse = coarseness(column, unit)
        if coarse is not None and not self.notes:
            self.notes.append(
                f"column '{self.timestamp}' is float32, which {coarse}: what lies closer together keeps the order of "
                "the rows; store times as int64"
            )
        beyond = times.beyond.to_numpy() & fates.kept
        if beyond.any():
            at = int(beyond.argmax())
            source_line = f"{source.name} {source.line_kind} {chunk.lines[at]}"
            raise ValueError(beyond_message(column[at], unit, source_line))
        fates.drop("bad_timestamp", times.nanoseconds.is_null(), lambda row: shown_time(column, row))
        return times.nanoseconds.fill_null(0).to_numpy()

    def _order_values(
        self, frame: pl.DataFrame, source: Source, fates: _Fates
    ) -> NDArray[np.int64] | NDArray[np.float64] | None:
        if self.order is None:
            return None
        column = frame[self.order]
        if isinstance(column.dtype, pl.Datetime | pl.Date):
            values = timestamps(column, "s").nanoseconds
        elif self._order_type is None:
            found = numbers(column)
            if found is None and frame.height:
                raise ValueError(
                    f"{source.name}: column '{self.order}' (--order-column) holds {_first(column)!r}; expected "
                    "numbers; name a column of times with --timestamp-column"
                )
            values = found if found is not None else column.cast(pl.Float64, strict=False)
        else:
            values = column.str.strip_chars() if column.dtype == pl.String else column
        if self._order_type is None:
            self._order_type = pl.Int64() if values.dtype.is_integer() else pl.Float64()
        if values.dtype.is_float() and self._order_type == pl.Int64:
            values = values.set(values != values.floor(), None)  # a cast would round without a word
        values = values.cast(self._order_type, strict=False)
        if values.dtype == pl.Float64:
            values = values.fill_nan(None)
        fates.drop("bad_order", values.is_null(), column.__getitem__)
        return values.fill_null(0).to_numpy()

    def _where_columns(self, frame: pl.DataFrame, fates: _Fates) -> pl.DataFrame:
        """Text columns as numbers where the condition or the values want them; a value that is none is dirty then."""
        if self._numbers is None:
            self._numbers = self._number_columns(frame)
        for name in self._numbers:
            if frame[name].dtype != pl.String:
                continue
            text = frame[name].str.strip_chars().replace("", None)
            # Whole numbers first, then any: a first chunk without a fraction does not forbid one later.
            values = text.cast(pl.Int64, strict=False)
            if values.null_count() > text.null_count():
                values = text.cast(pl.Float64, strict=False)
            fates.drop("bad_where_value", values.is_null() & text.is_not_null(), text.__getitem__)
            frame = frame.with_columns(values.alias(name))
        return frame

    def _number_columns(self, first: pl.DataFrame) -> set[str]:
        """Which text columns the condition reads as numbers.

        The first chunk gives a guess. Where the condition does not fit it, the columns that it compares with numbers
        are numbers, and those that are numbers in the first chunk alone are text: the whole input is looked through.
        """
        assert self._where is not None
        texts = [name for name in first.columns if first[name].dtype == pl.String]
        found = {name for name in texts if numbers(first[name]) is not None}
        if self._where.fits(first, found):
            return found
        if self._where.fits(first, set(texts)):
            return set(texts)
        throughout = {name for name in found if self._numbers_throughout(name)}
        return throughout if self._where.fits(first, throughout) else found

    def _numbers_throughout(self, name: str) -> bool:
        for source in self._sources:
            for chunk in chunks_of(source, [name]):
                column = chunk.frame[name]
                if column.dtype != pl.String or numbers(column) is not None:
                    continue
                if column.str.strip_chars().replace("", None).null_count() < len(column):
                    return False
        return True


class _Fates:
    """The rows of one chunk that are still good."""

    def __init__(self, report: RowReport, chunk: Chunk, source: Source) -> None:
        self.kept: NDArray[np.bool_] = np.ones(chunk.frame.height, dtype=np.bool_)
        self._report, self._lines, self._source = report, chunk.lines, source

    def drop(self, kind: str, bad: pl.Series, value: Callable[[int], object]) -> None:
        """Give the rows that are still good and `bad` a fate; `value` shows one of them."""
        rows = np.flatnonzero(bad.to_numpy() & self.kept)
        self.kept[rows] = False
        shown = rows[: self._report.room(kind)].tolist()
        examples = ((self._source.name, self._source.line_kind, int(self._lines[row]), value(row)) for row in shown)
        self._report.add(kind, len(rows), examples)


def require(source: Source, name: str, option: str) -> None:
    """Raise a `ValueError` that names `option` where `source` has no column `name`."""
    if name not in source.columns and hasattr(source, "find_all_columns"):
        source.find_all_columns()  # the first lines of JSON need not have every key
    if name in source.columns:
        return
    near = difflib.get_close_matches(name, source.columns, n=1, cutoff=0.6)
    hint = f"; did you mean '{near[0]}'?" if near else ""
    shown = ", ".join(source.columns[:30]) + (", ..." if len(source.columns) > 30 else "")
    raise ValueError(f"{source.name} has no column '{name}' (it has: {shown}){hint} Name one with {option}")


def _ids(column: pl.Series, source: Source, option: str) -> pl.Series:
    try:
        return id_text(column, typed=source.typed)
    except TypeError as error:
        raise ValueError(
            f"{source.name}: column '{column.name}' holds {error}; expected texts or numbers as ids: "
            f"name another with {option}"
        ) from None


def _named(frame: pl.DataFrame, row: int) -> str:
    return ", ".join(f"{name}={value}" for name, value in zip(frame.columns, frame.row(row), strict=True))


def _first(column: pl.Series) -> object:
    present = column.drop_nulls()
    return present[0] if len(present) else None
