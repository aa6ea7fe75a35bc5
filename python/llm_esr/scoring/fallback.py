"""Histories without any item go to another scorer.

Shapes: S histories, T items of all of them, I items.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from llm_esr.scoring.lists import top_k
from llm_esr.scoring.scorer import Scorer, reads_at_most, refresh


class ForEmptyHistories:
    """A scorer, and another one for histories without any item.

    Args:
        scorer: scores the others.
        fallback: scores empty histories.
    """

    def __init__(self, scorer: Scorer, fallback: Scorer) -> None:
        self.scorer, self.fallback = scorer, fallback
        self.name = scorer.name

    @property
    def max_len(self) -> int | None:
        """The newest items that the scorer reads."""
        return reads_at_most(self.scorer)

    def refresh(self) -> None:
        """Let the scorers forget what they keep of earlier weights."""
        refresh(self.scorer)
        refresh(self.fallback)

    def scores(self, items: NDArray[np.int32], offsets: NDArray[np.int64]) -> Tensor:
        """See `Scorer.scores`."""
        scores_SI = self.scorer.scores(items, offsets)
        empty = np.flatnonzero(np.diff(offsets) == 0)
        if len(empty):
            # Popularity's scores are one row that stands for many.
            scores_SI = scores_SI.contiguous()
            scores_SI[torch.from_numpy(empty).to(scores_SI.device)] = self._empty(len(empty)).to(scores_SI)
        return scores_SI

    @property
    def has_lists(self) -> bool:
        """Whether the scorer gives lists without scoring the whole catalogue."""
        return hasattr(self.scorer, "lists")

    def lists(
        self, items: NDArray[np.int32], offsets: NDArray[np.int64], k: int, *, keep_seen: bool = False
    ) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
        """See `CountedNeighbours.lists`; where `has_lists`."""
        ids_SK, values_SK = self.scorer.lists(items, offsets, k, keep_seen=keep_seen)  # type: ignore[attr-defined]
        empty = np.flatnonzero(np.diff(offsets) == 0)
        if len(empty):
            ids_SK[empty], values_SK[empty] = top_k(self._empty(len(empty)), ids_SK.shape[1])
        return ids_SK, values_SK

    def _empty(self, count: int) -> Tensor:
        return self.fallback.scores(np.empty(0, np.int32), np.zeros(count + 1, np.int64))
