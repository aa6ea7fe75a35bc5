"""Figures as rows: what `metrics.json` holds, and what every table is made from."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import polars as pl
from rich.console import Console

from llm_esr.evaluation.frames import figures_frame, ranks_frame
from llm_esr.evaluation.paired import RankedUsers
from llm_esr.evaluation.table import print_tables, render
from llm_esr.files import FORMAT, given_path, read_record, write_json
from llm_esr.files.lock import lock_record

if TYPE_CHECKING:
    from llm_esr.data import Dataset

KEY = ("model", "seed", "split", "protocol", "group", "metric", "k")

Row = dict[str, Any]


class Report:
    """The figures of one or more evaluations.

    Attributes:
        rows: one a figure, with the fields `model`, `seed`, `split`, `protocol`, `group`, `metric`, `k`, `value`,
            `low`, `high`, `users`. A group without users has the value None (0 in the paper's protocols). Some
            metrics are no measures; their `k` is None: `below` of `tail_item` and `tail_user` is the threshold,
            `not_ranked` of `all` the number of users with a target but no input, `strict_ties` of `all` and
            `skips_first` of `tail_item` are 1 where `evaluate.ties` is strict and `evaluate.tail_item_skips_first` on.
        ranked: where each user's target stands, an entry for each evaluation: what paired differences are made from.
    """

    def __init__(self, rows: list[Row], ranked: Sequence[RankedUsers] = ()) -> None:
        self.rows = rows
        self.ranked = list(ranked)

    @classmethod
    def load(cls, path: str | Path) -> Report:
        """The figures of a `metrics.json`; a run's folder stands for its own.

        Raises:
            FileNotFoundError: no such file.
            ValueError: it is damaged, or of another format.
        """
        path = given_path(path)
        return cls(read_rows(path / "metrics.json" if path.is_dir() else path))

    def __add__(self, other: Report) -> Report:
        return Report(merged(self.rows, other.rows), [*self.ranked, *other.ranked])

    def __repr__(self) -> str:
        models = ", ".join(dict.fromkeys(row["model"] for row in self.rows))
        return f"Report of {models}: {len(self.rows)} figures; .table() prints them"

    def value(self, metric: str = "ndcg", k: int | None = 10, group: str = "all", model: str | None = None) -> float:
        """One figure; `model` defaults to the first that is not popularity. `recall` is another name of `hr`.

        Raises:
            KeyError: no such figure, or its group has no users.
        """
        metric = "hr" if metric == "recall" else metric  # one relevant item each
        names = [row["model"] for row in self.rows]
        model = model or next((name for name in names if name != "popularity"), names[0])
        for row in self.rows:
            if (row["model"], row["metric"], row["k"], row["group"]) == (model, metric, k, group):
                if row["value"] is None:
                    raise KeyError(f"no user is in group {group}")
                return float(row["value"])
        raise KeyError(f"no figure {metric}@{k} of group {group} for model {model}")

    def table(self, console: Console | None = None) -> None:
        """Print the tables."""
        print_tables(self.rows, console, details=True)

    def text(self) -> str:
        """The tables as plain text."""
        return render(self.rows, details=True)

    def markdown(self) -> str:
        """The tables as Markdown."""
        return render(self.rows, "markdown", details=True)

    def to_polars(self) -> pl.DataFrame:
        """The rows as a frame: `seed`, `k` and `users` whole numbers, `value`, `low` and `high` floats."""
        return figures_frame(self.rows)

    def to_pandas(self) -> Any:
        """The rows as a pandas frame; `seed` and `k`, which may be missing, are `Int64`.

        Raises:
            ImportError: pandas is not installed.
        """
        try:
            import pandas as pd  # noqa: PLC0415 (not needed otherwise)
        except ImportError:
            raise ImportError("to_pandas needs pandas: pip install pandas; to_polars needs nothing more") from None
        frame = pd.DataFrame(self.to_polars().to_dict(as_series=False))
        return frame.astype({"seed": "Int64", "k": "Int64", "value": float, "low": float, "high": float})

    def ranks(self, data: Dataset) -> pl.DataFrame:
        """Where each user's target stands: see `llm_esr.evaluation.frames.ranks_frame`.

        Args:
            data: the data set that was evaluated. Reports of `load` hold no ranks.
        """
        return ranks_frame(self.ranked, data)

    def _repr_html_(self) -> str:
        return render(self.rows, "html") if self.rows else "<p>no figures</p>"

    def save(self, path: str | Path) -> None:
        """Put the rows into a `metrics.json`; see `merge_rows`."""
        merge_rows(path, self.rows)


def merged(old: Iterable[Row], new: Iterable[Row]) -> list[Row]:
    """The old rows, those with the key of a new one replaced in place, then the rest of the new ones.

    Old figures go where they would mean something else than the new ones beside them: of both groups, where a
    threshold between head and tail moves; of ranges that are no longer asked for, where others are; of every group,
    where ties are counted otherwise.
    """
    old, new = list(old), list(new)
    before, now = _by_evaluation(old), _by_evaluation(new)
    outdated = {name: _outdated_groups(before[name], now[name]) for name in before.keys() & now.keys()}
    rows = {_key(row): row for row in old if not _part_of(row, outdated.get(_evaluation(row), set()))}
    rows.update({_key(row): row for row in new})
    return list(rows.values())


def _part_of(row: Row, outdated: set[str]) -> bool:
    return row["group"] in outdated or (row["metric"] == "tail_share" and "tail_item" in outdated)


def _evaluation(row: Row) -> tuple[Any, ...]:
    return tuple(row[name] for name in KEY[:4])


def _by_evaluation(rows: list[Row]) -> dict[tuple[Any, ...], list[Row]]:
    found: dict[tuple[Any, ...], list[Row]] = {}
    for row in rows:
        found.setdefault(_evaluation(row), []).append(row)
    return found


def _outdated_groups(old: list[Row], new: list[Row]) -> set[str]:
    """The groups of one evaluation whose old figures do not fit beside the new ones."""
    groups = {row["group"] for row in old}
    if _moved(old, new, "all", "strict_ties"):
        return groups
    outdated: set[str] = set()
    if _moved(old, new, "tail_item", "below") or _moved(old, new, "tail_item", "skips_first"):
        outdated |= {"tail_item", "head_item"}
    if _moved(old, new, "tail_user", "below"):
        outdated |= {"tail_user", "head_user"}
    asked = {row["group"] for row in new}
    for kind in ("length_", "popularity_"):
        ranges = {group for group in asked if group.startswith(kind)}
        if ranges:
            outdated |= {group for group in groups if group.startswith(kind)} - ranges
    return outdated


def _moved(old: list[Row], new: list[Row], group: str, setting: str) -> bool:
    before, now = (
        next((row["value"] for row in rows if (row["group"], row["metric"]) == (group, setting)), None)
        for rows in (old, new)
    )
    return now is not None and bool(before != now)


def read_rows(path: str | Path) -> list[Row]:
    """The rows of a `metrics.json`.

    Raises:
        FileNotFoundError: no such file.
        ValueError: it is damaged, or of another format.
    """
    record = read_record(path)
    if record.get("format") != FORMAT or not isinstance(record.get("rows"), list):
        came = record.get("format")
        raise ValueError(f"{path}: expected metrics of format {FORMAT}, got {came}; remove the file to start anew")
    rows: list[Row] = record["rows"]
    for number, row in enumerate(rows):
        missing = [name for name in (*KEY, "value", "low", "high", "users") if name not in row]
        if missing:
            raise ValueError(f"{path}: row {number} lacks {', '.join(missing)}; remove the file to start anew")
    return rows


def merge_rows(path: str | Path, rows: list[Row]) -> None:
    """Put rows into a `metrics.json`: equal keys are replaced, the rest is kept; written whole or not at all."""
    path = Path(path)
    with lock_record(path):
        old = read_rows(path) if path.exists() else []
        write_json(path, {"format": FORMAT, "rows": merged(old, rows)})


def drop_rows(path: str | Path, model: str, seed: int | None) -> None:
    """Take a model's rows out of a `metrics.json`, as its figures are no longer true once it is trained anew."""
    path = Path(path)
    if not path.exists():
        return
    with lock_record(path):
        kept = [row for row in read_rows(path) if (row["model"], row["seed"]) != (model, seed)]
        write_json(path, {"format": FORMAT, "rows": kept})


def _key(row: Row) -> tuple[Any, ...]:
    return tuple(row[name] for name in KEY)
