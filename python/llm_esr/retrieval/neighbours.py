"""Nearest neighbours by cosine, behind an interface that several engines can fill."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import track

from llm_esr import _native

# Queries, or pieces of a graph, handed to the engine at once: in between Ctrl-C and the progress bar get their turn.
QUERIES_AT_ONCE = 4096
PIECES_AT_ONCE = 16


class Graph(Protocol):
    """The search of all rows of a table; `_native.Graph` is one."""

    def advance(self, pieces: int) -> tuple[int, int]:
        """Do the next pieces; how many are done, and of how many."""

    def rank(self, start: int, stop: int) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
        """The neighbours of some rows, once all pieces are done; each row may be asked for once."""


class Engine(Protocol):
    """An index over a table of vectors; `_native.ExactIndex` is one."""

    def graph(self, k: int) -> Graph:
        """The search of all the table's rows for their k nearest, each row itself left out."""

    def search(self, queries: NDArray[Any], k: int) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
        """The k rows nearest to each query."""


# Engines by name; each is made of a table and a number of threads (0: all cores).
#
# - `exact`: nothing is lost; what the codes of the vectors lose is bounded, and the bound is checked.
# - `screened`: what they lose is taken to point in any direction, which fails for less than one neighbour in 100,000.
ENGINES: dict[str, Callable[[NDArray[Any], int], Engine]] = {
    "exact": _native.ExactIndex,
    "screened": partial(_native.ExactIndex, certified=False),
}


def nearest(
    vectors: NDArray[Any],
    k: int,
    *,
    queries: NDArray[Any] | None = None,
    threads: int = 0,
    engine: str = "exact",
    progress: str | None = None,
) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
    """Find the k nearest rows of a table by cosine, best first; ties go to the smaller row.

    Args:
        vectors: the table `[n, E]`, float32 or float16.
        k: neighbours a query, at least 1.
        queries: `[m, E]`; nothing is left out. None: the table's own rows, each left out of its own list by its
            number (not by its score: a twin stays).
        threads: 0 for all cores. The result does not depend on it.
        engine: a name in `ENGINES`.
        progress: a label to show a progress bar under.

    Returns:
        Row numbers int32 `[m, k]`, 0-based, and cosines float32 `[m, k]`. Slots without a neighbour hold -1 and 0:
        a zero vector has none and is nobody's, and a table may have fewer than k other rows.

    Raises:
        ValueError: NaN or infinity (its row is named), another type or width, an unknown engine, or k < 1.
    """
    if engine not in ENGINES:
        raise ValueError(f"engine '{engine}' is unknown; known: {', '.join(ENGINES)}")
    if k < 1:
        raise ValueError(f"k is {k}; at least 1 neighbour is asked for")
    table = ENGINES[engine](np.ascontiguousarray(vectors), threads)
    count = len(vectors if queries is None else queries)
    ids = np.empty((count, k), dtype=np.int32)
    scores = np.empty((count, k), dtype=np.float32)
    if queries is None:
        _all_rows(table, k, ids, scores, progress)
        return ids, scores
    for start in _pieces(range(0, count, QUERIES_AT_ONCE), progress):
        stop = min(count, start + QUERIES_AT_ONCE)
        ids[start:stop], scores[start:stop] = table.search(np.ascontiguousarray(queries[start:stop]), k)
    return ids, scores


def _all_rows(table: Engine, k: int, ids: NDArray[np.int32], scores: NDArray[np.float32], progress: str | None) -> None:
    """Fill in the neighbours of a table's own rows."""
    graph = table.graph(k)
    done, pieces = graph.advance(0)
    for _ in _pieces(range(done, pieces, PIECES_AT_ONCE), progress):
        graph.advance(PIECES_AT_ONCE)
    for start in range(0, len(ids), QUERIES_AT_ONCE):
        stop = min(len(ids), start + QUERIES_AT_ONCE)
        ids[start:stop], scores[start:stop] = graph.rank(start, stop)


def _pieces(pieces: range, progress: str | None) -> Iterable[int]:
    """The pieces, under a progress bar on a terminal."""
    console = Console(stderr=True)
    hidden = progress is None or not console.is_terminal  # in a file a bar would leave blank lines
    return track(pieces, progress or "", console=console, disable=hidden, transient=True)
