"""Top-k lists: of known users, of histories, in memory or chunk by chunk into a Parquet file.

Shapes: B users or histories of a chunk, I items, K places of a list.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl
import torch
from numpy.typing import NDArray

from llm_esr.doors import warn
from llm_esr.files import atomic_path
from llm_esr.files.parquet import scan_parquet, write_parquet
from llm_esr.files.temporaries import temporary
from llm_esr.scoring.fallback import ForEmptyHistories
from llm_esr.scoring.large_catalogue import LargeCatalogue
from llm_esr.scoring.lists import top_k
from llm_esr.scoring.scorer import Scorer, chunks, refuse_nan, scores_of
from llm_esr.serving.ids import external_id, external_ids, ids_in, unknown_message

if TYPE_CHECKING:
    from llm_esr.data import Dataset

_Lists = tuple[NDArray[np.int32], NDArray[np.float32]]
_ROWS_A_PART = 1 << 20  # rows that are held before they go to disk
_NAMED = 5  # rows or ids that a warning names


class NothingLeft(UserWarning):
    """Users or histories for whom no item is left to recommend, so that no row is theirs.

    Attributes:
        ids: their ids; of histories, their places.
    """

    def __init__(self, ids: list[Any]) -> None:
        self.ids = ids
        shown = ", ".join(str(name) for name in ids[:_NAMED]) + (", ..." if len(ids) > _NAMED else "")
        super().__init__(
            f"nothing is left to recommend for {len(ids):,} of those asked for ({shown}): they met every item that is "
            "allowed, and have no row"
        )


@dataclass(frozen=True)
class RecommendationFilter:
    """What a list may hold.

    Attributes:
        k: its length.
        allowed: bool [I]; None: everything.
        keep_seen: whether items of the history may come back.
        nothing_left: whose lists hold nothing, of those that were made with this filter.
    """

    k: int
    allowed: NDArray[np.bool_] | None = None
    keep_seen: bool = False
    nothing_left: list[Any] = field(default_factory=list, compare=False)

    def served(self, owners: NDArray[Any], ids_BK: NDArray[np.int32]) -> None:
        """Note whose lists hold nothing."""
        self.nothing_left.extend(owners[(ids_BK[:, :1] == 0).all(axis=1)].tolist())

    def tell(self) -> None:
        """Warn of lists that hold nothing."""
        if self.nothing_left:
            warn(NothingLeft(self.nothing_left))


def make_filter(
    data: Dataset, k: int, include: Any, exclude: Any, keep_seen: bool, skip_unknown: bool
) -> RecommendationFilter:
    """Check and translate the options of a request.

    Raises:
        ValueError: k below 1, an unknown item (unless `skip_unknown`), or nothing left to recommend.
    """
    k = list_length(k, data)
    if include is None and exclude is None:
        return RecommendationFilter(k, None, keep_seen)
    allowed_I = np.full(data.n_items, include is None)
    if include is not None:
        allowed_I[item_numbers(data, include, "include", skip_unknown) - 1] = True
    if exclude is not None:
        allowed_I[item_numbers(data, exclude, "exclude", skip_unknown) - 1] = False
    if not allowed_I.any():
        raise ValueError("include and exclude leave no item to recommend")
    return RecommendationFilter(k, allowed_I, keep_seen)


def list_length(k: Any, data: Dataset) -> int:
    """k, cut to the catalogue.

    Raises:
        ValueError: no whole number of at least 1.
    """
    if isinstance(k, bool) or not isinstance(k, (int, np.integer)) or k < 1:
        raise ValueError(f"k: expected a whole number of at least 1, got {k!r}")
    return min(int(k), data.n_items)


def known_users(data: Dataset, users: Any, skip_unknown: bool) -> NDArray[np.int64]:
    """Numbers of users, in the order asked for.

    Raises:
        ValueError: an unknown user, unless `skip_unknown`, which passes over it with a warning.
    """
    ids, index = ids_in(data, "user", external_ids(users)), data.user_index
    if not ids:
        warn("no user was given, so there is no list")
    unknown = [name for name in ids if name not in index]
    if unknown:
        message = unknown_message("user", unknown, index)
        if not skip_unknown:
            raise ValueError(
                f"{message} skip_unknown (--skip-unknown) passes over unknown users; a person not in the data "
                "is served by the history alone: histories=[[...]] (--history i3,i9)"
            )
        warn(f"{message} Passed over")
    return np.array([index[name] for name in ids if name in index], dtype=np.int64)


def known_items(data: Dataset, histories: Any) -> tuple[NDArray[np.int32], NDArray[np.int64]]:
    """Histories of external ids as (items int32 [T], offsets int64 [S + 1]); drops unknown items, warns.

    Raises:
        ValueError: not a list of lists of ids.
    """
    index = data.item_index
    rows: list[list[int]] = []
    unknown: list[str] = []
    for history in _each_history(histories):
        ids = ids_in(data, "item", [external_id(value) for value in history])
        rows.append([index[name] for name in ids if name in index])
        unknown += [name for name in ids if name not in index]
    if not rows:
        warn("no history was given, so there is no list")
    if unknown:
        warn(f"{unknown_message('item', unknown, index)} Left out of the histories")
    empty = [str(number) for number, row in enumerate(rows) if not row]
    if empty:
        named = ", ".join(empty[:_NAMED]) + (", ..." if len(empty) > _NAMED else "")
        warn(
            f"{len(empty)} of {len(rows)} histories have no known item (row {named}): they get the most popular items, "
            "scored by their count in training"
        )
    offsets = np.concatenate([[0], np.cumsum([len(row) for row in rows])]).astype(np.int64)
    return np.array([item for row in rows for item in row], dtype=np.int32), offsets


def _each_history(histories: Any) -> Iterator[Any]:
    """The histories of anything that can be gone through once.

    Raises:
        ValueError: not a list of lists.
    """
    expected = "histories: expected a list of histories, each a list of item ids, such as [['i3', 'i9']]"
    if isinstance(histories, (str, bytes, Mapping)) or not hasattr(histories, "__iter__"):
        raise ValueError(f"{expected}; got {histories!r:.80}")
    for number, history in enumerate(histories):
        if isinstance(history, (str, bytes, Mapping)) or not hasattr(history, "__iter__"):
            raise ValueError(f"{expected}; history {number} is {history!r:.80}")
        yield history


def user_frames(
    scorer: Scorer, data: Dataset, users: NDArray[np.int64], wanted: RecommendationFilter
) -> Iterator[pl.DataFrame]:
    """Lists of known users, a frame for each chunk; what they read is everything a user did."""
    names, type_ = data.given_ids("user")
    catalogue = Catalogue(data)
    for chunk in _chunks(scorer, users, data.n_items, wanted):
        items, offsets = data.histories(users[chunk], "serving")
        yield _frame(scorer, catalogue, items, offsets, wanted, Owners("user_id", names[users[chunk]], type_))


def history_frames(
    scorer: Scorer, data: Dataset, items: NDArray[np.int32], offsets: NDArray[np.int64], wanted: RecommendationFilter
) -> Iterator[pl.DataFrame]:
    """Lists for histories; the column `history` is the history's place, from 0."""
    rows = np.arange(len(offsets) - 1)
    catalogue = Catalogue(data)
    for chunk in _chunks(scorer, rows, data.n_items, wanted):
        cut = offsets[chunk.start : chunk.stop + 1]
        owners = Owners("history", rows[chunk], pl.Int64())
        yield _frame(scorer, catalogue, items[cut[0] : cut[-1]], cut - cut[0], wanted, owners)


