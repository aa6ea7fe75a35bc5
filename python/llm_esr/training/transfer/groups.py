"""Who is head and who is tail, from training sequences alone.

Shapes: I items, U users.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from llm_esr.evaluation.groups import tail_threshold

if TYPE_CHECKING:
    from llm_esr.config import Config
    from llm_esr.data import Dataset

_ITEMS_LOWER = 0.02  # by so much the authors' quantile of items lies below that of users


@dataclass(frozen=True)
class HeadAndTail:
    """The two groups of users and of items.

    Attributes:
        tail_user: users with so many training items or fewer are tail.
        tail_item: items with so many training interactions or fewer are tail.
        lengths: training items of each user, int64 [U].
        counts: training interactions of each item, int64 [I + 1].

    """

    tail_user: float
    tail_item: float
    lengths: NDArray[np.int64]
    counts: NDArray[np.int64]

    @classmethod
    def of(cls, data: Dataset, config: Config) -> HeadAndTail:
        """The groups of `transfer.head` and `transfer.head_share`."""
        settings = config.transfer
        lengths, counts = np.asarray(data.training_lengths), np.asarray(data.training_counts)
        share = 1 - settings.head_share
        if settings.head == "groups":
            return cls(tail_threshold(lengths, share) - 1, tail_threshold(counts[1:], share) - 1, lengths, counts)
        met = counts[counts > 0]
        item = float(np.quantile(met, max(share - _ITEMS_LOWER, 0.0))) if len(met) else 0.0
        return cls(float(np.quantile(lengths, share)) if len(lengths) else 0.0, item, lengths, counts)

    @property
    def head_users(self) -> NDArray[np.int64]:
        """Their numbers, rising."""
        return np.flatnonzero(self.lengths > self.tail_user)

    @property
    def head_items(self) -> NDArray[np.int64]:
        """Their ids, rising."""
        return 1 + np.flatnonzero(self.counts[1:] > self.tail_item)

    @property
    def tail_items(self) -> NDArray[np.int64]:
        """Their ids, rising; items that training never met are among them."""
        return 1 + np.flatnonzero(self.counts[1:] <= self.tail_item)
