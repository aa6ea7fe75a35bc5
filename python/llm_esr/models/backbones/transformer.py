"""SASRec (Kang and McAuley, 2018) and BERT4Rec (Sun et al., 2019): a stack of self-attention blocks.

They are the same network; SASRec looks back only and learns from the next item, BERT4Rec reads both ways and learns
from masked items.

Shapes: V views, T tokens, S sequences, D width.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from llm_esr.attention import Tokens
from llm_esr.config import ModelConfig
from llm_esr.models.backbones.blocks import PaperBlock, PreNormBlock
from llm_esr.models.backbones.interface import Backbone


class Transformer(Backbone):
    """The backbone: `blocks` blocks and a last layer norm. Position and scale are the caller's."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__(config)
        block = PreNormBlock if config.block == "pre-norm" else PaperBlock
        self.blocks = nn.ModuleList(block(config) for _ in range(config.blocks))
        self.last_norm = nn.LayerNorm(config.width, eps=block.eps)

    def forward(self, x_VTD: Tensor, tokens: Tokens, last_only: bool = False) -> Tensor:
        """[V, T, D] -> [V, T, D]; with `last_only` the newest tokens' outputs alone, [V, S, D].

        The last block then skips the others where it can. Padding tokens are zero before and after each block.
        """
        x_VTD = _zero_padding(x_VTD, tokens)
        *first, last = self.blocks
        for block in first:
            x_VTD = _zero_padding(block(x_VTD, tokens), tokens)
        x_VTD = _zero_padding(last(x_VTD, tokens, last_only), tokens, last_only)
        output_VTD: Tensor = self.last_norm(x_VTD)
        return output_VTD

    def empty_state(self) -> Tensor:
        """The state of a sequence without items, [D]: what padding alone comes to."""
        return self.last_norm.bias

    def initialise(self) -> None:
        """Draw what is not drawn as the rest."""
        for block in self.blocks:
            assert isinstance(block, PreNormBlock | PaperBlock)
            block.initialise()


def _zero_padding(x_VTD: Tensor, tokens: Tokens, last_only: bool = False) -> Tensor:
    if tokens.real_T is None:
        return x_VTD
    real_T = tokens.real_T.index_select(0, tokens.last_S) if last_only else tokens.real_T
    return torch.where(real_T[None, :, None], x_VTD, 0.0)
