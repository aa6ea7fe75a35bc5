from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch


class SmallData:
    """The part of `Dataset` that evaluation reads, over lists; the last two items are held out."""

    def __init__(self, histories: list[list[int]], n_items: int) -> None:
        self.folder = Path("small")
        self.split = "leave-one-out"
        self.item_embeddings: np.ndarray | None = None
        self.all = [np.array(h, np.int32) for h in histories]
        self.n_users, self.n_items = len(histories), n_items
        lengths = np.array([len(h) for h in histories])
        held = np.where(lengths >= 3, 1, 0)
        self.splits = np.stack([lengths - 2 * held, lengths - held], axis=1).astype(np.int64)
        self.training_lengths = self.splits[:, 0]
        trained = [h[:end] for h, end in zip(self.all, self.training_lengths, strict=True)]
        counts = np.bincount(np.concatenate([*trained, np.empty(0, np.int32)]), minlength=n_items + 1)
        self.training_counts = counts.astype(np.int64)

    def input_ends(self, part: str) -> np.ndarray:
        ends = {"validation": self.splits[:, 0], "test": self.splits[:, 1]}
        return ends.get(part, np.array([len(h) for h in self.all]))

    def targets(self, part: str) -> np.ndarray:
        until = self.splits[:, 1] if part == "validation" else np.array([len(h) for h in self.all])
        ends = self.input_ends(part)
        rows = zip(self.all, ends, until, strict=True)
        return np.array([h[a] if a < b else 0 for h, a, b in rows], np.int32)

    def history(self, user: int, part: str) -> np.ndarray:
        return self.all[user][: self.input_ends(part)[user]]

    def histories(self, users: np.ndarray, part: str) -> tuple[np.ndarray, np.ndarray]:
        chosen = [self.history(int(u), part) for u in users]
        offsets = np.concatenate([[0], np.cumsum([len(h) for h in chosen])]).astype(np.int64)
        return np.concatenate([*chosen, np.empty(0, np.int32)]).astype(np.int32), offsets


class FixedScorer:
    """Scores from a matrix [U, I]; a history is known by its items."""

    name = "fixed"

    def __init__(self, data: Any, part: str, matrix: np.ndarray) -> None:
        self.matrix = torch.from_numpy(np.asarray(matrix, np.float32))
        self.row = {data.history(u, part).tobytes(): u for u in range(data.n_users)}
        self.refreshed = 0

    def refresh(self) -> None:
        self.refreshed += 1

    def scores(self, items: np.ndarray, offsets: np.ndarray) -> torch.Tensor:
        return self.matrix[[self.row[items[a:b].tobytes()] for a, b in pairwise(offsets)]]


def random_data(seed: int, n_users: int = 40, n_items: int = 30) -> SmallData:
    rng = np.random.default_rng(seed)
    popular = rng.dirichlet(np.full(n_items, 0.5))
    # The user's number is written into the first items, so that no two histories are alike.
    histories = [
        [1 + u // n_items, 1 + u % n_items, *(1 + rng.choice(n_items, size=rng.choice([0, 2, 3, 5, 9]), p=popular))]
        for u in range(n_users)
    ]
    return SmallData(histories, n_items)


@pytest.fixture
def small_data() -> type[SmallData]:
    return SmallData


@pytest.fixture
def fixed_scorer() -> type[FixedScorer]:
    return FixedScorer


@pytest.fixture
def make_random_data() -> Any:
    return random_data
