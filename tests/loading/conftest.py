"""Data folders of the loading tests: histories as lists, written as the `.npy` files that Rust reads."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest


class Folder:
    """The part of `Dataset` that the loader reads, over the files of a folder."""

    def __init__(
        self,
        folder: Path,
        histories: list[list[int]],
        n_items: int,
        *,
        held: int = 0,
        similar_users: Any = None,
        similar_items: Any = None,
        scores: Any = None,
    ) -> None:
        self.folder, self.histories, self.n_items, self.n_users = folder, histories, n_items, len(histories)
        lengths = np.array([len(h) for h in histories], np.int64)
        kept = np.where(lengths >= 3, lengths - held, lengths)
        self.splits = np.stack([kept, np.minimum(kept + 1, lengths)], axis=1).reshape(-1, 2)
        self.training = [h[:end] for h, end in zip(histories, kept, strict=True)]
        self.fingerprint = f"{histories}"
        folder.mkdir(parents=True, exist_ok=True)
        self.save("offsets", np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64))
        self.save("items", np.array([i for h in histories for i in h], np.int32))
        self.save("splits", self.splits.astype(np.int64))
        self.similar_users = similar_users
        self.similar_items, self.scores = similar_items, scores
        for name, array, dtype in (
            ("similar_users", similar_users, np.int32),
            ("similar_items", similar_items, np.int32),
            ("similar_items_scores", scores, np.float32),
        ):
            if array is not None:
                self.save(name, np.asarray(array, dtype))

    def save(self, name: str, array: np.ndarray) -> None:
        np.save(self.folder / f"{name}.npy", array)

    def targets(self, part: str) -> np.ndarray:
        at = 0 if part == "validation" else 1
        rows = zip(self.histories, self.splits, strict=True)
        return np.array([h[ends[at]] if ends[at] < len(h) else 0 for h, ends in rows], np.int32)


@pytest.fixture
def make_folder(tmp_path: Path) -> Callable[..., Folder]:
    """A new folder from histories at each call."""
    made = iter(range(1000))

    def make(histories: list[list[int]], n_items: int, **files: Any) -> Folder:
        return Folder(tmp_path / str(next(made)), histories, n_items, **files)

    return make


@pytest.fixture(scope="session")
def make() -> type[Folder]:
    """The class itself, for tests that name their folders."""
    return Folder


@pytest.fixture(scope="session")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Folder:
    """120 users of 90 items with neighbours; some users have no or one training item, some many and repeats."""
    rng = np.random.default_rng(3)
    n_users, n_items = 120, 90
    lengths = rng.integers(0, 14, n_users)
    lengths[:4] = [0, 1, 2, 3]
    lengths[40] = 70
    histories = [rng.integers(1, n_items + 1, n).tolist() for n in lengths]
    similar = np.array([rng.permutation(n_users)[:6] for _ in range(n_users)])
    similar[5] = -1
    similar[6, 2:] = -1
    near = np.array([rng.permutation(n_items)[:5] + 1 for _ in range(n_items)])
    near[7] = -1
    near[8, 1:] = -1
    scores = -np.sort(-rng.random((n_items, 5)), axis=1)
    folder = tmp_path_factory.mktemp("shop")
    return Folder(folder, histories, n_items, held=2, similar_users=similar, similar_items=near, scores=scores)
