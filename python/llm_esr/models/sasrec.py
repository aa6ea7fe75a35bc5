"""SASRec (Kang and McAuley, 2018): a stack of causal self-attention blocks over a sequence of item vectors.

Shapes: V views, T tokens, D width.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from llm_esr.config import ModelConfig
from llm_esr.models.attention import Attention
from llm_esr.models.tokens import Tokens

_PORTION = 512  # tokens of a view at once: 512 x 4 D floats fit a core's second-level cache at usual widths


class PreNormBlock(nn.Module):
    """x + attention(norm(x)), then x + feed_forward(norm(x)), with a GELU between the two linear layers."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        width, inner = config.width, config.width * config.feed_forward
        self.attention_norm = nn.LayerNorm(width)
        self.attention = Attention(width, config.heads, dropout=config.dropout)
        self.forward_norm = nn.LayerNorm(width)
        self.expand = nn.Linear(width, inner)
        self.contract = nn.Linear(inner, width)
        self.dropout = nn.Dropout(config.dropout)

    def forward(self, x_VTD: Tensor, tokens: Tokens, kept_S: Tensor | None = None) -> Tensor:
        """[V, T, D] -> [V, T, D], or [V, S, D] for the tokens `kept_S` alone."""
        normed_VTD = self.attention_norm(x_VTD)
        mixed_VTD = self.attention(normed_VTD, normed_VTD, normed_VTD, tokens, causal=True, kept_S=kept_S)
        x_VTD = _kept(x_VTD, kept_S) + self.dropout(mixed_VTD)
        return _in_portions(self._feed_forward, x_VTD)

    def _feed_forward(self, x_VTD: Tensor) -> Tensor:
        inner_VTF = self.dropout(F.gelu(self.expand(self.forward_norm(x_VTD))))
        output_VTD: Tensor = x_VTD + self.dropout(self.contract(inner_VTF))
        return output_VTD


class PaperBlock(nn.Module):
    """The block of the authors' code: queries and the residual start from the normed input, keys and values do not."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        width, inner = config.width, config.width * config.feed_forward
        self.attention_norm = nn.LayerNorm(width, eps=1e-8)
        self.attention = Attention(width, config.heads, dropout=config.dropout)
        self.forward_norm = nn.LayerNorm(width, eps=1e-8)
        self.expand = nn.Linear(width, inner)
        self.contract = nn.Linear(inner, width)
        self.dropout = nn.Dropout(config.dropout)

    def forward(self, x_VTD: Tensor, tokens: Tokens, kept_S: Tensor | None = None) -> Tensor:
        """[V, T, D] -> [V, T, D], or [V, S, D] for the tokens `kept_S` alone."""
        queries_VTD = self.attention_norm(x_VTD)
        mixed_VTD = self.attention(queries_VTD, x_VTD, x_VTD, tokens, causal=True, kept_S=kept_S)
        return _in_portions(self._feed_forward, _kept(queries_VTD, kept_S) + mixed_VTD)

    def _feed_forward(self, x_VTD: Tensor) -> Tensor:
        x_VTD = self.forward_norm(x_VTD)
        inner_VTF = F.relu(self.dropout(self.expand(x_VTD)))
        output_VTD: Tensor = x_VTD + self.dropout(self.contract(inner_VTF))
        return output_VTD


class SASRec(nn.Module):
    """The backbone: `blocks` blocks and a last layer norm. Position and scale are the caller's."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        block = PreNormBlock if config.block == "pre-norm" else PaperBlock
        self.blocks = nn.ModuleList(block(config) for _ in range(config.blocks))
        self.last_norm = nn.LayerNorm(config.width, eps=1e-5 if config.block == "pre-norm" else 1e-8)

    def forward(self, x_VTD: Tensor, tokens: Tokens, kept_S: Tensor | None = None) -> Tensor:
        """[V, T, D] -> [V, T, D]; a token's output depends on it and on earlier tokens of its sequence.

        With `kept_S` only these tokens' outputs, [V, S, D]: the last block then skips the others where it can.
        """
        *first, last = self.blocks
        for block in first:
            x_VTD = block(x_VTD, tokens)
        x_VTD = last(x_VTD, tokens, kept_S)
        output_VTD: Tensor = self.last_norm(x_VTD)
        return output_VTD


def _in_portions(feed_forward: Callable[[Tensor], Tensor], x_VTD: Tensor) -> Tensor:
    """A function of each token alone. Without gradients it runs over portions, which stay in the cache."""
    if torch.is_grad_enabled() or x_VTD.shape[1] <= _PORTION:
        return feed_forward(x_VTD)
    return torch.cat([feed_forward(portion) for portion in torch.split(x_VTD, _PORTION, dim=1)], dim=1)


def _kept(x_VTD: Tensor, kept_S: Tensor | None) -> Tensor:
    return x_VTD if kept_S is None else x_VTD.index_select(1, kept_S)
