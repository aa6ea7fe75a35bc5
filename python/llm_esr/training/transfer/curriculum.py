"""What each head user and head item weighs: first the richest most, at the end those next to the tail."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

_RICHEST = 50  # interactions above the tail from which items are all alike


def user_weights(lengths: NDArray[np.int64], tail_user: float, max_len: int, progress: float) -> NDArray[np.float64]:
    """|sin(pi/2 (progress + (n - t - 1) / (L - t - 1)))| for n = min(length, L), float64 as `lengths`.

    Args:
        lengths: training items of head users.
        tail_user: t, below L - 1.
        max_len: L.
        progress: share of the training that is over, from 0 on and below 1.

    """
    above = np.minimum(lengths, max_len) - tail_user - 1
    made: NDArray[np.float64] = np.abs(np.sin(math.pi / 2 * (progress + above / (max_len - tail_user - 1))))
    return made


def item_weights(counts: NDArray[np.int64], tail_item: float, progress: float) -> NDArray[np.float64]:
    """|sin(pi/2 (progress + (c - t - 1) / 50))| for c = min(count, t + 50), float64 as `counts`.

    Args:
        counts: training interactions of head items.
        tail_item: t.
        progress: as of `user_weights`.

    """
    above = np.minimum(counts, tail_item + _RICHEST) - tail_item - 1
    made: NDArray[np.float64] = np.abs(np.sin(math.pi / 2 * (progress + above / _RICHEST)))
    return made
