"""The engine `hnswlib`: the package of that name, behind the interface of the others.

hnswlib gives the same graph for a seed on one thread alone, so one thread builds it; queries take all.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from llm_esr.retrieval.engines.answers import share_found, without_own
from llm_esr.retrieval.engines.engine import Found, Piece, Recall
from llm_esr.retrieval.engines.exact import ExactSearch

ROWS_AT_ONCE = 4096
SAMPLE = 512
_NEIGHBOURS, _BUILDING = 16, 200  # M and efConstruction
_LOOKS = (1, 1.5, 2, 4, 8, 16, 32)  # candidates of a search, in multiples of k


class HnswlibSearch:
    """A graph of hnswlib over a table.

    Args:
        vectors: [n, E], float32 or float16, contiguous.
        threads: of the queries; 0 for all cores.
        recall: the share of the exact neighbours that is to be found; the candidates of a search (`ef`) are raised
            until a sample finds it.
        inner_product: score by inner product instead of by cosine.
        seed: of the graph.

    Raises:
        ImportError: hnswlib is not installed.
        ValueError: NaN or infinity (its row is named), another type, or a recall outside 0..1.
    """

    def __init__(
        self,
        vectors: NDArray[Any],
        threads: int = 0,
        *,
        recall: float = 0.99,
        inner_product: bool = False,
        seed: int = 0,
    ) -> None:
        if not 0 < recall <= 1:
            raise ValueError(f"recall is {recall}; expected a share above 0, at most 1")
        try:
            import hnswlib  # noqa: PLC0415 (an extra)
        except ImportError:
            raise ImportError("the engine hnswlib needs its package: pip install 'llm-esr[hnswlib]'") from None
        self._vectors = vectors
        self._exact = ExactSearch(vectors, threads, inner_product=inner_product)  # refuses what is no vector
        self._wanted, self._threads = recall, threads or -1
        self._searchable = np.ones(len(vectors), np.bool_)
        if not inner_product:
            for start in range(0, len(vectors), ROWS_AT_ONCE):
                rows = slice(start, start + ROWS_AT_ONCE)
                self._searchable[rows] = np.asarray(vectors[rows]).any(axis=1)
        kept = np.flatnonzero(self._searchable)
        self._count = len(kept)
        self._index = hnswlib.Index(space="ip" if inner_product else "cosine", dim=vectors.shape[1])
        self._index.init_index(max(1, len(kept)), ef_construction=_BUILDING, M=_NEIGHBOURS, random_seed=seed + 100)
        for start in range(0, len(kept), ROWS_AT_ONCE):
            ids = kept[start : start + ROWS_AT_ONCE]
            self._index.add_items(np.asarray(vectors[ids], np.float32), ids, num_threads=1)
        self._tuned: dict[int, tuple[int, float]] = {}

    def _tune(self, k: int) -> None:
        if k in self._tuned:
            return
        if not self._count:
            self._tuned[k] = (k + 1, 1.0)
            return
        sample = np.unique(np.linspace(0, len(self._vectors) - 1, SAMPLE).astype(int))
        queries = np.ascontiguousarray(self._vectors[sample])
        exact, _ = self._exact.search(queries, k)
        for looks in _LOOKS:
            ef = int(k * looks) + 1
            share = share_found(self._ask(queries, k, ef)[0], exact)
            if share >= self._wanted or ef >= self._count:
                break
        self._tuned[k] = (ef, share)

    def _ask(self, queries: NDArray[Any], k: int, ef: int) -> Found:
        ids = np.full((len(queries), k), -1, np.int32)
        scores = np.zeros((len(queries), k), np.float32)
        given = np.asarray(queries, np.float32)
        asked = given.any(axis=1)
        count = min(k, self._count)
        if count and asked.any():
            self._index.set_ef(max(ef, count))
            found, distances = self._index.knn_query(given[asked], k=count, num_threads=self._threads)
            ids[asked, :count] = found
            scores[asked, :count] = 1 - distances
        return ids, scores

    def search(self, queries: NDArray[Any], k: int) -> Found:
        """See `Engine.search`."""
        self._tune(k)
        return self._ask(queries, k, self._tuned[k][0])

    def rows(self, k: int) -> Iterator[Piece]:
        """See `Engine.rows`."""
        self._tune(k)
        starts = range(0, len(self._vectors), ROWS_AT_ONCE)
        for done, start in enumerate(starts, start=1):
            rows = slice(start, min(len(self._vectors), start + ROWS_AT_ONCE))
            ids, scores = self._ask(self._vectors[rows], k + 1, self._tuned[k][0] + 1)
            yield Piece(rows, without_own(ids, scores, np.arange(rows.start, rows.stop)), done, len(starts))

    def about(self) -> str:
        """See `Engine.about`."""
        looks = ", ".join(f"{ef:,}" for ef, _ in self._tuned.values())
        return f"approximate search by hnswlib, M {_NEIGHBOURS}" + (f", ef {looks}" if looks else "")

    def recall(self, k: int) -> Recall | None:
        """See `Engine.recall`; the sample lies between the rows of the first."""
        if k not in self._tuned or not self._count:
            return None
        ef, expected = self._tuned[k]
        step = max(1, len(self._vectors) // SAMPLE)
        queries = np.ascontiguousarray(self._vectors[step // 2 :: step])
        exact, _ = self._exact.search(queries, k)
        return Recall(expected, share_found(self._ask(queries, k, ef)[0], exact), len(queries), self._wanted)
