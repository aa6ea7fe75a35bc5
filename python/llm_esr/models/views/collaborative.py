"""The collaborative view: a trainable vector for each item, learnt from interactions alone.

Shapes: n items, I all items, D model width.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from llm_esr.config import ModelConfig
from llm_esr.models.views.borrowing import mixed_rows
from llm_esr.models.views.interface import ModelData, View


class CollaborativeView(View):
    """A trainable vector for each item, learnt from interactions alone.

    Rows are ids: 0 pads (read where padding is tokens), 1..I are items, I + 1 is the mask token.
    """

    borrowed_rows: Tensor
    borrowed_shares: Tensor

    def __init__(self, config: ModelConfig, data: ModelData) -> None:
        super().__init__(config, data)
        n_items = data.n_items
        padding_idx = None if config.padding_row == "trained" else 0
        self.table = nn.Embedding(n_items + 2, config.width, padding_idx=padding_idx)
        with torch.no_grad():
            if config.collaborative_init in ("pca", "stored"):
                assert data.initial_table is not None, "the caller projects the item vectors"
                self.table.weight.zero_()
                self.table.weight[1 : n_items + 1] = data.initial_table
            elif config.collaborative_init == "xavier":
                nn.init.xavier_normal_(self.table.weight)
            else:
                nn.init.normal_(self.table.weight, std=0.02)
            if config.padding_row != "drawn":
                self.table.weight[0] = 0
        self.borrows = config.borrow > 0
        if self.borrows:
            assert data.borrowed is not None, "the caller looks the lenders up"
            data.borrowed.keep_in(self)

    def forward(self, items_n: Tensor) -> Tensor:
        """Ids [n] -> vectors [n, D]."""
        if self.borrows:
            return mixed_rows(items_n, self.table, self.borrowed_rows, self.borrowed_shares)
        vectors_nD: Tensor = self.table(items_n)
        return vectors_nD

    def drawn(self) -> list[Tensor]:
        """The table."""
        return [self.table.weight]

    @property
    def item_table(self) -> nn.Embedding:
        """The table."""
        return self.table
