"""Multi-head attention among a batch's tokens: projections around a backend.

Shapes: V views, T tokens, S sequences, D width; A queries of a view: T, or S where only the newest tokens ask.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from llm_esr.attention.choice import BACKENDS, choose
from llm_esr.attention.interface import Attending, Padding, PseudoKey
from llm_esr.attention.tokens import Tokens


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
        memory_VTD: Tensor,
        tokens: Tokens,
        *,
        causal: bool,
        padding: Padding = "apart",
        pseudo_key: tuple[Tensor | None, int] | None = None,
        last_only: bool = False,
    ) -> Tensor:
        """Each token looks at the tokens of its own sequence; causal: not at later ones.

        Args:
            queries_VTD: what asks.
            memory_VTD: what keys and values are made from.
            tokens: who belongs together.
            causal: whether later tokens are out of sight.
            padding: who may look at padding tokens, where there are any.
            pseudo_key: (what `memory` is at a padding position [D] or None for zeros, max_len): one key more, which
                stands for all the padding that a window of max_len would hold.
            last_only: only the newest token of each sequence asks.

        Returns:
            [V, T, D], or [V, S, D] with `last_only` (where a sequence is empty it means nothing).

        """
        backend = BACKENDS[choose(tokens, _computed_in(queries_VTD), with_pseudo_key=pseudo_key is not None)]
        newest_only = last_only and backend.asks_newest_alone(tokens)
        queries: Tensor | None = None
        if queries_VTD is memory_VTD and not newest_only:
            memory = self._projected(memory_VTD, self.query, self.key, self.value)
        else:
            queries = self.query(queries_VTD.index_select(1, tokens.last_S) if newest_only else queries_VTD)
            memory = self._projected(memory_VTD, self.key, self.value)
        pseudo = None
        if pseudo_key is not None:
            pseudo = self._pseudo_key(*pseudo_key, tokens)
        rate = self.dropout if self.training else 0.0
        attending = Attending(self.heads, causal, padding, newest_only, rate, pseudo)
        mixed_VAD = backend.mix(queries, memory, tokens, attending)
        if last_only and not newest_only:
            mixed_VAD = mixed_VAD.index_select(1, tokens.last_S)
        output_VAD: Tensor = self.output(mixed_VAD)
        return output_VAD

    def _pseudo_key(self, padding_D: Tensor | None, max_len: int, tokens: Tokens) -> PseudoKey:
        if padding_D is None and tokens.row_width is not None and self.key.bias is not None:
            return PseudoKey(self.key.bias, self.value.bias, max_len)  # what zeros are projected to
        if padding_D is None:
            padding_D = self.key.weight.new_zeros(self.key.in_features)
        return PseudoKey(self.key(padding_D), self.value(padding_D), max_len)

    @staticmethod
    def _projected(x_VTD: Tensor, *layers: nn.Linear) -> Tensor:
        """Several projections in one product: [V, T, D] -> [V, T, layers x D]."""
        bias = None if layers[0].bias is None else torch.cat([layer.bias for layer in layers])
        return F.linear(x_VTD, torch.cat([layer.weight for layer in layers]), bias)


def _computed_in(x: Tensor) -> torch.dtype:
    """The precision in which products with `x` are computed."""
    device = x.device.type
    return torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else x.dtype
