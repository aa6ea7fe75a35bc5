"""Small encoders of every kind, and histories for them: what the tests of the network and of its export share."""

from __future__ import annotations

import numpy as np
import torch

from llm_esr.config import ModelConfig
from llm_esr.models import ModelData, SequentialEncoder
from llm_esr.models.views.borrowing import BorrowedRows

N_ITEMS, TEXT_WIDTH = 40, 12


def config_of(**values: object) -> ModelConfig:
    base: dict[str, object] = {"width": 8, "heads": 2, "interaction_heads": 2, "max_len": 9, "dropout": 0.0}
    return ModelConfig.model_validate(base | values)


def model_of(config: ModelConfig, seed: int = 0) -> SequentialEncoder:
    torch.manual_seed(seed)
    data = ModelData(N_ITEMS, torch.randn(N_ITEMS, TEXT_WIDTH), torch.randn(N_ITEMS, config.width), borrowed_rows())
    return SequentialEncoder(config, data).eval()


def borrowed_rows() -> BorrowedRows:
    rng = np.random.default_rng(1)
    neighbours = rng.integers(1, N_ITEMS + 1, (N_ITEMS, 3)).astype(np.int32)
    neighbours[4] = -1
    cosines = rng.random((N_ITEMS, 3)).astype(np.float32)
    return BorrowedRows.from_neighbours(neighbours, cosines, rng.integers(0, 9, N_ITEMS), 5.0, 0.1)


def histories(lengths: list[int], seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    items = np.random.default_rng(seed).integers(1, N_ITEMS + 1, sum(lengths)).astype(np.int32)
    return items, np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)


VARIANTS = {
    "default": {},
    "corrected": {"interaction": "cross-attention", "block": "paper", "feed_forward": 1, "collaborative_init": "pca"},
    "residual": {"interaction": "cross-attention", "interaction_residual": True},
    "separate backbones": {"share_backbone": False},
    "sasrec": {"views": ["collaborative"]},
    "semantic alone": {"views": ["semantic"], "adapter": "mlp"},
    "summed": {"fusion": "sum"},
    "borrowed rows": {"fusion": "sum", "borrow": 5.0},
    "text profile": {"fusion": "sum", "borrow": 5.0, "text_profile": 1.0, "dropout": 0.0},
    "text profile, ids alone": {"views": ["collaborative"], "text_profile": 1.0, "text_profile_metric": False},
    "text profile, gru4rec": {"backbone": "gru4rec", "text_profile": 1.0, "fusion": "sum"},
    "trained table": {"train_semantic_table": True, "adapter": "linear"},
}