def gather_frames(frames: Iterator[pl.DataFrame], data: Dataset, first: str) -> pl.DataFrame:
    """All frames as one; with the right columns where there are none."""
    found = list(frames)
    return pl.concat(found) if found else empty_frame(data, first)


def empty_frame(data: Dataset, first: str) -> pl.DataFrame:
    """A frame of lists without any."""
    types = {"history": pl.Int64(), "user_id": data.given_ids("user")[1], "similar_to": data.given_ids("item")[1]}
    schema: dict[str, Any] = {first: types[first], "rank": pl.Int32, "item_id": types["similar_to"]}
    schema["score"] = pl.Float32
    return pl.DataFrame(schema=schema | ({"title": pl.String} if data.titles() is not None else {}))


def write_frames(path: Path, frames: Iterator[pl.DataFrame], empty: pl.DataFrame) -> int:
    """Write frames to one Parquet file, whole or not at all, holding a bounded number of rows; returns the rows."""
    with atomic_path(path) as target, temporary(path) as folder:
        parts: list[Path] = []
        held: list[pl.DataFrame] = []
        rows = n_held = 0
        for frame in frames:
            held.append(frame)
            n_held += len(frame)
            if n_held >= _ROWS_A_PART:
                parts.append(_write_part(held, folder / f"{len(parts):06}.parquet"))
                rows, n_held, held = rows + n_held, 0, []
        if not parts:
            write_parquet(pl.concat([empty, *held]), target)
        else:
            if held:
                parts.append(_write_part(held, folder / f"{len(parts):06}.parquet"))
            scan_parquet(parts).sink_parquet(target.absolute(), maintain_order=True)
        return rows + n_held


