"""Multi-head attention over the rows of a batch.

Shapes: V views, T tokens, D width, R rows, W row width, H heads.
"""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from llm_esr.models.tokens import Tokens


class Attention(nn.Module):
    """Scaled dot-product attention with `heads` heads and an output projection.

    Args:
        width: D.
        heads: H, a divisor of D.
        bias: whether the query, key and value projections have one (the output projection always has).
        dropout: rate at which attention weights are dropped in training.

    """

    def __init__(self, width: int, heads: int, *, bias: bool = True, dropout: float = 0.0) -> None:
        super().__init__()
        self.heads = heads
        self.dropout = dropout
        self.query = nn.Linear(width, width, bias=bias)
        self.key = nn.Linear(width, width, bias=bias)
        self.value = nn.Linear(width, width, bias=bias)
        self.output = nn.Linear(width, width)

    def forward(
        self,
        queries_VTD: Tensor,
        keys_VTD: Tensor,
        values_VTD: Tensor,
        tokens: Tokens,
        *,
        causal: bool,
        kept_S: Tensor | None = None,
    ) -> Tensor:
        """Each token looks at the tokens of its own sequence; causal: not at later ones.

        [V, T, D] -> [V, T, D], or [V, S, D] where only the tokens `kept_S` are wanted.
        """
        n_views, _, width = queries_VTD.shape
        mixed_RHWd = F.scaled_dot_product_attention(
            self._heads(self.query(queries_VTD), tokens),
            self._heads(self.key(keys_VTD), tokens),
            self._heads(self.value(values_VTD), tokens),
            attn_mask=tokens.mask(causal, n_views),
            dropout_p=self.dropout if self.training else 0.0,
        )
        mixed_RWD = mixed_RHWd.transpose(1, 2).reshape(-1, tokens.row_width, width)
        mixed_VTD = tokens.flat(mixed_RWD, n_views)
        if kept_S is not None:
            mixed_VTD = mixed_VTD.index_select(1, kept_S)
        output_VTD: Tensor = self.output(mixed_VTD)
        return output_VTD

    def _heads(self, x_VTD: Tensor, tokens: Tokens) -> Tensor:
        rows_RWD = tokens.rows(x_VTD)
        n_rows, row_width, width = rows_RWD.shape
        return rows_RWD.view(n_rows, row_width, self.heads, width // self.heads).transpose(1, 2)
