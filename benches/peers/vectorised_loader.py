"""A loader without loops over users: whole batches by NumPy's indexing.

Only real tokens are gathered and scattered into zeroed rows, and negatives are drawn for all targets at once and drawn
again where a binary search finds them among the pairs that were met: what good NumPy can do.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from workload import Histories

from peers import Dense
from peers.samplers import Met

Ints = NDArray[np.int64]


class VectorisedLoader:
    """Epochs of `Dense` batches.

    Args:
        folder: the data folder.
        n_items: I.
        max_len: L.
        similar_users: K; 0: none.
        batch_size: B.
        shuffle: False: by rising user number.

    """

    def __init__(
        self,
        folder: Path,
        n_items: int,
        max_len: int,
        similar_users: int,
        batch_size: int,
        *,
        shuffle: bool = True,
        seed: int = 0,
    ) -> None:
        self.histories = Histories.read(folder)
        self.met = Met.of(self.histories, n_items)
        self.max_len, self.similar_users, self.batch_size = max_len, similar_users, batch_size
        self.students = np.flatnonzero(self.histories.lengths >= (1 if similar_users else 2))
        self.shuffle = shuffle
        self.rng = np.random.default_rng(seed)

    def __len__(self) -> int:
        return math.ceil(len(self.students) / self.batch_size)

    def __iter__(self) -> Iterator[Dense]:
        order = self.rng.permutation(self.students) if self.shuffle else self.students
        for first in range(0, len(order), self.batch_size):
            yield self.batch(order[first : first + self.batch_size])

    def batch(self, users: Ints) -> Dense:
        """The batch of these users."""
        n_users, length = len(users), self.max_len
        places, items, within = self._tokens(users)
        rows = np.zeros((4, n_users, length), np.int64)
        flat = rows.reshape(4, -1)
        flat[0, places], flat[1, places] = items, within
        # The next token of the row; the newest place has none.
        rows[2, :, :-1] = rows[0, :, 1:]
        rows[2, rows[0] == 0] = 0
        targeted = np.flatnonzero(flat[2])
        flat[3, targeted] = self.met.uniform(self.rng, users[targeted // length], 1)[:, 0]
        items_BL, positions_BL, targets_BL, negatives_BL = torch.from_numpy(rows)
        users_B = torch.from_numpy(users)
        if not self.similar_users:
            return Dense(users_B, items_BL, positions_BL, targets_BL, negatives_BL)
        similar = self.histories.similar[users, : self.similar_users].reshape(-1)
        places, items, within = self._tokens(similar)
        teachers = np.zeros((2, n_users, self.similar_users, length), np.int64)
        flat = teachers.reshape(2, -1)
        flat[0, places], flat[1, places] = items, within
        return Dense(users_B, items_BL, positions_BL, targets_BL, negatives_BL, *torch.from_numpy(teachers))

    def _tokens(self, users: Ints) -> tuple[Ints, Ints, Ints]:
        """Of every token of these users: its place in the flattened rows, its item, its position."""
        lengths = self.histories.lengths[users]
        shown = np.minimum(lengths, self.max_len)
        ends = np.cumsum(shown)
        counting = np.arange(ends[-1])
        # Each user's tokens end at the end of its history and at the end of its row.
        sources = np.repeat(self.histories.starts[users] + lengths - ends, shown) + counting
        row_ends = np.arange(1, len(users) + 1) * self.max_len
        places = np.repeat(row_ends - ends, shown) + counting
        return places, self.histories.flat[sources], counting - np.repeat(ends - shown, shown) + 1
