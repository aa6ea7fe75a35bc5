"""A map-style `Dataset` as the authors of LLM-ESR (and of SASRec) write one: a user at a time, in Python.

`__getitem__` fills one user's rows from the newest item backwards in a loop, draws each negative by rejection against
a set, fills the rows of every similar user in the same way and stacks them; the default collation makes the batch.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch.utils.data import DataLoader, Dataset
from workload import Histories

from peers import Dense

Rows = tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]


class AuthorsDataset(Dataset[tuple[Any, ...]]):
    """One student an entry.

    Args:
        folder: the data folder.
        n_items: I.
        max_len: L.
        similar_users: K; 0: none.
        whole: False: as in the paper, the last item is a target only, for teachers nothing at all.

    """

    def __init__(
        self, folder: Path, n_items: int, max_len: int, similar_users: int, *, whole: bool = True, seed: int = 0
    ) -> None:
        found = Histories.read(folder)
        self.histories = found.as_lists()
        self.similar = found.similar[:, :similar_users].tolist() if similar_users else None
        shortest = 1 if similar_users or not whole else 2
        self.students = [user for user, history in enumerate(self.histories) if len(history) >= shortest]
        self.n_items, self.max_len, self.whole = n_items, max_len, whole
        np.random.seed(seed)  # the authors draw from NumPy's global generator

    def __len__(self) -> int:
        return len(self.students)

    def __getitem__(self, index: int) -> tuple[Any, ...]:
        user = self.students[index]
        items, targets, negatives, positions = self.rows_of(user)
        if self.similar is None:
            return user, items, targets, negatives, positions
        teacher_items, teacher_positions = [], []
        for other in self.similar[user]:
            row, places = self.teacher_rows_of(other)
            teacher_items.append(row)
            teacher_positions.append(places)
        return user, items, targets, negatives, positions, np.stack(teacher_items), np.stack(teacher_positions)

    def rows_of(self, user: int) -> Rows:
        """Items, targets, negatives and positions, each [L]."""
        history = self.histories[user]
        seen = set(history)
        items = np.zeros(self.max_len, np.int64)
        targets = np.zeros(self.max_len, np.int64)
        negatives = np.zeros(self.max_len, np.int64)
        following = 0 if self.whole else history[-1]
        place = self.max_len - 1
        for item in reversed(history if self.whole else history[:-1]):
            items[place] = item
            targets[place] = following
            if following != 0:
                negatives[place] = unseen_item(self.n_items, seen)
            following = item
            place -= 1
            if place < 0:
                break
        return items, targets, negatives, self.positions_of(len(history) - (not self.whole))

    def teacher_rows_of(self, user: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Items and positions of a similar user, each [L]."""
        history = self.histories[user] if self.whole else self.histories[user][:-1]
        items = np.zeros(self.max_len, np.int64)
        place = self.max_len - 1
        for item in reversed(history):
            items[place] = item
            place -= 1
            if place < 0:
                break
        return items, self.positions_of(len(history))

    def positions_of(self, length: int) -> NDArray[np.int64]:
        """1, 2, ... on the right, 0 before."""
        length = min(length, self.max_len)
        return np.array([0] * (self.max_len - length) + list(range(1, length + 1)))


def unseen_item(n_items: int, seen: set[int]) -> int:
    """Draw until the item is one that the user never met."""
    item = np.random.randint(1, n_items + 1)
    while item in seen:
        item = np.random.randint(1, n_items + 1)
    return int(item)


def authors_batches(
    dataset: AuthorsDataset, batch_size: int, *, shuffle: bool = True, workers: int = 0
) -> Iterator[Dense]:
    """One epoch."""
    for batch in DataLoader(dataset, batch_size=batch_size, shuffle=shuffle, num_workers=workers):
        users, items, targets, negatives, positions, *teachers = batch
        yield Dense(users, items, positions, targets, negatives, *teachers)
