"""Bootstrap intervals of means over users.

Users with the same (above, tied) have the same metrics, and there are few such classes: under full ranking one for
each rank within the largest k, and one for all the rest. Drawing n users with replacement is drawing how many fall
into each class, a multinomial; so a resample costs as much as there are classes, however many the users. The classes
come with the best ranks first, and the one that no cut-off reaches last.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

BOOTSTRAP_SEED = 42
LEVEL = 0.95


def bootstrap_interval(
    values_CM: NDArray[np.float64], counts_C: NDArray[np.int64], resamples: int, stream: int
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """The 95 % percentile interval of each mean.

    Args:
        values_CM: float64 [C, M], the M metrics of each class of users; those of no worth last.
        counts_C: int64 [C], the users in each class; at least one in all.
        resamples: how many times as many users are drawn with replacement.
        stream: number of the random stream; the same gives the same interval.

    Returns:
        The lower and the upper ends, float64 [M] each.
    """
    kept = counts_C > 0
    values_CM, counts_C = values_CM[kept], counts_C[kept]
    n_users = int(counts_C.sum())
    random = np.random.default_rng([BOOTSTRAP_SEED, stream])
    # Class by class, each given those before it: how the classes that follow are cut changes no draw of these, so that
    # an interval at 10 is the same whether or not 20 was asked for, too.
    open_R, left = np.full(resamples, n_users, np.int64), n_users
    sums_RM = np.zeros((resamples, values_CM.shape[1]))
    for values_M, count in zip(values_CM, counts_C.tolist(), strict=True):
        drawn_R = open_R if count == left else random.binomial(open_R, count / left)
        sums_RM += drawn_R[:, None] * values_M
        open_R, left = open_R - drawn_R, left - count
    low, high = np.quantile(sums_RM / n_users, [(1 - LEVEL) / 2, (1 + LEVEL) / 2], axis=0)
    return low, high
