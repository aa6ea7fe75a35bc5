"""Cold items: a share of the catalogue that training and validation never meet, so that new items can be judged.

After the split every interaction with a cold item is taken out of the training and validation parts; the test parts
stay. So a user's test target may be a cold item, and the histories that are read before it hold none.
"""

from __future__ import annotations

import hashlib
import math
from dataclasses import replace

import numpy as np
import polars as pl
from numpy.typing import NDArray

from llm_esr.config import DataConfig
from llm_esr.data.arranging import Arranged
from llm_esr.data.splitting import Splits
from llm_esr.tables.row_report import RowReport


def hold_out_cold(
    arranged: Arranged, splits: Splits, report: RowReport, config: DataConfig
) -> tuple[Arranged, Splits, int]:
    """The data set without interactions with cold items before the test, and how many items are cold.

    Users who have nothing else go with them; all items stay in the catalogue.

    Args:
        arranged: all interactions, numbered and in order.
        splits: where the parts of each user end.
        report: counts the interactions that go.
        config: `cold_items` and `cold_items_seed`; a share of 0 changes nothing.

    Raises:
        ValueError: a split that holds nothing out, or a share that leaves nothing to train on or draws no item.
    """
    if not config.cold_items:
        return arranged, splits, 0
    if config.split == "none":
        raise ValueError(
            "--cold-items holds items out of training for a test, and --split none has no test; take another split"
        )
    cold_I = draw_cold(arranged.item_frame["item_id"].to_list(), arranged.items, config)
    lengths_U = np.diff(arranged.offsets)
    place_T = np.arange(len(arranged.items)) - np.repeat(arranged.offsets[:-1], lengths_U)
    gone_T = cold_I[arranged.items] & (place_T < np.repeat(splits.ends[:, 1], lengths_U))
    users_T = np.repeat(np.arange(len(lengths_U)), lengths_U)
    in_training_T = gone_T & (place_T < np.repeat(splits.ends[:, 0], lengths_U))
    fewer = [np.bincount(users_T[mask], minlength=len(lengths_U)) for mask in (in_training_T, gone_T)]
    ends_U2 = splits.ends - np.stack(fewer, axis=1)
    if not ends_U2[:, 0].any():
        raise ValueError(f"--cold-items {config.cold_items:g} leaves no interaction to train on; lower it")
    left_U = lengths_U - fewer[1]
    stay_U = left_U > 0
    report.add("cold_item", int(gone_T.sum()))
    report.kept -= int(gone_T.sum())
    users = arranged.user_frame.filter(pl.Series(stay_U))
    users = users.with_columns(pl.Series("user", np.arange(users.height, dtype=np.int32)))
    made = replace(
        arranged,
        offsets=np.concatenate([np.zeros(1, np.int64), np.cumsum(left_U[stay_U])]),
        items=arranged.items[~gone_T],
        timestamps=None if arranged.timestamps is None else arranged.timestamps[~gone_T],
        user_frame=users,
        rows={**arranged.rows, "interactions": report.as_dict()},
        notes=[*arranged.notes, _note(int(cold_I.sum()), int(gone_T.sum()), len(stay_U) - users.height)],
    )
    return made, replace(splits, ends=ends_U2[stay_U]), int(cold_I.sum())


def draw_cold(ids: list[str], items: NDArray[np.int32], config: DataConfig) -> NDArray[np.bool_]:
    """Which items are cold, bool [I + 1], entry 0 is padding's: a share of those that somebody met.

    Items are drawn by a hash of seed and id: the order of the rows does not matter, and where the catalogue grows most
    of the cold items are the same.

    Raises:
        ValueError: the share is no item, or every one.
    """
    met = np.unique(items)
    count = math.floor(config.cold_items * len(met) + 0.5)
    if not 0 < count < len(met):
        raise ValueError(
            f"--cold-items {config.cold_items:g} of {len(met):,} items is {count:,}; expected a share that holds some "
            "items out and leaves others"
        )
    seed = config.cold_items_seed
    hashes = [hashlib.sha256(f"{seed}:{ids[item - 1]}".encode()).digest() for item in met.tolist()]
    order = sorted(range(len(met)), key=hashes.__getitem__)
    cold_I = np.zeros(len(ids) + 1, np.bool_)
    cold_I[met[order[:count]]] = True
    return cold_I


def _note(items: int, interactions: int, users: int) -> str:
    also = f", and {users:,} users who had no other" if users else ""
    return (
        f"{items:,} cold items: {interactions:,} interactions with them were taken out of the training and validation "
        f"parts{also}; as test targets they stay (group cold_target)"
    )
