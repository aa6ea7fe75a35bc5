"""Rows that are equal: each vector is searched once, and its rows share what is found.

Users with the same history have the same vector; a search among thousands of equal rows cannot tell them apart by any
bound. Where a vector has more rows than neighbours are asked for, the search goes over distinct vectors, and its lists
are written out to rows: by score, equal ones by number, as without.

The k best rows lie among the k best vectors: whatever vector comes before that of a row has a row that comes before it.

Shapes: n rows, v distinct vectors, m queries, E width, K neighbours, P candidates.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from llm_esr.retrieval.engines import Found

_BITS: dict[str, type[np.unsignedinteger[Any]]] = {"float16": np.uint16, "float32": np.uint32}
_NUMBERS_AT_ONCE = 1 << 22  # hashed
_LISTS_AT_ONCE = 1024


@dataclass(frozen=True)
class Twins:
    """Rows by their vectors.

    Attributes:
        firsts: int64 [v], the first row of each vector, rising.
        vector_of: int64 [n], the vector of each row.
        offsets: int64 [v + 1], where the rows of each vector begin in `rows`.
        rows: int64 [n], the rows of each vector, rising.
    """

    firsts: NDArray[np.int64]
    vector_of: NDArray[np.int64]
    offsets: NDArray[np.int64]
    rows: NDArray[np.int64]


def twins_of(vectors_nE: NDArray[Any], k: int) -> Twins | None:
    """The rows of each distinct vector; None where no vector has more than k rows, or a number is NaN."""
    if vectors_nE.ndim != 2 or vectors_nE.dtype.name not in _BITS or len(vectors_nE) <= k or not vectors_nE.shape[1]:
        return None
    hashes_n = _hashes(vectors_nE)
    _, first_of, inverse_n, counts = np.unique(hashes_n, return_index=True, return_inverse=True, return_counts=True)
    if counts.max() <= k:
        return None
    # Equal hashes are not yet equal rows: who differs from the first of its hash is a vector of its own.
    first_n = first_of[inverse_n]
    for start in range(0, len(first_n), _LISTS_AT_ONCE):
        rows = slice(start, start + _LISTS_AT_ONCE)
        alike = (np.asarray(vectors_nE[rows]) == np.asarray(vectors_nE[first_n[rows]])).all(axis=1)
        numbers = np.arange(start, start + len(alike))
        if (~alike & (first_n[rows] == numbers)).any():
            return None  # a row that differs from itself
        first_n[rows] = np.where(alike, first_n[rows], numbers)
    firsts, vector_of = np.unique(first_n, return_inverse=True)
    rows_n = np.argsort(vector_of, kind="stable")
    offsets = np.concatenate([[0], np.cumsum(np.bincount(vector_of, minlength=len(firsts)))])
    return Twins(firsts, vector_of, offsets, rows_n)


def _hashes(vectors_nE: NDArray[Any]) -> NDArray[np.uint64]:
    """A number of each row's bits, the same for the same bits; NaN is like any other."""
    width, bits = vectors_nE.shape[1], _BITS[vectors_nE.dtype.name]
    factors_E = np.random.default_rng(0).integers(1 << 63, size=width, dtype=np.uint64) * 2 + 1
    hashes_n = np.empty(len(vectors_nE), np.uint64)
    step = max(1, _NUMBERS_AT_ONCE // width)
    for start in range(0, len(vectors_nE), step):
        part = np.ascontiguousarray(vectors_nE[start : start + step]).view(bits).astype(np.uint64)
        # The upper half of a product hangs on all bits of its factors, the lower half on the lower bits alone.
        products = part * factors_E
        hashes_n[start : start + step] = (products ^ (products >> np.uint64(32))).sum(axis=1)
    return hashes_n


def rows_of_queries(twins: Twins, found: Found) -> Found:
    """Lists of rows from lists of vectors, ids [m, K] and scores [m, K]."""
    ids_mK, scores_mK = np.empty_like(found[0]), np.empty_like(found[1])
    for start in range(0, len(ids_mK), _LISTS_AT_ONCE):
        part = slice(start, start + _LISTS_AT_ONCE)
        ids_mK[part], scores_mK[part] = _written_out(twins, (found[0][part], found[1][part]), ids_mK.shape[1], None)
    return ids_mK, scores_mK


def rows_of_rows(twins: Twins, found: Found, zero_v: NDArray[np.bool_]) -> Found:
    """Lists of each row of the table, [n, K], from lists of its vectors, [v, K], each vector itself left out.

    A row's twins are among its neighbours, at a cosine of 1; vectors of zeros (`zero_v`) have none.
    """
    ids_nK = np.empty((len(twins.vector_of), found[0].shape[1]), np.int32)
    scores_nK = np.empty(ids_nK.shape, np.float32)
    for start in range(0, len(ids_nK), _LISTS_AT_ONCE):
        rows = np.arange(start, min(len(ids_nK), start + _LISTS_AT_ONCE))
        vectors = twins.vector_of[rows]
        own = np.where(zero_v[vectors], -1, vectors).astype(np.int32)
        with_own = (
            np.concatenate([own[:, None], found[0][vectors]], axis=1),
            np.concatenate([np.ones((len(rows), 1), np.float32), found[1][vectors]], axis=1),
        )
        ids_nK[rows], scores_nK[rows] = _written_out(twins, with_own, ids_nK.shape[1], rows)
    return ids_nK, scores_nK


def _written_out(twins: Twins, found: Found, k: int, own: NDArray[np.int64] | None) -> Found:
    """The k best rows of each list of vectors, by score and number; `own` are rows that are left out, one a list."""
    ids_mK, scores_mK = found
    # No more of a vector than a list can hold, and the row itself; nothing below the score at which a list is full.
    counts_mK = np.where(ids_mK >= 0, np.minimum(np.diff(twins.offsets)[ids_mK], k + 1), 0)
    full_mK: NDArray[np.bool_] = counts_mK.cumsum(axis=1) > k
    last_m1 = np.where(full_mK.any(axis=1), full_mK.argmax(axis=1), ids_mK.shape[1] - 1)[:, None]
    needed_mK = (ids_mK >= 0) & (scores_mK >= np.take_along_axis(scores_mK, last_m1, axis=1))
    # Behind the last vector of a list that is not full are fills, whose score says nothing.
    needed_mK |= (ids_mK >= 0) & ~full_mK.any(axis=1, keepdims=True)
    lists, places = np.nonzero(needed_mK)
    vectors, counts = ids_mK[lists, places], counts_mK[lists, places]
    list_P, score_P = np.repeat(lists, counts), np.repeat(scores_mK[lists, places], counts)
    within_P = np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts, counts)
    row_P = twins.rows[np.repeat(twins.offsets[vectors], counts) + within_P]
    if own is not None:
        there_P = row_P != own[list_P]
        list_P, score_P, row_P = list_P[there_P], score_P[there_P], row_P[there_P]
    order_P = np.lexsort((row_P, -score_P, list_P))
    list_P, score_P, row_P = list_P[order_P], score_P[order_P], row_P[order_P]
    starts = np.searchsorted(list_P, np.arange(len(ids_mK)))
    place_P = np.arange(len(list_P)) - starts[list_P]
    kept_P = place_P < k
    rows_mK = np.full((len(ids_mK), k), -1, np.int32)
    values_mK = np.zeros((len(ids_mK), k), np.float32)
    rows_mK[list_P[kept_P], place_P[kept_P]] = row_P[kept_P]
    values_mK[list_P[kept_P], place_P[kept_P]] = score_P[kept_P]
    return rows_mK, values_mK
