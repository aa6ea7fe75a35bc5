"""Item views: each turns item ids into vectors of the model's width.

Shapes: n items, E width of the text embeddings, D model width.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from llm_esr.config import ModelConfig

_PORTION = 1024  # text embeddings at once: a few megabytes


class CollaborativeView(nn.Module):
    """A trainable vector for each item, learnt from interactions alone.

    Rows are ids: 0 pads (read where padding is tokens), 1..I are items, I + 1 is the mask token.
    """

    def __init__(self, config: ModelConfig, n_items: int, initial_ID: Tensor | None = None) -> None:
        super().__init__()
        padding_idx = None if config.padding_row == "trained" else 0
        self.table = nn.Embedding(n_items + 2, config.width, padding_idx=padding_idx)
        with torch.no_grad():
            if config.collaborative_init in ("pca", "stored"):
                assert initial_ID is not None, "the caller projects the item vectors"
                self.table.weight.zero_()
                self.table.weight[1 : n_items + 1] = initial_ID
            elif config.collaborative_init == "xavier":
                nn.init.xavier_normal_(self.table.weight)
            else:
                nn.init.normal_(self.table.weight, std=0.02)
            if config.padding_row != "drawn":
                self.table.weight[0] = 0

    def forward(self, items_n: Tensor) -> Tensor:
        """Ids [n] -> vectors [n, D]."""
        vectors_nD: Tensor = self.table(items_n)
        return vectors_nD


class SemanticView(nn.Module):
    """Text embeddings of the items, brought to the model's width by a trained adapter.

    The table is frozen, shared with the data folder's memory map, and not part of the state dict, unless
    `config.train_semantic_table`. Padding and the mask token have a vector of zeros before the adapter; in a trained
    table these are rows 0 and I + 1.
    """

    def __init__(self, config: ModelConfig, table_IE: Tensor, *, mask_tokens: bool = False) -> None:
        super().__init__()
        width, source = config.width, table_IE.shape[1]
        self.table: Tensor
        if config.train_semantic_table:
            self.register_parameter("table", nn.Parameter(F.pad(table_IE.float(), (0, 0, 1, 1))))
        else:
            self.register_buffer("table", table_IE, persistent=False)
        inner = max(source // 2, 1)
        self.padding_idx = None if config.padding_row == "trained" else 0
        self.only_items = config.padding == "none" and not (config.masks or mask_tokens)
        # Without an activation between them the two layers are one, which is cheaper where items are many. The sums
        # are those of the two layers up to rounding; a comparison to the last digits can switch it off.
        self.collapses = config.adapter == "two-linear"
        self.kind = config.adapter
        self.first = nn.Linear(source, width if config.adapter == "linear" else inner)
        self.second = nn.Identity() if config.adapter == "linear" else nn.Linear(inner, width)

    def forward(self, items_n: Tensor) -> Tensor:
        """Ids [n] -> vectors [n, D]. Without gradients it goes by portions, whose texts stay in the cache."""
        adapt = self._adapter(len(items_n))
        if torch.is_grad_enabled() or len(items_n) <= _PORTION:
            return adapt(self._source(items_n))
        return torch.cat([adapt(self._source(portion)) for portion in torch.split(items_n, _PORTION)])

    def _adapter(self, count: int) -> Callable[[Tensor], Tensor]:
        """What brings `count` text embeddings to the model's width, [n, E] -> [n, D]."""
        if self.collapses and isinstance(self.second, nn.Linear) and count > self.first.out_features:
            weight_DE = self.second.weight @ self.first.weight
            bias_D = self.second.weight @ self.first.bias + self.second.bias
            return lambda source_nE: F.linear(source_nE, weight_DE, bias_D)
        activation = F.gelu if self.kind == "mlp" else nn.Identity()
        return lambda source_nE: self.second(activation(self.first(source_nE)))

    def _source(self, items_n: Tensor) -> Tensor:
        if isinstance(self.table, nn.Parameter):
            return F.embedding(items_n, self.table, padding_idx=self.padding_idx)
        if self.only_items:
            return self.table.index_select(0, items_n - 1).to(self.first.weight.dtype)
        n_items = len(self.table)
        known_n = (items_n >= 1) & (items_n <= n_items)
        source_nE = self.table.index_select(0, (items_n - 1).clamp(0, n_items - 1))
        return source_nE.to(self.first.weight.dtype) * known_n[:, None]
