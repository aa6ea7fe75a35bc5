"""The interactions that stay, numbered for good and in order: what the files of a data set hold."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from llm_esr.config import DataConfig
from llm_esr.data.filtering import sort_order
from llm_esr.data.interactions import Interactions
from llm_esr.data.items import UNKNOWN, ItemTexts
from llm_esr.data.numbering import Numbering
from llm_esr.tables.cleaning import Cleaner

YEAR_1971 = 31_536_000 * 1_000_000_000


@dataclass
class Arranged:
    """The data set, numbered and in order."""

    offsets: NDArray[np.int64]
    items: NDArray[np.int32]
    timestamps: NDArray[np.int64] | None
    user_frame: pl.DataFrame
    item_frame: pl.DataFrame
    texts: ItemTexts
    n_raw_users: int
    rows: dict[str, Any]
    order: list[str]
    unmatched: int
    notes: list[str]
    numeric_ids: list[str]  # of `user` and `item`, those whose ids are numbers throughout
    id_types: dict[str, str]  # of `user` and `item`, those whose ids have a type of numbers in the table


def arrange(
    interactions: Interactions, keep: NDArray[np.bool_], texts: ItemTexts, config: DataConfig, cleaner: Cleaner
) -> Arranged:
    """Number users and items for good, and order each user's interactions by time."""
    all_kept = bool(keep.all())  # then nothing is copied

    def kept(values: Any) -> Any:
        return values if all_kept or values is None else values[keep]

    users, items = kept(interactions.users), kept(interactions.items)
    times, order = kept(interactions.timestamps), kept(interactions.order)
    user_counts = np.bincount(users, minlength=len(interactions.user_numbers))
    raw_users = np.flatnonzero(user_counts)
    lengths = user_counts[raw_users]
    offsets = np.concatenate([np.zeros(1, dtype=np.int64), np.cumsum(lengths)])
    seen = np.flatnonzero(np.bincount(items, minlength=len(interactions.item_numbers)))
    numbered = _number_items(interactions.item_numbers, seen, texts, config)
    # Sorting by raw numbers sorts by final ones, too: both follow the first appearance.
    by_time = sort_order(users, times, order, items if interactions.canonical else None)
    made_items = numbered.numbers[items[by_time]]
    made_times = times[by_time] if times is not None else None
    raw_ids = pl.Series("user_id", interactions.user_numbers.ids, dtype=pl.String)
    user_frame = pl.DataFrame(
        {
            "user": np.arange(len(raw_users), dtype=np.int32),
            "user_id": raw_ids.gather(raw_users),
            "source_row": raw_users.astype(np.int64),
        }
    )
    if made_times is not None and int(made_times.max()) < YEAR_1971 and int(made_times.min()) >= 0:
        numbered.notes.append("every timestamp lies in 1970; is --timestamp-unit right?")
    kinds = {"user": interactions.user_numbers, "item": interactions.item_numbers}
    names = [name for name in (cleaner.timestamp, cleaner.order) if name is not None]
    rows = {"interactions": cleaner.report.as_dict(), "items": texts.report.as_dict() if texts.report else None}
    return Arranged(
        offsets, made_items, made_times, user_frame, numbered.frame, texts, len(interactions.user_numbers), rows,
        [*(f"column {name}" for name in names), "item id" if interactions.canonical else "order of the input"],
        numbered.unmatched, numbered.notes,
        [kind for kind, numbering in kinds.items() if numbering.forms.numeric],
        cleaner.id_types(),
    )  # fmt: skip


@dataclass
class _Items:
    """Final items 1..I."""

    frame: pl.DataFrame  # `items.parquet` without counts
    numbers: NDArray[np.int32]  # final number by the number of `Numbering`; 0: no interaction is left
    unmatched: int  # items without a row in the items table
    notes: list[str]


def _number_items(numbering: Numbering, seen: NDArray[np.int64], texts: ItemTexts, config: DataConfig) -> _Items:
    raw_ids = numbering.ids
    seen_ids = pl.DataFrame({"item_id": pl.Series([raw_ids[raw] for raw in seen.tolist()], dtype=pl.String)})
    notes: list[str] = []
    if texts.report is None:
        frame = seen_ids.join(texts.frame, on="item_id", how="left", maintain_order="left")
        unmatched = 0
    else:
        known = texts.frame.join(seen_ids, on="item_id", how="semi", maintain_order="left")
        if not known.height:
            raise ValueError(
                "no item of the interactions is in the items table: the interactions have, for example, "
                f"{seen_ids['item_id'].head(3).to_list()}, the items table {texts.frame['item_id'].head(3).to_list()}; "
                "name the id columns with --item-column and --items-id-column"
            )
        unlisted = seen_ids.join(texts.frame, on="item_id", how="anti", maintain_order="left")
        unmatched = unlisted.height
        unseen = texts.frame.height - known.height
        if config.keep_unseen_items:
            known = texts.frame
        elif unseen:
            left_out = texts.frame.join(seen_ids, on="item_id", how="anti", maintain_order="left").head(5)
            examples = (("items", "row", row + 1, item_id) for item_id, row in left_out[:, :2].rows())
            texts.report.kept -= unseen
            texts.report.add("unseen", unseen, examples)
        if unmatched:
            names = texts.frame.columns[2:]
            unknown = [pl.lit(UNKNOWN).alias(name) for name in names]
            unlisted = unlisted.with_columns(pl.lit(None, dtype=pl.Int64).alias("source_row"), *unknown)
            known = pl.concat([known, unlisted.select(known.columns)])
            notes.append(
                f"{unmatched:,} items of the interactions have no row in the items table (such as "
                f"{', '.join(unlisted['item_id'].head(3).to_list())}); they are kept with text '{UNKNOWN}'"
            )
        frame = known
    frame = frame.insert_column(0, pl.Series("item", np.arange(1, frame.height + 1, dtype=np.int32)))
    lookup = seen_ids.join(frame.select("item_id", "item"), on="item_id", how="left", maintain_order="left")
    numbers = np.zeros(len(raw_ids), dtype=np.int32)
    numbers[seen] = lookup["item"].to_numpy()
    return _Items(frame, numbers, unmatched, notes)
