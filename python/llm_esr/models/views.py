"""Item views: each turns item ids into vectors of the model's width.

Shapes: n items, E width of the text embeddings, D model width.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from llm_esr.config import ModelConfig


class CollaborativeView(nn.Module):
    """A trainable vector for each item, learnt from interactions alone.

    Rows are ids: 0 pads (never read), 1..I are items, I + 1 is the mask token.
    """

    def __init__(self, config: ModelConfig, n_items: int, initial_ID: Tensor | None = None) -> None:
        super().__init__()
        self.table = nn.Embedding(n_items + 2, config.width, padding_idx=0)
        with torch.no_grad():
            if config.collaborative_init == "pca":
                assert initial_ID is not None, "the caller projects the item vectors"
                self.table.weight.zero_()
                self.table.weight[1 : n_items + 1] = initial_ID
            elif config.collaborative_init == "xavier":
                nn.init.xavier_normal_(self.table.weight)
            else:
                nn.init.normal_(self.table.weight, std=0.02)
            self.table.weight[0] = 0

    def forward(self, items_n: Tensor) -> Tensor:
        """Ids [n] -> vectors [n, D]."""
        vectors_nD: Tensor = self.table(items_n)
        return vectors_nD


class SemanticView(nn.Module):
    """Text embeddings of the items, brought to the model's width by a trained adapter.

    The table is frozen, shared with the data folder's memory map, and not part of the state dict, unless
    `config.train_semantic_table`.
    """

    def __init__(self, config: ModelConfig, table_IE: Tensor) -> None:
        super().__init__()
        width, source = config.width, table_IE.shape[1]
        self.table: Tensor
        if config.train_semantic_table:
            self.register_parameter("table", nn.Parameter(table_IE.float().clone()))
        else:
            self.register_buffer("table", table_IE, persistent=False)
        inner = max(source // 2, 1)
        self.kind = config.adapter
        self.first = nn.Linear(source, width if config.adapter == "linear" else inner)
        self.second = nn.Identity() if config.adapter == "linear" else nn.Linear(inner, width)

    def forward(self, items_n: Tensor) -> Tensor:
        """Ids in 1..I, [n] -> vectors [n, D]."""
        source_nE = self.table.index_select(0, items_n - 1).float()
        if isinstance(self.second, nn.Linear) and self.kind == "two-linear":
            return _two_affine_layers(source_nE, self.first, self.second)
        inner_nF = self.first(source_nE)
        vectors_nD: Tensor = self.second(F.gelu(inner_nF) if self.kind == "mlp" else inner_nF)
        return vectors_nD


def _two_affine_layers(source_nE: Tensor, first: nn.Linear, second: nn.Linear) -> Tensor:
    """second(first(x)). Without an activation between them the two are one layer, cheaper where rows are many."""
    if len(source_nE) <= first.out_features:
        composed: Tensor = second(first(source_nE))
        return composed
    weight_DE = second.weight @ first.weight
    return F.linear(source_nE, weight_DE, second.weight @ first.bias + second.bias)
