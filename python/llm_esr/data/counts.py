"""Counts on a data set: interactions of each item that a part may know, and distinct users of each item."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from llm_esr.data.dataset import Dataset, Part

_CHUNK = 1 << 16  # users read at once


def input_counts(data: Dataset, part: Part) -> NDArray[np.int64]:
    """Interactions of each item in all users' inputs for `part`, int64 [I + 1]; entry 0 is 0.

    `train` and `validation`: the training parts; `test`: train and validation; `serving`: everything.
    """
    if part in ("train", "validation"):
        return np.asarray(data.training_counts)
    counts = np.zeros(data.n_items + 1, np.int64)
    for items, _ in _histories(data, part):
        counts += np.bincount(items, minlength=data.n_items + 1)
    return counts


def meeting_users(data: Dataset) -> NDArray[np.int64]:
    """Distinct users of each item, in any part, int64 [I + 1]; entry 0 is 0."""
    counts = np.zeros(data.n_items + 1, np.int64)
    for items, offsets in _histories(data, "serving"):
        _, ids = distinct_pairs(items, offsets, data.n_items)
        counts += np.bincount(ids, minlength=data.n_items + 1)
    return counts


def distinct_pairs(
    items: NDArray[np.int32], offsets: NDArray[np.int64], n_items: int
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Each history's distinct items as (rows, ids); an item seen twice must not be taken off twice."""
    rows = np.repeat(np.arange(len(offsets) - 1), np.diff(offsets))
    pairs = np.unique(rows * (n_items + 1) + items)
    return pairs // (n_items + 1), pairs % (n_items + 1)


def _histories(data: Dataset, part: Part) -> Iterator[tuple[NDArray[np.int32], NDArray[np.int64]]]:
    for start in range(0, data.n_users, _CHUNK):
        yield data.histories(np.arange(start, min(start + _CHUNK, data.n_users)), part)
