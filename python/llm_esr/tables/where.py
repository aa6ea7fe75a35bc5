"""`--where`: a condition on each row, in SQL, that keeps the rows for which it is true."""

from __future__ import annotations

import json
from collections.abc import Set
from typing import Any

import polars as pl

# Anything that looks at other rows would depend on how the table was cut into chunks.
_OTHER_ROWS = {
    "Agg", "Over", "Window", "Len", "IntRange", "Shift", "ShiftAndFill", "CumSum", "CumMin", "CumMax", "CumProd",
    "CumCount", "Rank", "RankBy", "Random", "Unique", "Diff", "Reverse", "Sort", "SortBy", "Gather", "Filter", "Slice",
    "SubPlan", "Explode", "Mode", "Interpolate", "BackwardFill", "ForwardFill", "PctChange", "RollingExpr",
    "ValueCounts",
}  # fmt: skip


class Where:
    """A parsed condition."""

    def __init__(self, text: str) -> None:
        """Parse `text`.

        Raises:
            ValueError: not an expression, or one that looks at other rows.
        """
        self.text = text
        try:
            # In brackets, because some releases of polars read an expression and ignore the text behind it.
            self._expression = pl.sql_expr(f"({text}\n)")
            many = self._expression.meta.has_multiple_outputs()
            self.columns = sorted(set(self._expression.meta.root_names()))
            tree = json.loads(self._expression.meta.serialize(format="json"))
        except (pl.exceptions.PolarsError, ValueError, TypeError) as error:
            raise ValueError(f"--where {text!r}: {_first_line(error)}; {_EXPECTED}") from None
        if many:
            raise ValueError(f"--where {text!r} gives several columns; {_EXPECTED}")
        if _looks_at_other_rows(tree):
            raise ValueError(
                f"--where {text!r} looks at other rows (an aggregate, a window or a subquery); {_EXPECTED} "
                "that a row answers alone"
            )
        if not self.columns:
            raise ValueError(f"--where {text!r} names no column; {_EXPECTED}")

    def fits(self, frame: pl.DataFrame, as_numbers: Set[str]) -> bool:
        """Whether the condition can be asked of columns of these types, some of the text columns read as numbers."""
        empty = frame.clear().with_columns(pl.col(name).cast(pl.Float64) for name in sorted(as_numbers))
        try:
            return empty.select(self._expression.alias("answer")).to_series().dtype == pl.Boolean
        except (pl.exceptions.PolarsError, TypeError):
            return False

    def keep(self, frame: pl.DataFrame, name: str) -> pl.Series:
        """Which rows of `frame` fulfil the condition; a null answer is a no, as in SQL.

        Raises:
            ValueError: the condition does not fit the columns' types, or is no condition.
        """
        try:
            answer = frame.select(self._expression.alias("answer")).to_series()
        except (pl.exceptions.PolarsError, TypeError) as error:
            raise ValueError(f"--where {self.text!r} on {name}: {_first_line(error)} ({_types(frame)})") from None
        if answer.dtype != pl.Boolean or len(answer) != frame.height:
            raise ValueError(f"--where {self.text!r} gives {answer.dtype}, not true or false; {_EXPECTED}")
        return answer.fill_null(False)


_EXPECTED = "expected one condition in SQL, such as \"Quantity > 0 AND Country = 'France'\""


def _looks_at_other_rows(tree: Any) -> bool:
    if isinstance(tree, dict):
        inner = {name: part for name, part in tree.items() if name not in ("Literal", "Column")}
        return not _OTHER_ROWS.isdisjoint(inner) or any(_looks_at_other_rows(part) for part in inner.values())
    if isinstance(tree, list):
        return any(_looks_at_other_rows(part) for part in tree)
    return isinstance(tree, str) and tree in _OTHER_ROWS


def _first_line(error: BaseException) -> str:
    return str(error).strip().splitlines()[0]


def _types(frame: pl.DataFrame) -> str:
    kinds = (f"{name} is {'text' if kind == pl.String else kind}" for name, kind in frame.schema.items())
    return "read as: " + ", ".join(kinds)
