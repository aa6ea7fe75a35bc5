"""What an engine of nearest neighbours is.

Shapes: n rows of the table, m queries, E width, K neighbours.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

Found = tuple[NDArray[np.int32], NDArray[np.float32]]  # rows [m, K], 0-based, -1 fills; scores [m, K], 0 fills


@dataclass(frozen=True)
class Piece:
    """Some of the table's rows with their neighbours.

    Attributes:
        rows: which rows of the table; None where the piece is work done and no answer yet.
        found: their neighbours, each row itself left out.
        done: how many pieces are done.
        total: of how many.
    """

    rows: slice | NDArray[np.int32] | None
    found: Found | None
    done: int
    total: int


@dataclass(frozen=True)
class Recall:
    """The share of the exact neighbours that an engine finds.

    Attributes:
        expected: what a sample said beforehand.
        measured: on another sample, by searches as they are; None until there was one.
        sample: rows of a sample.
        wanted: what was asked for.
    """

    expected: float
    measured: float | None
    sample: int
    wanted: float


class Engine(Protocol):
    """An index over a table of vectors [n, E]."""

    def search(self, queries: NDArray[Any], k: int) -> Found:
        """The k rows nearest to each of the queries [m, E]."""

    def rows(self, k: int) -> Iterator[Piece]:
        """The k nearest of each of the table's own rows, in pieces."""

    def about(self) -> str:
        """How it searches, in a few words."""

    def recall(self, k: int) -> Recall | None:
        """What it finds of the exact neighbours, by samples; None: all of them."""


def told(engine: Engine, k: int) -> str:
    """How an engine searched for k neighbours, and what it found."""
    recall = engine.recall(k)
    if recall is None:
        return engine.about()
    measured = "" if recall.measured is None else f", measured {recall.measured:.4f} on {recall.sample:,} rows"
    return f"{engine.about()}: recall expected {recall.expected:.4f}{measured}{_short_of(recall)}"


def _short_of(recall: Recall) -> str:
    """What it means that less was found than was asked for."""
    found = recall.expected if recall.measured is None else min(recall.expected, recall.measured)
    if found >= recall.wanted:
        return ""
    if recall.expected < recall.wanted:
        return f"; less than the {recall.wanted:g} asked for, which this engine does not reach here"
    return (
        f"; the {recall.wanted:g} asked for is an estimate by one sample of rows, and on another a little less was "
        "found: ask for a little more (index.recall) where it must not be less"
    )