def _write_part(held: list[pl.DataFrame], path: Path) -> Path:
    write_parquet(pl.concat(held), path)
    return path


class Catalogue:
    """What a list says of its items, read once for all chunks.

    Columns are picked by NumPy: threads of polars would never answer in a forked child.
    """

    def __init__(self, data: Dataset) -> None:
        titles = data.titles()
        self.n_items = data.n_items
        self.ids = np.array(data.item_ids, dtype=object)
        self.given_ids, self.id_type = data.given_ids("item")
        self.titles = None if titles is None else np.array(titles, dtype=object)


@dataclass(frozen=True)
class Owners:
    """Whose lists they are: the name of the first column, its values and their type."""

    name: str
    values: NDArray[Any]
    type: pl.DataType


def _frame(
    scorer: Scorer,
    catalogue: Catalogue,
    items: NDArray[np.int32],
    offsets: NDArray[np.int64],
    wanted: RecommendationFilter,
    owners: Owners,
) -> pl.DataFrame:
    ids_BK, values_BK = best_lists(scorer, catalogue.n_items, items, offsets, wanted)
    wanted.served(owners.values, ids_BK)
    return list_frame(catalogue, owners, ids_BK, values_BK)


def list_frame(
    catalogue: Catalogue, owners: Owners, ids_BK: NDArray[np.int32], values_BK: NDArray[np.float32]
) -> pl.DataFrame:
    """Lists as rows: whose, rank from 1, item, score and perhaps title; an id of 0 is no row."""
    row, place = np.nonzero(ids_BK)
    index_N = ids_BK[row, place].astype(np.int64) - 1
    columns = [
        pl.Series(owners.name, owners.values[row].tolist(), dtype=owners.type),
        pl.Series("rank", (place + 1).astype(np.int32)),
        pl.Series("item_id", catalogue.given_ids[index_N].tolist(), dtype=catalogue.id_type),
        pl.Series("score", values_BK[row, place]),
    ]
    if catalogue.titles is not None:
        columns.append(pl.Series("title", catalogue.titles[index_N].tolist(), dtype=pl.String))
    return pl.DataFrame(columns)


def best_lists(
    scorer: Scorer,
    n_items: int,
    items: NDArray[np.int32],
    offsets: NDArray[np.int64],
    wanted: RecommendationFilter,
) -> _Lists:
    """The lists of a chunk, ids [B, K] (0 where no item is left) and scores [B, K]."""
    sparse = _sparse_lists(scorer, wanted)
    if sparse is not None:
        return sparse(items, offsets, wanted.k, keep_seen=wanted.keep_seen)
    scores_BI = scores_of(scorer, items, offsets, n_items)
    refuse_nan(scorer, scores_BI)
    if wanted.allowed is not None:
        scores_BI = scores_BI.masked_fill(~torch.from_numpy(wanted.allowed).to(scores_BI.device), -torch.inf)
    return top_k(scores_BI, wanted.k, None if wanted.keep_seen else (items, offsets))


def _sparse_lists(scorer: Scorer, wanted: RecommendationFilter) -> Callable[..., _Lists] | None:
    """What gives lists without scoring the whole catalogue, where there is such a thing and every item is allowed."""
    if wanted.allowed is not None:
        return None
    if isinstance(scorer, ForEmptyHistories | LargeCatalogue) and scorer.has_lists:
        return scorer.lists
    return None


def _chunks(scorer: Scorer, rows: NDArray[np.int64], n_items: int, wanted: RecommendationFilter) -> Iterator[slice]:
    return chunks(rows, n_items if _sparse_lists(scorer, wanted) is None else wanted.k)


def item_numbers(data: Dataset, items: Any, option: str, skip_unknown: bool) -> NDArray[np.int64]:
    """Numbers of items, in the order asked for.

    Raises:
        ValueError: an unknown item, unless `skip_unknown`, which passes over it with a warning.
    """
    ids = ids_in(data, "item", external_ids(items))
    index: Mapping[str, int] = data.item_index
    unknown = [name for name in ids if name not in index]
    if unknown:
        message = f"{option}: {unknown_message('item', unknown, index)}"
        if not skip_unknown:
            raise ValueError(f"{message} skip_unknown (--skip-unknown) passes over unknown items")
        warn(f"{message} Passed over")
    return np.array([index[name] for name in ids if name in index], dtype=np.int64)
