"""The interaction of the two views: each looks at the other through cross-attention.

Shapes: V = 2 views (semantic, collaborative), T tokens, D width.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from llm_esr.attention import Attention, Tokens
from llm_esr.config import ModelConfig
from llm_esr.models.interactions.interface import Interaction


class CrossAttention(Interaction):
    """c_co = CA(Q = e_se, K = V = e_co) and c_se = CA(Q = e_co, K = V = e_se) (arXiv 2405.20646).

    Causal where the backbone is. Padding is no key, unless a sequence is padding alone. The view that gives the values
    keeps its place: view 0 (semantic) stays semantic.
    """

    def __init__(self, config: ModelConfig) -> None:
        super().__init__(config)
        self.residual = config.interaction_residual
        self.causal = config.looks_back_only
        self.towards = nn.ModuleList(Attention(config.width, config.interaction_heads, bias=False) for _ in range(2))

    def forward(self, x_VTD: Tensor, tokens: Tokens) -> Tensor:
        """[2, T, D] -> [2, T, D]."""
        views = x_VTD.unsqueeze(1).unbind(0)
        mixed = [
            attention(
                views[1 - view],
                views[view],
                tokens,
                causal=self.causal,
                padding="unseen",
            )
            for view, attention in enumerate(self.towards)
        ]
        mixed_VTD = torch.cat(mixed)
        return x_VTD + mixed_VTD if self.residual else mixed_VTD
