"""The semantic view: text embeddings of the items, brought to the model's width by a trained adapter.

Shapes: n items, I all items, E width of the text embeddings, D model width.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from llm_esr.config import ModelConfig
from llm_esr.models.views.interface import ModelData, View

_CHUNK = 1024  # text embeddings at once: a few megabytes
_CHUNK_ON_A_DEVICE = 1 << 16
_MASK_SCALE = 0.01  # of a mask token's own vector, as the authors of LLMEmb draw it


class SemanticView(View):
    """Text embeddings of the items, brought to the model's width by a trained adapter.

    The table is frozen, shared with the data folder's memory map, and not part of the state dict, unless
    `config.train_semantic_table`. Padding and the mask token have a vector of zeros before the adapter; in a trained
    table these are rows 0 and I + 1. With `semantic_mask: own` the mask token has a vector behind the adapter instead.
    """

    def __init__(self, config: ModelConfig, data: ModelData) -> None:
        super().__init__(config, data)
        table_IE = self._item_vectors(data)
        width, source = config.width, table_IE.shape[1]
        self.table: Tensor
        if config.train_semantic_table:
            self.register_parameter("table", nn.Parameter(F.pad(table_IE.float(), (0, 0, 1, 1))))
        else:
            self.register_buffer("table", table_IE, persistent=False)
        inner = max(source // 2, 1)
        self.padding_idx = None if config.padding_row == "trained" else 0
        self.n_items, self.shifted = data.n_items, config.last_row == "shifted"
        self.only_items = not (
            config.padding == "tokens" or config.reads_mask_tokens or data.mask_tokens or self.shifted
        )
        # Without an activation between them the two layers are one, which is cheaper where items are many. The sums
        # are those of the two layers up to rounding; a comparison to the last digits can switch it off.
        self.collapses = config.adapter == "two-linear"
        self.kind = config.adapter
        self.first = nn.Linear(source, width if config.adapter == "linear" else inner)
        self.second = nn.Identity() if config.adapter == "linear" else nn.Linear(inner, width)
        self.mask: nn.Parameter | None = None
        if config.semantic_mask == "own" and config.reads_mask_tokens:
            self.mask = nn.Parameter(torch.randn(width) * _MASK_SCALE)

    def forward(self, items_n: Tensor) -> Tensor:
        """Ids [n] -> vectors [n, D]. Without gradients it goes by chunks, whose texts stay in the cache."""
        adapt = self._adapter(len(items_n))
        most = _CHUNK if items_n.device.type == "cpu" else _CHUNK_ON_A_DEVICE
        if torch.is_grad_enabled() or len(items_n) <= most:
            vectors_nD = adapt(self._source(items_n))
        else:
            vectors_nD = torch.cat([adapt(self._source(chunk)) for chunk in torch.split(items_n, most)])
        if self.mask is None:
            return vectors_nD
        return torch.where((items_n == self.n_items + 1)[:, None], self.mask.to(vectors_nD.dtype), vectors_nD)

    def _adapter(self, count: int) -> Callable[[Tensor], Tensor]:
        """What brings `count` text embeddings to the model's width, [n, E] -> [n, D]."""
        if self.collapses and isinstance(self.second, nn.Linear) and count > self.first.out_features:
            weight_DE = self.second.weight @ self.first.weight
            bias_D = self.second.weight @ self.first.bias + self.second.bias
            return lambda source_nE: F.linear(source_nE, weight_DE, bias_D)
        activation = F.gelu if self.kind == "mlp" else nn.Identity()
        return lambda source_nE: self.second(activation(self.first(source_nE)))

    def _source(self, items_n: Tensor) -> Tensor:
        if self.shifted:  # the last item and the mask token change places
            items_n = torch.where(items_n >= self.n_items, 2 * self.n_items + 1 - items_n, items_n)
        if isinstance(self.table, nn.Parameter):
            return F.embedding(items_n, self.table, padding_idx=self.padding_idx)
        if self.only_items:
            return self.table.index_select(0, items_n - 1).to(self.first.weight.dtype)
        n_items = len(self.table)
        known_n = (items_n >= 1) & (items_n <= n_items)
        source_nE = self.table.index_select(0, (items_n - 1).clamp(0, n_items - 1))
        return source_nE.to(self.first.weight.dtype) * known_n[:, None]

    def drawn(self) -> list[Tensor]:
        """The table, where it is trained: it starts from the vectors."""
        return [self.table] if isinstance(self.table, nn.Parameter) else []

    @staticmethod
    def _item_vectors(data: ModelData) -> Tensor:
        vectors_IE = data.item_vectors
        if vectors_IE is None or len(vectors_IE) != data.n_items:
            came = "none" if vectors_IE is None else f"{len(vectors_IE)} rows"
            raise ValueError(f"the semantic view needs one vector for each of {data.n_items} items, got {came}")
        return vectors_IE
