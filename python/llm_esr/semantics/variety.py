"""How much a set of vectors says: how many different ones there are, and how many say nothing.

Shapes: n vectors, E wide.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

LEAST_SHARE = 0.5  # of different vectors, below which a warning is given
_ROWS = 4096


@dataclass(frozen=True)
class Variety:
    """What was counted.

    Attributes:
        rows: n.
        distinct: different vectors, a zero one included.
        zero: vectors of nothing but zeros.
        largest: how often the most frequent vector stands.

    """

    rows: int
    distinct: int
    zero: int
    largest: int

    def __str__(self) -> str:
        """In words."""
        zero = f", {self.zero:,} all zero" if self.zero else ""
        return f"{self.distinct:,} of {self.rows:,} different{zero}"

    def warning(self, what: str) -> str | None:
        """What to say where they say little; None where they are fine."""
        if self.rows < 2 or (self.distinct >= LEAST_SHARE * self.rows and self.zero <= (1 - LEAST_SHARE) * self.rows):
            return None
        if self.distinct == 1:
            found = "all are equal" if not self.zero else "all are zero"
        else:
            found = f"{self}, one stands {self.largest:,} times"
        return (
            f"{what} say little: {found}. The usual causes: the same text for many (a wrong text column, or a template "
            "without its column), items that the encoder knows nothing of, or a file of another order or content"
        )


def variety_of(vectors: NDArray[Any]) -> Variety:
    """Count over all rows, [n, E], a block at a time."""
    counts: dict[bytes, int] = {}
    zero = 0
    for start in range(0, len(vectors), _ROWS):
        block = np.ascontiguousarray(vectors[start : start + _ROWS]) + 0  # -0 is 0
        zero += int((~block.any(axis=1)).sum())
        for row in block:
            key = hashlib.blake2b(row.tobytes(), digest_size=12).digest()
            counts[key] = counts.get(key, 0) + 1
    return Variety(len(vectors), len(counts), zero, max(counts.values(), default=0))
