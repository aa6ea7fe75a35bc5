"""What the loaders are measured on: 50,000 users of mean length 10.55, 30,000 Zipf items, 10 similar users each."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

MAX_LEN = 200
BATCH_SIZE = 128
SIMILAR_USERS = 10


@dataclass(frozen=True)
class Workload:
    """A data folder and what `BatchLoader` asks of a `Dataset`."""

    folder: Path
    n_users: int
    n_items: int
    fingerprint: str = "benchmark"


def make_workload(folder: Path, n_users: int = 50_000, n_items: int = 30_000) -> Workload:
    """Write the data folder; the same numbers at every call."""
    rng = np.random.default_rng(0)
    lengths = np.minimum(1 + rng.geometric(1 / 9.55, n_users), 400).astype(np.int64)
    chances = 1 / np.arange(1, n_items + 1)
    ids = rng.permutation(n_items) + 1
    items = ids[rng.choice(n_items, lengths.sum(), p=chances / chances.sum())]
    folder.mkdir(parents=True, exist_ok=True)
    arrays: dict[str, Any] = {
        "offsets": np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64),
        "items": items.astype(np.int32),
        "splits": np.stack([lengths, lengths], axis=1),
        "similar_users": rng.integers(0, n_users, (n_users, SIMILAR_USERS)).astype(np.int32),
    }
    for name, array in arrays.items():
        np.save(folder / f"{name}.npy", array)
    return Workload(folder, n_users, n_items)
