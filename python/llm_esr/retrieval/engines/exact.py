"""Exact search in Rust, certified or all but certain."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from numpy.typing import NDArray

from llm_esr import _native
from llm_esr.retrieval.engines.engine import Found, Piece, Recall

PIECES_AT_ONCE = 16  # squares of 2,048 x 2,048 rows
RANKED_AT_ONCE = 4096  # rows


class ExactSearch:
    """Every row is screened by int8 codes, what may be among the best is ranked by exact scores (docs/retrieval.md).

    Args:
        vectors: [n, E], float32 or float16, contiguous; read where they lie.
        threads: 0 for all cores; the result does not depend on it.
        certified: whether nothing can be lost; else less than one neighbour in 100,000 is.
        inner_product: score by inner product instead of by cosine.

    Raises:
        ValueError: NaN or infinity (its row is named), or another type.
    """

    def __init__(
        self, vectors: NDArray[Any], threads: int = 0, *, certified: bool = True, inner_product: bool = False
    ) -> None:
        self._index = _native.ExactIndex(vectors, threads, certified=certified, inner_product=inner_product)
        self._certified = certified

    def search(self, queries: NDArray[Any], k: int) -> Found:
        """See `Engine.search`."""
        return self._index.search(queries, k)

    def rows(self, k: int) -> Iterator[Piece]:
        """See `Engine.rows`."""
        graph = self._index.graph(k)
        done, squares = graph.advance(0)
        starts = range(0, len(self._index), RANKED_AT_ONCE)
        total = squares + len(starts)
        while done < squares:
            done, squares = graph.advance(PIECES_AT_ONCE)
            yield Piece(None, None, done, total)
        for start in starts:
            rows = slice(start, min(len(self._index), start + RANKED_AT_ONCE))
            done += 1
            yield Piece(rows, graph.rank(rows.start, rows.stop), done, total)

    def about(self) -> str:
        """See `Engine.about`."""
        return "exact search" if self._certified else "screened search"

    def recall(self, k: int) -> Recall | None:
        """See `Engine.recall`."""
        return None
