"""How many of the K best rows were found, told by their scores, so that a tie is no miss.

A row that was found counts where its inner product with the query reaches that of the K-th best, up to `NEAR`; twice
the same row counts once, and the query's own row never.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

NEAR = 1e-6  # what the order of a sum may change
_NUMBERS_AT_ONCE = 1 << 25  # 128 MB

Vectors = NDArray[np.float32]
Ids = NDArray[np.int32]


def recall(vectors: Vectors, queries: Vectors, ids: Ids, worst: Vectors, own: NDArray[np.int64] | None = None) -> float:
    """The share of the K best rows of each query that its list has.

    Args:
        vectors: [n, E].
        queries: [m, E].
        ids: lists [m, K], -1: nothing.
        worst: the K-th best score of each query [m], from `scores_of` or `kth_best`.
        own: the row of each query [m], which is no neighbour; None: the queries are no rows.

    """
    good = (scores_of(vectors, queries, ids) >= worst[:, None] - NEAR) & (ids >= 0) & ~repeated(ids)
    if own is not None:
        good &= ids != own[:, None]
    return float(good.mean())


def scores_of(vectors: Vectors, queries: Vectors, ids: Ids) -> Vectors:
    """The inner product of each query with each row of its list, [m, K]."""
    scores = np.empty(ids.shape, dtype=np.float32)
    for part in _parts(len(ids), ids.shape[1] * vectors.shape[1]):
        scores[part] = (vectors[ids[part]] @ queries[part][:, :, None])[:, :, 0]
    return scores


def kth_best(vectors: Vectors, queries: Vectors, k: int, own: NDArray[np.int64] | None = None) -> Vectors:
    """The K-th largest inner product of each query, over all rows but its own, [m]: the oracle, in plain NumPy."""
    worst = np.empty(len(queries), dtype=np.float32)
    for part in _parts(len(queries), len(vectors)):
        scores = queries[part] @ vectors.T
        if own is not None:
            scores[np.arange(len(scores)), own[part]] = -np.inf
        worst[part] = np.partition(scores, -k, axis=1)[:, -k]
    return worst


def repeated(ids: Ids) -> NDArray[np.bool_]:
    """Which entries of lists [m, K] stand in the same list before."""
    order = np.argsort(ids, axis=1, kind="stable")
    ranked = np.take_along_axis(ids, order, axis=1)
    again = np.zeros(ids.shape, dtype=bool)
    np.put_along_axis(again, order[:, 1:], ranked[:, 1:] == ranked[:, :-1], axis=1)
    return again


def _parts(count: int, numbers_each: int) -> Iterator[slice]:
    step = max(_NUMBERS_AT_ONCE // numbers_each, 1)
    for start in range(0, count, step):
        yield slice(start, min(start + step, count))
