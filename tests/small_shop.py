"""A shop of a few users and items whose scores can be told by hand: fixtures that serving and scoring share."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import torch

from llm_esr.config import Config
from llm_esr.loading import build_sequences
from llm_esr.serving import Recommender

N_ITEMS = 12


class ShopData:
    """The part of `Dataset` that serving reads. User `u<n>` met a few items `i<m>`; the last two are held out."""

    def __init__(self, n_users: int = 6, titles: bool = True) -> None:
        rng = np.random.default_rng(5)
        self.folder = Path("shop")
        self.split = "leave-one-out"
        self.item_embeddings: np.ndarray | None = None
        self.similar_items = self.similar_items_scores = None
        self.all = [rng.integers(1, N_ITEMS + 1, 5).astype(np.int32) for _ in range(n_users)]
        self.n_users, self.n_items = n_users, N_ITEMS
        self.user_ids = [f"u{n}" for n in range(n_users)]
        self.item_ids = [f"i{n}" for n in range(1, N_ITEMS + 1)]
        self.numeric_ids: frozenset[str] = frozenset()
        self.user_index = {name: n for n, name in enumerate(self.user_ids)}
        self.item_index = {name: n for n, name in enumerate(self.item_ids, start=1)}
        self.training_counts = np.bincount(np.concatenate([h[:3] for h in self.all]), minlength=N_ITEMS + 1)
        self.training_lengths = np.full(n_users, 3)
        self._titles = [f"Thing {n}" for n in range(1, N_ITEMS + 1)] if titles else None

    def given_ids(self, kind: str) -> tuple[np.ndarray, pl.DataType]:
        return np.array(self.user_ids if kind == "user" else self.item_ids, dtype=object), pl.String()

    def titles(self) -> list[str] | None:
        return self._titles

    def input_ends(self, part: str) -> np.ndarray:
        return np.full(self.n_users, {"validation": 3, "test": 4, "serving": 5}[part])

    def targets(self, part: str) -> np.ndarray:
        return np.array([h[{"validation": 3, "test": 4}[part]] for h in self.all], np.int32)

    def histories(self, users: np.ndarray, part: str) -> tuple[np.ndarray, np.ndarray]:
        chosen = [self.all[u][: self.input_ends(part)[u]] for u in users]
        return np.concatenate(chosen), np.concatenate([[0], np.cumsum([len(h) for h in chosen])])


class SumModel:
    """Adds up the vectors of a history: what it was given to read can be read off its scores."""

    def __init__(self) -> None:
        self.max_len = 3  # the newest items that it reads
        self.vectors = torch.randn(N_ITEMS, 4, generator=torch.Generator().manual_seed(0))
        self.training = True
        self.modes: list[bool] = []
        self.matrices = 0

    def train(self, mode: bool = True) -> None:
        self.training = mode

    def sequences(self, items: np.ndarray, offsets: np.ndarray) -> Any:
        return build_sequences(items, offsets, max_len=self.max_len)

    def encode(self, sequences: Any) -> torch.Tensor:
        self.modes.append(self.training)
        rows = [self.vectors[sequences.items[a:b].astype(np.int64) - 1].sum(0) for a, b in pairwise(sequences.offsets)]
        return torch.stack(rows)

    def item_matrix(self) -> torch.Tensor:
        self.matrices += 1
        return self.vectors


@pytest.fixture
def shop() -> ShopData:
    return ShopData()


@pytest.fixture
def make_shop() -> type[ShopData]:
    return ShopData


@pytest.fixture
def model() -> SumModel:
    return SumModel()


@pytest.fixture
def recommender(shop: ShopData, model: SumModel) -> Recommender:
    config = Config.model_validate({"model": {"max_len": 3}})
    return Recommender(model, shop, name="sum", seed=42, config=config)


@pytest.fixture
def oracle(shop: ShopData, model: SumModel) -> Any:
    def best(history: list[int], k: int, allowed: set[int] | None = None, keep_seen: bool = False) -> list[str]:
        """The list for a history of item numbers, by sorting in plain NumPy."""
        user = model.vectors[np.array(history[-3:]) - 1].sum(0).numpy()
        order = (np.argsort(-(model.vectors.numpy() @ user), kind="stable") + 1).tolist()
        seen = set() if keep_seen else set(history)
        return [f"i{i}" for i in order if i not in seen and (allowed is None or i in allowed)][:k]

    return best
