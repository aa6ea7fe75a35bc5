"""The self-attention blocks that SASRec and BERT4Rec are stacked from.

Shapes: V views, T tokens, D width, F inner width of the feed-forward.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from llm_esr.attention import Attention, Tokens
from llm_esr.attention.dropout import Dropout
from llm_esr.config import ModelConfig

_CHUNK = 1 << 17  # entries of a view's inner activations at once: half a megabyte stays in a core's second cache


class AttentionInputs(NamedTuple):
    """What self-attention reads of a block's input.

    Attributes:
        queries: what asks.
        memory: what keys and values are made from.
        residual: what the result is added to.
        padding: what `memory` is at a padding position, [D]; None: zeros.

    """

    queries: Tensor
    memory: Tensor
    residual: Tensor
    padding: Tensor | None


class Block(nn.Module):
    """What both blocks have: layers, and self-attention as the configuration wants it."""

    eps: float

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        width, inner = config.width, config.width * config.feed_forward
        self.attention_norm = nn.LayerNorm(width, eps=self.eps)
        self.attention = Attention(width, config.heads, dropout=config.dropout)
        self.forward_norm = nn.LayerNorm(width, eps=self.eps)
        self.expand = nn.Linear(width, inner)
        self.contract = nn.Linear(inner, width)
        self.dropout = Dropout(config.dropout)
        self.causal = config.looks_back_only
        self.padding_keys = not config.mask_padding_keys
        self.max_len = config.max_len

    def forward(self, x_VTD: Tensor, tokens: Tokens, last_only: bool = False) -> Tensor:
        """[V, T, D] -> [V, T, D], or [V, S, D] for the newest tokens alone."""
        given = self.attention_inputs(x_VTD)
        # Where padding takes attention (the authors' code does not mask it), it is tokens or the pseudo-key.
        as_key = self.padding_keys and tokens.real is None
        mixed_VTD: Tensor = self.attention(
            given.queries,
            given.memory,
            tokens,
            causal=self.causal,
            padding="seen" if self.padding_keys else "apart",
            pseudo_key=(given.padding, self.max_len) if as_key else None,
            last_only=last_only,
        )
        x_VTD = self.after_attention(_kept(given.residual, tokens, last_only), mixed_VTD)
        return _in_chunks(self.feed_forward, x_VTD, self.expand.out_features)

    def attention_inputs(self, x_VTD: Tensor) -> AttentionInputs:
        """What self-attention reads of the block's input, any shape that ends in D."""
        raise NotImplementedError

    def after_attention(self, residual_VTD: Tensor, mixed_VTD: Tensor) -> Tensor:
        """The sum of what attention is added to and what it gave."""
        raise NotImplementedError

    def feed_forward(self, x_VTD: Tensor) -> Tensor:
        """What follows attention: a function of each token alone."""
        raise NotImplementedError

    def initialise(self) -> None:
        """Called after all weights are drawn; for what is drawn otherwise."""


class PreNormBlock(Block):
    """x + attention(norm(x)), then x + feed_forward(norm(x)), with a GELU between the two linear layers."""

    eps = 1e-5

    def attention_inputs(self, x_VTD: Tensor) -> AttentionInputs:
        """See `Block.attention_inputs`."""
        normed_VTD = self.attention_norm(x_VTD)
        return AttentionInputs(normed_VTD, normed_VTD, x_VTD, self.attention_norm.bias)

    def after_attention(self, residual_VTD: Tensor, mixed_VTD: Tensor) -> Tensor:
        """See `Block.after_attention`."""
        dropped_VTD: Tensor = self.dropout(mixed_VTD)
        return residual_VTD + dropped_VTD

    def feed_forward(self, x_VTD: Tensor) -> Tensor:
        """See `Block.feed_forward`."""
        inner_VTF = self.dropout(F.gelu(self.expand(self.forward_norm(x_VTD))))
        output_VTD: Tensor = x_VTD + self.dropout(self.contract(inner_VTF))
        return output_VTD


class PaperBlock(Block):
    """The block of the authors' code: queries and the residual start from the normed input, keys and values do not."""

    eps = 1e-8

    def attention_inputs(self, x_VTD: Tensor) -> AttentionInputs:
        """See `Block.attention_inputs`."""
        queries_VTD = self.attention_norm(x_VTD)
        return AttentionInputs(queries_VTD, x_VTD, queries_VTD, None)

    def after_attention(self, residual_VTD: Tensor, mixed_VTD: Tensor) -> Tensor:
        """See `Block.after_attention`."""
        return residual_VTD + mixed_VTD

    def feed_forward(self, x_VTD: Tensor) -> Tensor:
        """See `Block.feed_forward`."""
        x_VTD = self.forward_norm(x_VTD)
        inner_VTF = F.relu(self.dropout(self.expand(x_VTD)))
        output_VTD: Tensor = x_VTD + self.dropout(self.contract(inner_VTF))
        return output_VTD

    def initialise(self) -> None:
        """As `torch.nn.MultiheadAttention`, which draws the three projections as one matrix 3D x D, biases zero."""
        attention = self.attention
        for layer in (attention.query, attention.key, attention.value):
            nn.init.normal_(layer.weight, std=math.sqrt(2 / (4 * layer.in_features)))
        for layer in (attention.query, attention.key, attention.value, attention.output):
            nn.init.zeros_(layer.bias)


def _in_chunks(feed_forward: Callable[[Tensor], Tensor], x_VTD: Tensor, inner: int) -> Tensor:
    """A function of each token alone. Without gradients it runs over chunks on the CPU, which stay in the cache."""
    chunk = max(_CHUNK // inner, 1)
    if torch.is_grad_enabled() or x_VTD.device.type != "cpu" or x_VTD.shape[1] <= chunk:
        return feed_forward(x_VTD)
    return torch.cat([feed_forward(part) for part in torch.split(x_VTD, chunk, dim=1)], dim=1)


def _kept(x_VTD: Tensor, tokens: Tokens, last_only: bool) -> Tensor:
    return x_VTD.index_select(1, tokens.last_S) if last_only else x_VTD
