"""What all users' lists hold together: coverage, share of the tail, Gini, novelty, diversity (docs/metrics.md).

Nothing of it knows a target, and none has an interval. Lists come in chunks; kept is how often each item was shown.

Shapes: B users of a chunk, I items, K places of a list, C cut-offs, E width of the text vectors.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

# As they stand in `metrics.json`, and in tables.
LIST_METRICS = {
    "coverage": "coverage",
    "tail_share": "tail share",
    "gini": "Gini",
    "novelty": "novelty, bits",
    "diversity": "diversity",
}
_LISTS_AT_ONCE = 2048  # whose vectors are gathered at once


class ListMetrics:
    """Takes lists, and gives the metrics at each cut-off.

    Args:
        ks: rising cut-offs.
        tail_I: bool [I], whether an item is of the tail.
        counts_I: int64 [I], interactions with each item in training.
        vectors_IE: the items' text vectors; None: there are none, and no diversity.
    """

    def __init__(
        self,
        ks: list[int],
        tail_I: NDArray[np.bool_],
        counts_I: NDArray[np.int64],
        vectors_IE: NDArray[Any] | None = None,
    ) -> None:
        self.ks, self.tail_I, self.vectors_IE = ks, tail_I, vectors_IE
        # An item that training never met tells as much as one that it met once.
        known_I = np.maximum(counts_I, 1)
        self.bits_I = np.log2(max(1, int(counts_I.sum()))) - np.log2(known_I)
        self.shown_CI = np.zeros((len(ks), len(tail_I)), np.int64)
        self._distances_C = np.zeros(len(ks))
        self._lists_C = np.zeros(len(ks), np.int64)  # with two items at least

    def add(self, ids_BK: NDArray[np.int32]) -> None:
        """Take lists of item ids, best first; 0: no item."""
        start = 0
        for place, k in enumerate(self.ks):
            ids = ids_BK[:, start:k]
            # What a cut-off adds to the one before; `values` sums them up.
            self.shown_CI[place] += np.bincount(ids[ids > 0] - 1, minlength=len(self.tail_I))
            start = k
        if self.vectors_IE is not None:
            for first in range(0, len(ids_BK), _LISTS_AT_ONCE):
                self._add_distances(ids_BK[first : first + _LISTS_AT_ONCE])

    def _add_distances(self, ids_BK: NDArray[np.int32]) -> None:
        """Take the mean of 1 - cosine over a list's pairs: |sum of n unit vectors|^2 = n + 2 (sum of cosines)."""
        assert self.vectors_IE is not None
        there_BK = ids_BK > 0
        vectors_BKE = np.asarray(self.vectors_IE[np.maximum(ids_BK, 1) - 1], np.float32)
        norms_BK1 = np.linalg.norm(vectors_BKE, axis=2, keepdims=True)
        vectors_BKE = np.where(there_BK[:, :, None], vectors_BKE / np.where(norms_BK1 > 0, norms_BK1, 1), 0)
        sums_BKE = np.cumsum(vectors_BKE, axis=1)
        own_BK = np.cumsum((vectors_BKE**2).sum(axis=2), axis=1)
        count_BK = np.cumsum(there_BK, axis=1)
        for place, k in enumerate(self.ks):
            last = min(k, ids_BK.shape[1]) - 1
            pairs_B = count_BK[:, last] * (count_BK[:, last] - 1) / 2
            several = pairs_B > 0
            cosines_B = ((sums_BKE[:, last] ** 2).sum(axis=1) - own_BK[:, last]) / 2
            self._distances_C[place] += float((1 - cosines_B[several] / pairs_B[several]).sum(dtype=np.float64))
            self._lists_C[place] += int(several.sum())

    def values(self) -> list[tuple[str, int, float | None]]:
        """Metric, cut-off, value; None where no list has what the metric is about."""
        found: list[tuple[str, int, float | None]] = []
        for place, k in enumerate(self.ks):
            shown_I = self.shown_CI[: place + 1].sum(axis=0)
            total = int(shown_I.sum())
            found.append(("coverage", k, float((shown_I > 0).mean())))
            found.append(("tail_share", k, float(shown_I[self.tail_I].sum() / total) if total else None))
            found.append(("gini", k, gini(shown_I) if total else None))
            found.append(("novelty", k, float(shown_I @ self.bits_I / total) if total else None))
            if self.vectors_IE is not None:
                lists = int(self._lists_C[place])
                found.append(("diversity", k, float(self._distances_C[place] / lists) if lists else None))
        return found


def gini(counts: NDArray[np.int64]) -> float:
    """How unevenly counts [n], not all 0, are spread: 0 evenly, 1 - 1 / n all on one."""
    rising = np.sort(counts).astype(np.float64)
    places = np.arange(1, len(rising) + 1)
    return float(((2 * places - len(rising) - 1) * rising).sum() / (len(rising) * rising.sum()))
