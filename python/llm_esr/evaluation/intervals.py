"""Bootstrap intervals of means over users.

Users with the same (above, tied) have the same metrics, and there are few such classes: under full ranking one for
each rank within the largest k, and one for all the rest. Drawing n users with replacement is drawing how many fall
into each class, a multinomial; so a resample costs as much as there are classes, however many the users.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

_BUDGET = 1 << 22  # draws held at once
BOOTSTRAP_SEED = 42
LEVEL = 0.95


def bootstrap_interval(
    values_CM: NDArray[np.float64], counts_C: NDArray[np.int64], resamples: int, stream: int
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """The 95 % percentile interval of each mean.

    Args:
        values_CM: float64 [C, M], the M metrics of each class of users.
        counts_C: int64 [C], the users in each class; at least one in all.
        resamples: how many times as many users are drawn with replacement.
        stream: number of the random stream; the same gives the same interval.

    Returns:
        The lower and the upper ends, float64 [M] each.
    """
    n_users = int(counts_C.sum())
    kept = counts_C > 0
    values_CM, counts_C = values_CM[kept], counts_C[kept]
    random = np.random.default_rng([BOOTSTRAP_SEED, stream])
    means = []
    size = max(1, _BUDGET // len(counts_C))
    for start in range(0, resamples, size):
        draws = random.multinomial(n_users, counts_C / n_users, size=min(size, resamples - start))
        means.append(draws @ values_CM / n_users)
    low, high = np.quantile(np.concatenate(means), [(1 - LEVEL) / 2, (1 + LEVEL) / 2], axis=0)
    return low, high
