"""Sequences as flat tokens, and where each token stands in the rows that attention works on.

Shapes: T tokens, S sequences, R rows, W row width.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from llm_esr import _native


@dataclass(frozen=True, eq=False)
class Sequences:
    """Sequences laid end to end, each oldest token first.

    Attributes:
        items: int32 [T], item ids 1..I.
        positions: int32 [T], 1 for a sequence's oldest token.
        targets: int32 [T], the item that a token predicts; 0 for none.
        offsets: int64 [S + 1], where each sequence starts; its newest token is `offsets[s + 1] - 1`.
        slots: int32 [R, W], the token in each slot of the rows, -1 for none.
    """

    items: NDArray[np.int32]
    positions: NDArray[np.int32]
    targets: NDArray[np.int32]
    offsets: NDArray[np.int64]
    slots: NDArray[np.int32]

    def __len__(self) -> int:
        return len(self.offsets) - 1


def build_sequences(items: Any, offsets: Any, *, max_len: int, layout: str = "packed") -> Sequences:
    """Cut histories to their newest items and lay them out, without targets; for evaluation and serving.

    Args:
        items: int32 [T'], the histories' items, one after another, oldest first.
        offsets: int64 [S + 1], where each history starts, from 0 to T'.
        max_len: how many of a history's newest items are kept.
        layout: `packed` (first-fit-decreasing rows as wide as the longest) or `padded` (a row of `max_len` each).

    Raises:
        ValueError: offsets that do not rise from 0 to the number of items, or an unknown layout.
        IndexError: an id below 1.
    """
    flat = np.ascontiguousarray(items, dtype=np.int32)
    bounds = np.ascontiguousarray(offsets, dtype=np.int64)
    return Sequences(*_native.build_sequences(flat, bounds, max_len, layout))
