"""The items table: ids, source rows and texts; or texts found in the interactions."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from llm_esr.config import DataConfig
from llm_esr.tables.cleaning import require
from llm_esr.tables.parquet_parts import ParquetPart
from llm_esr.tables.row_report import RowReport
from llm_esr.tables.source import Source, chunks_of
from llm_esr.tables.values import IdForms, id_text, numbers, without_fraction

UNKNOWN = "unknown"  # the text of an item that the items table does not know


@dataclass(frozen=True)
class ItemTexts:
    """Items with texts. `frame`: `item_id`, `source_row` (0-based, null without an items table), then columns."""

    frame: pl.DataFrame
    text_columns: list[str]
    title_column: str | None
    n_rows: int | None = None  # records of the items table, dirty ones included; None: there is none
    report: RowReport | None = None


@dataclass
class ItemRows:
    """The rows of an items table that have an id, before equal ids are one. `table`: see `read_items`."""

    table: pl.DataFrame
    forms: IdForms
    report: RowReport
    sources: list[Source]


def read_items(sources: list[Source], config: DataConfig) -> ItemRows:
    """Read an items table whole; `item_texts` makes it one row an item.

    Raises:
        ValueError: a column that is not there; no row with an id.
    """
    id_column = config.items_id_column or config.item_column
    named = list(config.text_columns or [])
    if config.title_column is not None and config.title_column not in named:
        named.append(config.title_column)
    for source in sources:
        require(source, id_column, "--items-id-column")
        for name in named:
            option = "--title-column" if name == config.title_column else "--text-columns"
            require(source, name, option)
    _refuse_own_names(named)
    report, parts, start, forms = RowReport(), [], 0, IdForms()
    for source in sources:
        columns = [id_column, *(named if config.text_columns is not None else source.columns)]
        rows_read = 0
        # Without columns that were named every one counts, those that come late too.
        reading = source.chunks if config.text_columns is None else partial(chunks_of, source)
        for chunk in reading(list(dict.fromkeys(columns))):
            report.read += chunk.n_read
            rows_read += chunk.n_read
            bad = ((source.name, source.line_kind, record.line, record.text) for record in chunk.malformed)
            report.add("malformed_record", len(chunk.malformed), bad)
            try:
                ids = id_text(chunk.frame[id_column], typed=source.typed)
            except TypeError as error:
                raise ValueError(
                    f"{source.name}: column '{id_column}' holds {error}; expected texts or numbers as ids: name "
                    "another with --items-id-column"
                ) from None
            floats = forms.see(ids, typed=source.typed)
            missing = np.flatnonzero(ids.is_null().to_numpy())
            shown = [(source.name, source.line_kind, int(chunk.lines[row]), None) for row in missing[:5]]
            report.add("missing_id", len(missing), shown)
            own = pl.DataFrame(
                {
                    "item_id": ids,
                    "source_row": pl.Series(chunk.rows + start, dtype=pl.Int64),
                    "_file": pl.Series([source.name], dtype=pl.String).new_from_index(0, len(ids)),
                    "_line": pl.Series(chunk.lines, dtype=pl.Int64),
                    "_float": floats,
                }
            )
            others = chunk.frame.drop(id_column) if id_column not in named else chunk.frame
            parts.append(own.hstack(others.drop([n for n in own.columns if n in others.columns])))
        start += rows_read
    table = pl.concat(parts, how="diagonal_relaxed") if parts else pl.DataFrame()
    table = table.filter(pl.col("item_id").is_not_null()) if parts else table
    if not table.height:
        raise ValueError(
            f"{', '.join(source.name for source in sources)}: no row of the items table has an id in '{id_column}' "
            f"(read {report.read} rows); name the id column with --items-id-column"
        )
    return ItemRows(table, forms, report, sources)


def item_texts(rows: ItemRows, config: DataConfig) -> ItemTexts:
    """One row an item, the first of each id, with its texts."""
    table, report, sources = rows.table, rows.report, rows.sources
    if rows.forms.drops_fractions:
        whole = without_fraction(table["item_id"])
        table = table.with_columns(whole.zip_with(table["_float"], table["item_id"]).alias("item_id"))
    if any(isinstance(source, ParquetPart) for source in sources):
        table = _by_content(table)
    repeated = table.filter(~pl.col("item_id").is_first_distinct())
    line_kind = sources[0].line_kind
    examples = repeated.head(5).select("_file", "_line", "item_id").rows()
    report.add("duplicate", repeated.height, ((file, line_kind, line, value) for file, line, value in examples))
    table = table.filter(pl.col("item_id").is_first_distinct()).drop("_file", "_line", "_float")
    report.kept = table.height
    texts = list(config.text_columns) if config.text_columns is not None else _text_columns(table, sources)
    title = _title(config, texts)
    kept = texts if title is None or title in texts else [title, *texts]
    frame = table.select("item_id", "source_row", *(as_text(table[name]) for name in kept))
    return ItemTexts(frame, texts, title, report.read, report)


def _by_content(table: pl.DataFrame) -> pl.DataFrame:
    """Rows of parts by id, equal ids by what they hold: how the parts are cut decides nothing."""
    repeated = table.filter(pl.col("item_id").is_duplicated())
    single = table.filter(~pl.col("item_id").is_duplicated())
    own = {"item_id", "source_row", "_file", "_line", "_float"}
    texts = [as_text(repeated[name]).alias(f"_{number}")
             for number, name in enumerate(repeated.columns) if name not in own]  # fmt: skip
    keys = [series.name for series in texts]
    repeated = repeated.with_columns(texts).sort("item_id", *keys, nulls_last=True).drop(keys)
    return pl.concat([single, repeated]).sort("item_id", maintain_order=True)


def _refuse_own_names(names: list[str]) -> None:
    for name in names:
        if name in {"item", "item_id", "source_row", "training_count"}:
            raise ValueError(
                f"--text-columns: '{name}' is a column that items.parquet has of its own; rename it in the table"
            )


def _text_columns(table: pl.DataFrame, sources: list[Source]) -> list[str]:
    """Every text column; in a text file, where all is text, every column that is not all numbers."""
    typed = all(source.typed for source in sources)
    found = []
    for name in table.columns[2:]:
        column = table[name]
        kind = column.dtype
        texts = isinstance(kind, pl.List) and kind.inner == pl.String
        if kind == pl.String and not typed:
            texts = numbers(column) is None and bool(column.str.strip_chars().replace("", None).is_not_null().any())
        elif kind in (pl.String, pl.Categorical, pl.Enum):
            texts = True
        if texts and name not in {"item", "training_count"}:
            found.append(name)
    return found


def _title(config: DataConfig, texts: list[str]) -> str | None:
    if config.title_column is not None:
        return config.title_column
    return "title" if "title" in texts else next(iter(texts), None)


def as_text(column: pl.Series) -> pl.Series:
    """A column as text: lists joined by commas, blanks around a text removed, empty texts null."""
    kind = column.dtype
    if isinstance(kind, pl.List | pl.Array):
        values = [None if value is None else _joined(value) for value in column.to_list()]
        text = pl.Series(column.name, values, dtype=pl.String)
    elif isinstance(kind, pl.Struct) or kind in (pl.Binary, pl.Object):
        raise ValueError(f"text column '{column.name}' holds {kind}; expected texts, numbers or lists of texts")
    else:
        text = (column.fill_nan(None) if kind.is_float() else column).cast(pl.String)
    return text.str.strip_chars().replace("", None).alias(column.name)


def _joined(value: Any) -> str:
    return ", ".join(_joined(part) if isinstance(part, list) else str(part) for part in value if part is not None)


class TextVotes:
    """Texts of items as they come with interactions: the most frequent non-empty one, ties to the first."""

    def __init__(self, config: DataConfig) -> None:
        named = list(config.text_columns or [])
        self.title_column = config.title_column or next(iter(["title"] if "title" in named else named), None)
        self.text_columns = named or ([config.title_column] if config.title_column is not None else [])
        self.columns = list(dict.fromkeys([*self.text_columns, *([self.title_column] if self.title_column else [])]))
        _refuse_own_names(self.columns)
        self._votes: dict[str, pl.DataFrame] = {}
        self._seen = 0
        self.ties_by_text = False  # in place of the first

    def add(self, items: NDArray[np.int32], texts: pl.DataFrame) -> None:
        """Count the texts of some rows; `items` are numbers of `Numbering`."""
        for name in self.columns:
            votes = pl.DataFrame({"item": items, "text": as_text(texts[name])}).with_row_index("first", self._seen)
            votes = (
                votes.drop_nulls("text")
                .group_by("item", "text")
                .agg(pl.len().cast(pl.Int64).alias("count"), pl.col("first").min().cast(pl.Int64))
            )
            if name in self._votes:
                both = pl.concat([self._votes[name], votes.select(self._votes[name].columns)])
                votes = both.group_by("item", "text").agg(pl.col("count").sum(), pl.col("first").min())
            self._votes[name] = votes
        self._seen += len(items)

    def move(self, numbers: NDArray[np.int32]) -> None:
        """Give items other numbers, `numbers[old]`; votes of those that are one now add up."""
        for name, votes in self._votes.items():
            moved = votes.with_columns(pl.Series("item", numbers[votes["item"].to_numpy()]))
            self._votes[name] = moved.group_by("item", "text").agg(pl.col("count").sum(), pl.col("first").min())

    def texts(self, ids: list[str]) -> ItemTexts:
        """The winning texts, a row for each of `ids` (external ids by number)."""
        frame = pl.DataFrame(
            {
                "item_id": pl.Series(ids, dtype=pl.String),
                "source_row": pl.Series([None], dtype=pl.Int64).new_from_index(0, len(ids)),
                "item": np.arange(len(ids), dtype=np.int32),
            }
        )
        for name in self.columns:
            if name not in self._votes:
                frame = frame.with_columns(pl.lit(None, dtype=pl.String).alias(name))
                continue
            best = (
                self._votes[name]
                .sort(["item", "count", "text" if self.ties_by_text else "first"], descending=[False, True, False])
                .unique("item", keep="first", maintain_order=True)
                .select("item", pl.col("text").alias(name))
            )
            frame = frame.join(best, on="item", how="left", maintain_order="left")
        return ItemTexts(frame.drop("item"), self.text_columns, self.title_column)
