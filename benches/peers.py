"""The straightforward loader in pure Python: a `Dataset`, a `DataLoader`, and rejection sampling.

Written as one writes it when speed is thought of, without leaving Python: histories and their sets are made once,
rows are filled by slices, only the default collation stacks them. Each student comes with padded rows of all its
similar users, as in the authors' code.
"""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset


class PeerDataset(Dataset[dict[str, Any]]):
    """One student a row: items, positions, targets and negatives [L], similar users' items and positions [K, L]."""

    def __init__(self, folder: Any, n_items: int, max_len: int, similar_users: int, seed: int = 0) -> None:
        offsets = np.load(folder / "offsets.npy").tolist()
        items = np.load(folder / "items.npy").tolist()
        ends = np.load(folder / "splits.npy")[:, 0].tolist()
        self.histories = [items[o : o + end] for o, end in zip(offsets, ends, strict=False)]
        self.seen = [set(history) for history in self.histories]
        self.similar = np.load(folder / "similar_users.npy")[:, :similar_users].tolist() if similar_users else None
        shortest = 1 if similar_users else 2
        self.students = [u for u, history in enumerate(self.histories) if len(history) >= shortest]
        self.n_items, self.max_len, self.similar_users = n_items, max_len, similar_users
        self.counting = np.arange(1, max_len + 1)
        self.random = random.Random(seed)

    def __len__(self) -> int:
        return len(self.students)

    def __getitem__(self, index: int) -> dict[str, Any]:
        user = self.students[index]
        history, length = self.histories[user][-self.max_len :], self.max_len
        n = len(history)
        items, positions, targets, negatives = np.zeros((4, length), np.int64)
        items[length - n :] = history
        positions[length - n :] = self.counting[:n]
        targets[length - n : -1] = history[1:]
        negatives[length - n : -1] = [self.negative(self.seen[user]) for _ in range(n - 1)]
        row = {"user": user, "items": items, "positions": positions, "targets": targets, "negatives": negatives}
        if self.similar is not None:
            teachers = np.zeros((2, self.similar_users, length), np.int64)
            for place, other in enumerate(self.similar[user]):
                taught = self.histories[other][-length:]
                teachers[0, place, length - len(taught) :] = taught
                teachers[1, place, length - len(taught) :] = self.counting[: len(taught)]
            row["teacher_items"], row["teacher_positions"] = teachers
        return row

    def negative(self, seen: set[int]) -> int:
        """One item that the user never met."""
        draw = self.random.random
        item = int(draw() * self.n_items) + 1
        while item in seen:
            item = int(draw() * self.n_items) + 1
        return item


def peer_loader(dataset: PeerDataset, batch_size: int, *, shuffle: bool = True, workers: int = 0) -> Any:
    """The usual `DataLoader`."""
    return DataLoader(dataset, batch_size=batch_size, shuffle=shuffle, num_workers=workers)


def multinomial_negatives(weights: torch.Tensor, rows: int, n: int) -> torch.Tensor:
    """`torch.multinomial`, as many write it: items that the user met are not left out."""
    return torch.multinomial(weights, rows * n, replacement=True).view(rows, n)
