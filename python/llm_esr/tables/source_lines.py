"""The source line of each kept row, at little memory."""

from __future__ import annotations

from bisect import bisect_right

import numpy as np
from numpy.typing import NDArray

from llm_esr.tables.source import Source


class SourceLines:
    """Lines of kept rows, chunk by chunk: only the first where they follow one another, else 4 bytes a row."""

    def __init__(self) -> None:
        self._starts: list[int] = []
        self._chunks: list[tuple[Source, int, NDArray[np.uint32] | None]] = []
        self._rows = 0

    def add(self, source: Source, lines: NDArray[np.int64]) -> None:
        """Append the lines [n] of a chunk's kept rows."""
        if not len(lines):
            return
        first = int(lines[0])
        gapless = int(lines[-1]) - first == len(lines) - 1
        self._starts.append(self._rows)
        self._chunks.append((source, first, None if gapless else (lines - first).astype(np.uint32)))
        self._rows += len(lines)

    def find(self, row: int) -> tuple[Source, int]:
        """The source and the line of the `row`-th kept row."""
        chunk = bisect_right(self._starts, row) - 1
        source, first, steps = self._chunks[chunk]
        within = row - self._starts[chunk]
        return source, first + (within if steps is None else int(steps[within]))
