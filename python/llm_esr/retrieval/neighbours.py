"""Nearest neighbours by cosine, whatever engine finds them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import Progress

from llm_esr.retrieval.engines import engine_for, make_engine, told
from llm_esr.retrieval.twins import rows_of_queries, rows_of_rows, twins_of

# Queries handed to the engine at once: between two runs Ctrl-C and the progress bar get their turn.
QUERIES_AT_ONCE = 4096


def nearest(
    vectors: NDArray[Any],
    k: int,
    *,
    queries: NDArray[Any] | None = None,
    threads: int = 0,
    engine: str = "exact",
    recall: float = 0.99,
    progress: str | None = None,
    say: Callable[[str], None] | None = None,
) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
    """Find the k nearest rows of a table by cosine, best first; ties go to the smaller row.

    Args:
        vectors: the table `[n, E]`, float32 or float16, memory-mapped or not.
        k: neighbours a query, at least 1.
        queries: `[m, E]`; nothing is left out. None: the table's own rows, each left out of its own list by its
            number (not by its score: a twin stays).
        threads: 0 for all cores. The result does not depend on it.
        engine: `auto`, or a name in `ENGINES`.
        recall: the share of the exact neighbours that an approximate engine is to find.
        progress: a label to show a progress bar under.
        say: is told how was searched and what share of the exact neighbours was found.

    Returns:
        Row numbers int32 `[m, k]`, 0-based, and cosines float32 `[m, k]`. Slots without a neighbour hold -1 and 0:
        a zero vector has none and is nobody's, and a table may have fewer than k other rows.

    Raises:
        ValueError: NaN or infinity (its row is named), another type or width, an unknown engine, k < 1, or a recall
            outside 0..1.
        ImportError: the engine's package is not installed.
    """
    if k < 1:
        raise ValueError(f"k is {k}; at least 1 neighbour is asked for")
    table = np.ascontiguousarray(vectors)
    twins = twins_of(table, k)
    if twins is not None:
        table = np.ascontiguousarray(table[twins.firsts])
    made = make_engine(engine_for(engine, len(vectors)), table, threads, recall=recall)
    count = len(table if queries is None else queries)
    ids = np.full((count, k), -1, dtype=np.int32)
    scores = np.zeros((count, k), dtype=np.float32)
    console = Console(stderr=True)
    hidden = progress is None or not console.is_terminal  # in a file a bar would leave blank lines
    with Progress(console=console, disable=hidden, transient=True) as bar:
        task = bar.add_task(progress or "", total=None)
        if queries is None:
            for piece in made.rows(k):
                if piece.rows is not None and piece.found is not None:
                    ids[piece.rows], scores[piece.rows] = piece.found
                bar.update(task, completed=piece.done, total=piece.total)
        else:
            for start in range(0, count, QUERIES_AT_ONCE):
                rows = slice(start, min(count, start + QUERIES_AT_ONCE))
                ids[rows], scores[rows] = made.search(np.ascontiguousarray(queries[rows]), k)
                bar.update(task, completed=rows.stop, total=count)
    if say is not None:
        say(told(made, k))
    if twins is None:
        return ids, scores
    if queries is not None:
        return rows_of_queries(twins, (ids, scores))
    return rows_of_rows(twins, (ids, scores), np.logical_not(table.any(axis=1, keepdims=True))[:, 0])
