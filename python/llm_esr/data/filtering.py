"""Which interactions stay: duplicates and count filters, and the order of a user's interactions."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from llm_esr.config import DataConfig
from llm_esr.data.interactions import Interactions
from llm_esr.tables.row_report import RowReport, lines_of

Bools = NDArray[np.bool_]


def filter_interactions(interactions: Interactions, report: RowReport, config: DataConfig) -> Bools:
    """Which interactions stay, [n]: duplicates and what is below a count go, and are counted in `report`.

    Raises:
        ValueError: none stays.
    """
    keep = np.ones(len(interactions.users), dtype=np.bool_)
    if config.duplicates != "all":
        by_time = sort_order(
            interactions.users,
            interactions.timestamps,
            interactions.order,
            interactions.items if interactions.canonical else None,
        )
        moments = interactions.timestamps if interactions.timestamps is not None else interactions.order
        repeats = duplicates_of(
            config.duplicates,
            interactions.users[by_time],
            interactions.items[by_time],
            None if moments is None else moments[by_time],
        )
        gone = np.sort(by_time[repeats])
        keep[gone] = False
        report.add("duplicate", len(gone), _shown(interactions, gone))
    left = np.flatnonzero(keep)
    below = below_counts(
        interactions.users[left], interactions.items[left], config.min_user_count, config.min_item_count
    )
    gone = left[below]
    keep[gone] = False
    report.add("count_filter", len(gone), _shown(interactions, gone))
    report.kept = int(keep.sum())
    if not report.kept:
        raise ValueError(
            f"no interaction is left: --min-user-count {config.min_user_count} and --min-item-count "
            f"{config.min_item_count} leave none; lower them\n" + "\n".join(lines_of(report.as_dict(), "interactions"))
        )
    return keep


def _shown(interactions: Interactions, rows: NDArray[np.int64]) -> list[tuple[str, str, int, object]]:
    users, items = interactions.user_numbers.ids, interactions.item_numbers.ids
    shown: list[tuple[str, str, int, object]] = []
    for row in rows[:5].tolist():
        source, line = interactions.source_lines.find(row)
        shown.append(
            (source.name, source.line_kind, line, f"{users[interactions.users[row]]}, {items[interactions.items[row]]}")
        )
    return shown


def sort_order(
    users: NDArray[np.int32],
    timestamps: NDArray[np.int64] | None,
    order: NDArray[np.int64] | NDArray[np.float64] | None,
    items: NDArray[np.int32] | None = None,
) -> NDArray[np.int64]:
    """Positions [n] in the order: user, time, order column, item (where items are given), input."""
    keys = [key for key in (items, order, timestamps, users) if key is not None]
    # lexsort is stable and takes the most important key last, so ties keep the order of the input.
    return np.lexsort(keys).astype(np.int64, copy=False)


def duplicates_of(
    kind: str,
    users: NDArray[np.int32],
    items: NDArray[np.int32],
    moments: NDArray[np.int64] | NDArray[np.float64] | None,
) -> Bools:
    """Which of the interactions (sorted as by `sort_order`) repeat an earlier one.

    Args:
        kind: `exact`: the same user, item and moment; `first`: the same user and item; `all`: none is a repeat.
        users: [n].
        items: [n].
        moments: [n] timestamps (or values of the order column); needed by `exact`.
    """
    repeats = np.zeros(len(users), dtype=np.bool_)
    if kind == "all" or not len(users):
        return repeats
    keys: list[NDArray[np.int64] | NDArray[np.int32] | NDArray[np.float64]] = [items, users]
    if kind == "exact":
        assert moments is not None
        keys.insert(0, moments)
    by_key = np.lexsort(keys)
    same = np.ones(len(users) - 1, dtype=np.bool_)
    for key in keys:
        sorted_key = key[by_key]
        same &= sorted_key[1:] == sorted_key[:-1]
    repeats[by_key[1:][same]] = True
    return repeats


def below_counts(users: NDArray[np.int32], items: NDArray[np.int32], min_user_count: int, min_item_count: int) -> Bools:
    """Which interactions go so that every user and item left has the counts asked for (repeated until both hold)."""
    gone = np.zeros(len(users), dtype=np.bool_)
    while min_user_count > 1 or min_item_count > 1:
        left = ~gone
        bad = gone.copy()
        for ids, least in ((users, min_user_count), (items, min_item_count)):
            if least > 1 and left.any():
                bad |= np.bincount(ids[left], minlength=int(ids.max()) + 1)[ids] < least
        if np.array_equal(bad, gone):
            break
        gone = bad
    return gone
