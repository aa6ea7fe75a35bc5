"""What engines do with lists of neighbours.

Shapes: m lists, K neighbours.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from llm_esr.retrieval.engines.engine import Found


def share_found(found: NDArray[np.int32], exact: NDArray[np.int32]) -> float:
    """The share of the exact neighbours [m, K] that was found [m, K]; -1 fills and counts on neither side."""
    same = sum(len(np.intersect1d(a[a >= 0], b[b >= 0])) for a, b in zip(found, exact, strict=True))
    return same / max(1, int((exact >= 0).sum()))


def without_own(ids: NDArray[np.int32], scores: NDArray[np.float32], rows: NDArray[np.int64]) -> Found:
    """Lists of K neighbours from lists of K + 1 in which a row may be its own neighbour.

    Args:
        ids: [m, K + 1], best first.
        scores: [m, K + 1].
        rows: [m], the rows that were asked for.

    Returns:
        Lists without the rows themselves, or without the last where a row is not in its own list.
    """
    own = ids == rows[:, None]
    own[~own.any(axis=1), -1] = True
    shape = (len(ids), ids.shape[1] - 1)
    return ids[~own].reshape(shape), scores[~own].reshape(shape)
