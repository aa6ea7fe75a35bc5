"""Figures and ranks as data frames."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl

from llm_esr.evaluation.paired import RankedUsers

if TYPE_CHECKING:
    from llm_esr.data import Dataset

# The fields of a row of `metrics.json`, whatever values a report happens to have.
FIGURES: dict[str, type[pl.DataType]] = {
    "model": pl.String,
    "seed": pl.Int64,
    "split": pl.String,
    "protocol": pl.String,
    "group": pl.String,
    "metric": pl.String,
    "k": pl.Int64,
    "value": pl.Float64,
    "low": pl.Float64,
    "high": pl.Float64,
    "users": pl.Int64,
}
_NAMED = {"model": pl.String, "seed": pl.Int64, "split": pl.String, "protocol": pl.String}
_RANKS = {"user_id": pl.String, "item_id": pl.String, "above": pl.Int64, "tied": pl.Int64, "rank": pl.Float64}


def figures_frame(rows: Iterable[dict[str, Any]]) -> pl.DataFrame:
    """Rows of figures as a frame with the columns `FIGURES`."""
    rows = list(rows)
    # Column by column: polars would guess types from the first rows, where a column may be null.
    columns = [
        pl.Series(name, [None if row[name] is None else _plain(row[name], kind) for row in rows], dtype=kind)
        for name, kind in FIGURES.items()
    ]
    return pl.DataFrame(columns)


def ranks_frame(ranked: Sequence[RankedUsers], data: Dataset) -> pl.DataFrame:
    """Where each user's target stands, a row for each user and evaluation.

    Args:
        ranked: as `Report.ranked` has them.
        data: the data set that was evaluated.

    Returns:
        `model`, `seed`, `split`, `protocol`, `user_id`, `item_id` (the target's), `above` and `tied` (competing items
        with a higher and with the same score), `rank`: the mean of the ranks that the target takes over every order of
        the tied items, above + 1 + tied / 2.

    Raises:
        ValueError: ranks of users that the data set does not have.
    """
    (users, user_type), (items, item_type) = data.given_ids("user"), data.given_ids("item")
    schema = _NAMED | _RANKS | {"user_id": user_type, "item_id": item_type}
    parts = [pl.DataFrame(schema=schema)]
    for one in ranked:
        if len(one.users) and int(one.users.max()) >= data.n_users:
            raise ValueError(f"the ranks of {one.model} are of other users than the {data.n_users:,} of {data.folder}")
        targets = np.asarray(data.targets("validation" if one.split == "validation" else "test"))[one.users]
        named = {name: [getattr(one, name)] * len(targets) for name in _NAMED}
        found = {
            "user_id": users[one.users].tolist(),
            "item_id": items[targets - 1].tolist(),
            "above": one.above,
            "tied": one.tied,
            "rank": one.above + 1 + one.tied / 2,
        }
        parts.append(pl.DataFrame(named | found, schema=schema))
    return pl.concat(parts)


def _plain(value: Any, kind: type[pl.DataType]) -> Any:
    """A figure as the column has it: `metrics.json` writes a whole number where a figure is one."""
    return float(value) if kind is pl.Float64 else value
