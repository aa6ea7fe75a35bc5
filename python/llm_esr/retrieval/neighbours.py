"""Nearest neighbours by cosine, behind an interface that several engines can fill."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import track

from llm_esr import _native

# Queries handed to the engine at once: between two runs Ctrl-C and the progress bar get their turn.
QUERIES_AT_ONCE = 4096


class Engine(Protocol):
    """An index over a table of vectors; `_native.ExactIndex` is one."""

    def search_rows(self, start: int, stop: int, k: int) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
        """The k nearest of each of the table's own rows `start..stop`, the row itself left out."""

    def search(self, queries: NDArray[Any], k: int) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
        """The k rows nearest to each query."""


# Engines by name; each is made of a table and a number of threads (0: all cores).
ENGINES: dict[str, Callable[[NDArray[Any], int], Engine]] = {"exact": _native.ExactIndex}


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
    console = Console(stderr=True)
    hidden = progress is None or not console.is_terminal  # in a file a bar would leave blank lines
    starts = range(0, count, QUERIES_AT_ONCE)
    for start in track(starts, progress or "", console=console, disable=hidden, transient=True):
        stop = min(count, start + QUERIES_AT_ONCE)
        if queries is None:
            found = table.search_rows(start, stop, k)
        else:
            found = table.search(np.ascontiguousarray(queries[start:stop]), k)
        ids[start:stop], scores[start:stop] = found
    return ids, scores
