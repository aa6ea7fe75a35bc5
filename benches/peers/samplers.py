"""Negative samplers: rejection in NumPy, and what torch has, which leaves no item out.

Shapes: M targets, N negatives a target, I items.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from workload import Histories

Ints = NDArray[np.int64]


@dataclass(frozen=True)
class Met:
    """Which user met which item, as sorted numbers, and how items are drawn."""

    pairs: Ints
    n_items: int
    chances: NDArray[np.float64]

    @staticmethod
    def of(histories: Histories, n_items: int) -> Met:
        users = np.repeat(np.arange(len(histories.lengths)), histories.lengths)
        counts = np.bincount(histories.flat, minlength=n_items + 1)[1:]
        chances = np.cumsum(counts / counts.sum())
        return Met(np.unique(users * (n_items + 1) + histories.flat), n_items, chances)

    def includes(self, users: Ints, items: Ints) -> NDArray[np.bool_]:
        """Whether each user met each item."""
        pairs = users * (self.n_items + 1) + items
        places = np.searchsorted(self.pairs, pairs)
        return self.pairs[np.minimum(places, len(self.pairs) - 1)] == pairs

    def uniform(self, rng: np.random.Generator, users_M: Ints, n: int) -> Ints:
        """[M, N] items that the users never met."""
        return self._unseen(users_M, n, lambda size: rng.integers(1, self.n_items + 1, size))

    def by_popularity(self, rng: np.random.Generator, users_M: Ints, n: int) -> Ints:
        """Likewise, each item as often as training met it."""
        return self._unseen(users_M, n, lambda size: np.searchsorted(self.chances, rng.random(size), side="right") + 1)

    def _unseen(self, users_M: Ints, n: int, draw: Callable[[int], Ints]) -> Ints:
        users = np.repeat(users_M, n)
        items = draw(len(users))
        again = np.flatnonzero(self.includes(users, items))
        while len(again):
            items[again] = draw(len(again))
            again = again[self.includes(users[again], items[again])]
        return items.reshape(-1, n)


def torch_uniform(n_items: int, rows: int, n: int) -> torch.Tensor:
    """[M, N] items; what a user met is not left out."""
    return torch.randint(1, n_items + 1, (rows, n))


def torch_by_popularity(weights: torch.Tensor, rows: int, n: int) -> torch.Tensor:
    """[M, N] places of `weights`; what a user met is not left out."""
    return torch.multinomial(weights, rows * n, replacement=True).view(rows, n)
