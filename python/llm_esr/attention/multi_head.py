"""Multi-head attention over the rows of a batch.

Shapes: V views, T tokens, S sequences, D width; in a group of rows: N = V x rows, A queries and W keys in each,
H heads, d = D / H.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from llm_esr.attention import jagged
from llm_esr.attention.dropout import dropout, seed_of_step
from llm_esr.attention.flat import Settings, attend
from llm_esr.attention.rows import Padding
from llm_esr.attention.tokens import Tokens, Way


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
        pseudo_key: tuple[Tensor, int] | None = None,
        last_only: bool = False,
    ) -> Tensor:
        """Each token looks at the tokens of its own sequence; causal: not at later ones.

        Args:
            queries_VTD: what asks.
            memory_VTD: what keys and values are made from.
            tokens: who belongs together.
            causal: whether later tokens are out of sight.
            padding: who may look at padding tokens, where there are any.
            pseudo_key: (what `memory` is at a padding position [D], max_len): one key more, which stands for all the
                padding that a window of max_len would hold.
            last_only: only the newest token of each sequence asks.

        Returns:
            [V, T, D], or [V, S, D] with `last_only` (where a sequence is empty it means nothing).

        """
        way = tokens.way(_computed_in(queries_VTD), with_padding=pseudo_key is not None)
        if way in ("flat", "jagged"):
            return self._flat(way, queries_VTD, memory_VTD, tokens, causal, pseudo_key, last_only)
        rows, n_views, width = tokens.rows, queries_VTD.shape[0], queries_VTD.shape[2]
        alone = last_only and rows.owners is not None and tokens.real is None
        if alone:
            # The newest token sees its whole row, causal or not.
            last_VSD = self.query(queries_VTD.index_select(1, tokens.last_S))
            queries = rows.spread_last(last_VSD)
            memory = rows.spread(self._projected(memory_VTD, self.key, self.value))
            masks = [mask[:, :, :1] for mask in rows.masks(False, n_views, "apart", None)]
        elif queries_VTD is memory_VTD:
            together = rows.spread(self._projected(memory_VTD, self.query, self.key, self.value))
            queries, memory = [part[..., :width] for part in together], [part[..., width:] for part in together]
            masks = rows.masks(causal, n_views, padding, tokens.real)
        else:
            queries = rows.spread(self.query(queries_VTD))
            memory = rows.spread(self._projected(memory_VTD, self.key, self.value))
            masks = rows.masks(causal, n_views, padding, tokens.real)
        mixed = self._attend_all(queries, memory, masks, tokens, pseudo_key, n_views)
        if alone:
            mixed_VSD = rows.collect_last(mixed, n_views, len(tokens.last_S))
            output_VSD: Tensor = self.output(mixed_VSD)
            return output_VSD
        mixed_VTD = rows.collect(mixed, n_views)
        if last_only:
            mixed_VTD = mixed_VTD.index_select(1, tokens.last_S)
        output_VTD: Tensor = self.output(mixed_VTD)
        return output_VTD

    def _flat(
        self,
        way: Way,
        queries_VTD: Tensor,
        memory_VTD: Tensor,
        tokens: Tokens,
        causal: bool,
        pseudo_key: tuple[Tensor, int] | None,
        last_only: bool,
    ) -> Tensor:
        """Without rows: [V, T, D], or [V, S, D] with `last_only`."""
        rate = self.dropout if self.training else 0.0
        if queries_VTD is memory_VTD and not last_only:
            queries, memory = None, self._projected(memory_VTD, self.query, self.key, self.value)
        else:
            asking = queries_VTD.index_select(1, tokens.last_S) if last_only else queries_VTD
            queries, memory = self.query(asking), self._projected(memory_VTD, self.key, self.value)
        if way == "jagged":
            q, k, v = memory.chunk(3, dim=2) if queries is None else (queries, *memory.chunk(2, dim=2))
            mixed = jagged.attend(
                (q, k, v), tokens.jagged, heads=self.heads, causal=causal, newest_only=last_only, rate=rate
            )
        else:
            settings = Settings(
                tokens.offsets, len(memory_VTD), self.heads, causal, last_only,
                max_len=0 if pseudo_key is None else pseudo_key[1], rate=rate, seed=seed_of_step() if rate else 0,
            )  # fmt: skip
            pseudo = None if pseudo_key is None else (self.key(pseudo_key[0]), self.value(pseudo_key[0]))
            mixed = attend(queries, memory, pseudo, settings)
        output: Tensor = self.output(mixed)
        return output

    def _attend_all(
        self,
        queries: list[Tensor],
        memory: list[Tensor],
        masks: list[Tensor],
        tokens: Tokens,
        pseudo_key: tuple[Tensor, int] | None,
        n_views: int,
    ) -> list[Tensor]:
        """Attention in each group of rows: [N, A, D]."""
        if pseudo_key is None:
            return [self._attend(*parts) for parts in zip(queries, memory, masks, strict=True)]
        padding_D, max_len = pseudo_key
        pseudo = self.key(padding_D).view(self.heads, 1, -1), self.value(padding_D).view(self.heads, 1, -1)
        counts = tokens.padding_counts(max_len)
        mixed = []
        for q, kv, mask, count_RW in zip(queries, memory, masks, counts, strict=True):
            count_NA = count_RW[:, : q.shape[1]].repeat(n_views, 1)
            mixed.append(self._attend(q, kv, mask, pseudo, count_NA))
        return mixed

    def _attend(
        self,
        queries_NAD: Tensor,
        memory_NWE: Tensor,
        mask_N1AW: Tensor,
        pseudo: tuple[Tensor, Tensor] | None = None,
        count_NA: Tensor | None = None,
    ) -> Tensor:
        """[N, A, D] and keys and values side by side [N, W, 2D] -> [N, A, D].

        With `pseudo`, `count_NA` padding keys, all alike, take part as one key whose score is raised by log n:
        exp(s + log n) = n exp(s), so the weights of the real keys are those of the padded computation, and the one
        key has the n keys' weight together. Dropout would drop or keep each of the n apart: their weight is
        multiplied by k / (n (1 - p)), k ~ Binomial(n, 1 - p), drawn for each query and head.
        """
        q_NHAd = self._heads(queries_NAD)
        k_NHWd, v_NHWd = (self._heads(part) for part in memory_NWE.chunk(2, dim=2))
        dropped = self.training and self.dropout > 0
        if pseudo is None and not dropped:
            mixed_NHAd = F.scaled_dot_product_attention(q_NHAd, k_NHWd, v_NHWd, attn_mask=mask_N1AW)
            return mixed_NHAd.transpose(1, 2).flatten(2)
        q_NHAd = q_NHAd / math.sqrt(q_NHAd.shape[3])
        scores_NHAW = (q_NHAd @ k_NHWd.transpose(2, 3)).masked_fill(~mask_N1AW, -torch.inf)
        if pseudo is None:
            mixed_NHAd = dropout(scores_NHAW.softmax(dim=3), self.dropout) @ v_NHWd
            return mixed_NHAd.transpose(1, 2).flatten(2)
        assert count_NA is not None
        key_H1d, value_H1d = pseudo
        # log n in half precision would be off by a percent of all padding's weight.
        exact = torch.promote_types(q_NHAd.dtype, torch.float32)
        raised_NHA1 = (q_NHAd * key_H1d).sum(3, keepdim=True).to(exact) + count_NA.to(exact).log()[:, None, :, None]
        weights_NHAX = torch.cat([scores_NHAW.to(exact), raised_NHA1], dim=3).softmax(dim=3).to(v_NHWd.dtype)
        real_NHAW, padding_NHA1 = weights_NHAX[..., :-1], weights_NHAX[..., -1:]
        if dropped:
            kept = 1 - self.dropout
            count_NHA = count_NA[:, None].expand(-1, self.heads, -1).contiguous()
            share_NHA = _survivors(count_NHA, kept) / (count_NHA.clamp(min=1) * kept)
            padding_NHA1 = padding_NHA1 * share_NHA[..., None].to(padding_NHA1.dtype)
            real_NHAW = dropout(real_NHAW, self.dropout)
        mixed_NHAd = real_NHAW @ v_NHWd + padding_NHA1 * value_H1d
        return mixed_NHAd.transpose(1, 2).flatten(2)

    def _heads(self, x_NWD: Tensor) -> Tensor:
        """[N, W, D] -> [N, H, W, d]."""
        n_rows, row_width, width = x_NWD.shape
        return x_NWD.reshape(n_rows, row_width, self.heads, width // self.heads).transpose(1, 2)

    @staticmethod
    def _projected(x_VTD: Tensor, *layers: nn.Linear) -> Tensor:
        """Several projections in one product: [V, T, D] -> [V, T, layers x D]."""
        bias = None if layers[0].bias is None else torch.cat([layer.bias for layer in layers])
        return F.linear(x_VTD, torch.cat([layer.weight for layer in layers]), bias)


def _computed_in(x: Tensor) -> torch.dtype:
    """The precision in which products with `x` are computed."""
    device = x.device.type
    return torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else x.dtype


def _survivors(counts: Tensor, kept: float) -> Tensor:
    """Draws from Binomial(counts, kept). Not every accelerator has the kernel."""
    here = counts.cpu() if counts.device.type == "mps" else counts
    return torch.binomial(here, torch.full_like(here, kept)).to(counts.device)
