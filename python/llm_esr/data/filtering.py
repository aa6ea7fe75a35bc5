"""Order of a user's interactions, duplicates, and count filters, on numbered interactions."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Bools = NDArray[np.bool_]


def sort_order(
    users: NDArray[np.int32],
    timestamps: NDArray[np.int64] | None,
    order: NDArray[np.int64] | NDArray[np.float64] | None,
) -> NDArray[np.int64]:
    """Positions [n] in the order: user, time, order column, input."""
    keys = [key for key in (order, timestamps, users) if key is not None]
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
    place = np.lexsort(keys)
    same = np.ones(len(users) - 1, dtype=np.bool_)
    for key in keys:
        sorted_key = key[place]
        same &= sorted_key[1:] == sorted_key[:-1]
    repeats[place[1:][same]] = True
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
