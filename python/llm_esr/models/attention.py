"""Multi-head attention over the rows of a batch.

Shapes: V views, T tokens, D width, R rows, W row width, H heads, d = D / H.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from llm_esr.models.tokens import Padding, Tokens


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
        padding: Padding = "apart",
        pseudo_key: tuple[Tensor, int] | None = None,
        kept_S: Tensor | None = None,
    ) -> Tensor:
        """Each token looks at the tokens of its own sequence; causal: not at later ones.

        Args:
            queries_VTD: what asks.
            keys_VTD: what is asked.
            values_VTD: what is answered.
            tokens: who belongs together.
            causal: whether later tokens are out of sight.
            padding: who may look at padding tokens, where there are any.
            pseudo_key: (what keys and values are made from at a padding position [D], max_len): one key more, which
                stands for all the padding that a window of max_len would hold.
            kept_S: the tokens whose output is wanted; default: all.

        Returns:
            [V, T, D], or [V, S, D] with `kept_S`.

        """
        n_views, _, width = queries_VTD.shape
        q, k = self._heads(self.query(queries_VTD), tokens), self._heads(self.key(keys_VTD), tokens)
        v, mask = self._heads(self.value(values_VTD), tokens), tokens.mask(causal, n_views, padding)
        if pseudo_key is None:
            dropout = self.dropout if self.training else 0.0
            mixed_RHWd = F.scaled_dot_product_attention(q, k, v, attn_mask=mask, dropout_p=dropout)
        else:
            mixed_RHWd = self._with_pseudo_key(
                q, k, v, mask, pseudo_key[0], tokens.padding_counts(pseudo_key[1], n_views)
            )
        mixed_RWD = mixed_RHWd.transpose(1, 2).reshape(-1, tokens.row_width, width)
        mixed_VTD = tokens.flat(mixed_RWD, n_views)
        if kept_S is not None:
            mixed_VTD = mixed_VTD.index_select(1, kept_S)
        output_VTD: Tensor = self.output(mixed_VTD)
        return output_VTD

    def _with_pseudo_key(
        self, q_RHWd: Tensor, k_RHWd: Tensor, v_RHWd: Tensor, mask_R1WW: Tensor, input_D: Tensor, counts_R1W: Tensor
    ) -> Tensor:
        """Attention in which n padding keys, all alike, take part as one key whose score is raised by log n.

        exp(s + log n) = n exp(s), so the weights of the real keys are those of the padded computation, and the one
        key has the n keys' weight together. Dropout would drop or keep each of the n apart: their weight is
        multiplied by k / (n (1 - p)), k ~ Binomial(n, 1 - p), drawn for each query and head.
        """
        n_rows, _, row_width, head_width = q_RHWd.shape
        shape = (1, self.heads, 1, head_width)
        k0_RH1d = self.key(input_D).view(shape).expand(n_rows, -1, -1, -1)
        v0_RH1d = self.value(input_D).view(shape).expand(n_rows, -1, -1, -1)
        bias_R1WW = torch.zeros_like(mask_R1WW, dtype=q_RHWd.dtype).masked_fill(~mask_R1WW, -torch.inf)
        bias_R1WX = torch.cat([bias_R1WW, counts_R1W.to(q_RHWd.dtype).log()[..., None]], dim=3)
        keys, values = torch.cat([k_RHWd, k0_RH1d], dim=2), torch.cat([v_RHWd, v0_RH1d], dim=2)
        if not (self.training and self.dropout):
            return F.scaled_dot_product_attention(q_RHWd, keys, values, attn_mask=bias_R1WX)
        scores_RHWX = q_RHWd @ keys.transpose(2, 3) / math.sqrt(head_width) + bias_R1WX
        weights_RHWX = scores_RHWX.softmax(dim=3)
        kept = 1 - self.dropout
        counts_RHW = counts_R1W.expand(-1, self.heads, -1).contiguous()
        survivors_RHW = torch.binomial(counts_RHW, torch.full_like(counts_RHW, kept))
        share_RHW1 = (survivors_RHW / (counts_RHW.clamp(min=1) * kept))[..., None].to(q_RHWd.dtype)
        real_RHWW, padding_RHW1 = weights_RHWX[..., :row_width], weights_RHWX[..., row_width:]
        mixed_RHWd: Tensor = F.dropout(real_RHWW, self.dropout) @ v_RHWd + (padding_RHW1 * share_RHW1) * v0_RH1d
        return mixed_RHWd

    def _heads(self, x_VTD: Tensor, tokens: Tokens) -> Tensor:
        rows_RWD = tokens.rows(x_VTD)
        n_rows, row_width, width = rows_RWD.shape
        return rows_RWD.view(n_rows, row_width, self.heads, width // self.heads).transpose(1, 2)
