"""HR, NDCG and MRR of one target, as expectations over a random order of the items that tie with it."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

METRICS = ("hr", "ndcg", "mrr")


def expected_metrics(
    above: NDArray[np.int64], tied: NDArray[np.int64], ks: list[int]
) -> dict[tuple[str, int], NDArray[np.float64]]:
    """Each user's metrics at each cut-off.

    With `a` competing items above and `e` tied, the target takes each of the ranks a+1 .. a+e+1 with the same chance.
    A rank r <= k is worth 1 (HR), 1 / log2(r + 1) (NDCG, one relevant item) or 1 / r (MRR); a later one nothing.

    Args:
        above: int64 [n], competing items with a higher score.
        tied: int64 [n], competing items with the same score.
        ks: the cut-offs, each at least 1.

    Returns:
        (metric, k) -> float64 [n], in 0..1.
    """
    # No rank is beyond the last competing item, however large a cut-off is.
    last_rank = int((above + tied).max(initial=0)) + 1
    ranks = np.arange(1, min(max(ks), last_rank) + 1)
    worth = {"hr": np.ones(len(ranks)), "ndcg": 1 / np.log2(ranks + 1), "mrr": 1 / ranks}
    found = {}
    for name, gains in worth.items():
        total = np.concatenate([[0.0], np.cumsum(gains)])  # total[r]: the worth of ranks 1..r together
        for k in ks:
            cut = min(k, len(ranks))
            first, last = np.minimum(above, cut), np.minimum(above + tied + 1, cut)
            found[name, k] = (total[last] - total[first]) / (tied + 1)
    return found
