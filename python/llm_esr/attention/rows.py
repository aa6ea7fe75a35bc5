"""The backends over rows: multi-head attention in plain torch, on any device, in any precision.

`by-length` gives each sequence a row of its own, beside others of about its length; `rows` takes the loader's rows
(`row_layout.py`).

Shapes: V views, T tokens, S sequences, D width; in a group of rows: N = V x rows, A queries and W keys in each,
H heads, d = D / H.
"""

from __future__ import annotations

import math

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from llm_esr.attention.dropout import dropout
from llm_esr.attention.interface import Attending
from llm_esr.attention.row_layout import Rows, rows_by_length
from llm_esr.attention.tokens import Tokens
from llm_esr.loading.staging import to_device


class RowsBackend:
    """See `AttentionBackend`.

    Args:
        by_length: a row for each sequence, in groups of about the same length; else the loader's rows.

    """

    def __init__(self, *, by_length: bool) -> None:
        self.by_length = by_length

    def fits(self, tokens: Tokens, dtype: torch.dtype, *, with_pseudo_key: bool) -> bool:
        """Always."""
        return True

    def asks_newest_alone(self, tokens: Tokens) -> bool:
        """Where a row holds one sequence and no padding."""
        return self.by_length and tokens.real is None

    def mix(self, queries_VAD: Tensor | None, memory_VTE: Tensor, tokens: Tokens, attending: Attending) -> Tensor:
        """See `AttentionBackend.mix`."""
        rows, n_views = self.rows_of(tokens), len(memory_VTE)
        if attending.newest_only:
            # The newest token sees its whole row, causal or not.
            assert queries_VAD is not None
            queries = rows.spread_last(queries_VAD)
            memory = rows.spread(memory_VTE)
            masks = [mask[:, :, :1] for mask in rows.masks(False, n_views, "apart", None)]
        elif queries_VAD is None:
            width = memory_VTE.shape[2] // 3
            together = rows.spread(memory_VTE)
            queries, memory = [part[..., :width] for part in together], [part[..., width:] for part in together]
            masks = rows.masks(attending.causal, n_views, attending.padding, tokens.real)
        else:
            queries, memory = rows.spread(queries_VAD), rows.spread(memory_VTE)
            masks = rows.masks(attending.causal, n_views, attending.padding, tokens.real)
        mixed = self._attend_all(queries, memory, masks, tokens, attending, n_views)
        if attending.newest_only:
            return rows.collect_last(mixed, n_views, len(tokens.last_S))
        return rows.collect(mixed, n_views)

    def rows_of(self, tokens: Tokens) -> Rows:
        """The rows of a batch, laid out once."""
        return tokens.derived(("rows", self.by_length), lambda: self._lay_out(tokens))

    def _lay_out(self, tokens: Tokens) -> Rows:
        if self.by_length:
            slots, owners = rows_by_length(tokens.offsets)
            return Rows(slots, tokens.sequence, owners, tokens.device)
        return Rows([tokens.slots.astype(np.int64)], tokens.sequence, None, tokens.device)

    def _padding_counts(self, tokens: Tokens, max_len: int) -> list[Tensor]:
        """How many padding keys each slot's sequence would have in a window of `max_len`: float [R, W] a group."""

        def count() -> list[Tensor]:
            counts = np.maximum(max_len - tokens.lengths, 0)[tokens.sequence].astype(np.float32)
            return self.rows_of(tokens).of_slots(to_device(counts, tokens.device))

        return tokens.derived(("padding counts", self.by_length, max_len), count)

    def _attend_all(
        self,
        queries: list[Tensor],
        memory: list[Tensor],
        masks: list[Tensor],
        tokens: Tokens,
        attending: Attending,
        n_views: int,
    ) -> list[Tensor]:
        """Attention in each group of rows: [N, A, D]."""
        heads, rate = attending.heads, attending.rate
        if attending.pseudo_key is None:
            return [attend(*parts, heads=heads, rate=rate) for parts in zip(queries, memory, masks, strict=True)]
        key_D, value_D = attending.pseudo_key.key_D, attending.pseudo_key.value_D
        pseudo = key_D.view(heads, 1, -1), value_D.view(heads, 1, -1)
        counts = self._padding_counts(tokens, attending.pseudo_key.max_len)
        mixed = []
        for q, kv, mask, count_RW in zip(queries, memory, masks, counts, strict=True):
            count_NA = count_RW[:, : q.shape[1]].repeat(n_views, 1)
            mixed.append(attend(q, kv, mask, pseudo, count_NA, heads=heads, rate=rate))
        return mixed


def attend(
    queries_NAD: Tensor,
    memory_NWE: Tensor,
    mask_N1AW: Tensor,
    pseudo: tuple[Tensor, Tensor] | None = None,
    count_NA: Tensor | None = None,
    *,
    heads: int,
    rate: float,
) -> Tensor:
    """[N, A, D] and keys and values side by side [N, W, 2D] -> [N, A, D]: the formula that other backends are held to.

    With `pseudo`, `count_NA` padding keys, all alike, take part as one key whose score is raised by log n:
    exp(s + log n) = n exp(s), so the weights of the real keys are those of the padded computation, and the one
    key has the n keys' weight together. Dropout would drop or keep each of the n apart: their weight is
    multiplied by k / (n (1 - p)), k ~ Binomial(n, 1 - p), drawn for each query and head.
    """
    q_NHAd = _split_heads(queries_NAD, heads)
    k_NHWd, v_NHWd = (_split_heads(part, heads) for part in memory_NWE.chunk(2, dim=2))
    if pseudo is None and not rate:
        mixed_NHAd = F.scaled_dot_product_attention(q_NHAd, k_NHWd, v_NHWd, attn_mask=mask_N1AW)
        return mixed_NHAd.transpose(1, 2).flatten(2)
    q_NHAd = q_NHAd / math.sqrt(q_NHAd.shape[3])
    scores_NHAW = (q_NHAd @ k_NHWd.transpose(2, 3)).masked_fill(~mask_N1AW, -torch.inf)
    if pseudo is None:
        mixed_NHAd = dropout(scores_NHAW.softmax(dim=3), rate) @ v_NHWd
        return mixed_NHAd.transpose(1, 2).flatten(2)
    assert count_NA is not None
    key_H1d, value_H1d = pseudo
    # log n in half precision would be off by a percent of all padding's weight.
    exact = torch.promote_types(q_NHAd.dtype, torch.float32)
    raised_NHA1 = (q_NHAd * key_H1d).sum(3, keepdim=True).to(exact) + count_NA.to(exact).log()[:, None, :, None]
    weights_NHAX = torch.cat([scores_NHAW.to(exact), raised_NHA1], dim=3).softmax(dim=3).to(v_NHWd.dtype)
    real_NHAW, padding_NHA1 = weights_NHAX[..., :-1], weights_NHAX[..., -1:]
    if rate:
        kept = 1 - rate
        count_NHA = count_NA[:, None].expand(-1, heads, -1).contiguous()
        share_NHA = survivors(count_NHA, torch.full_like(count_NHA, kept)) / (count_NHA.clamp(min=1) * kept)
        padding_NHA1 = padding_NHA1 * share_NHA[..., None].to(padding_NHA1.dtype)
        real_NHAW = dropout(real_NHAW, rate)
    mixed_NHAd = real_NHAW @ v_NHWd + padding_NHA1 * value_H1d
    return mixed_NHAd.transpose(1, 2).flatten(2)


def _split_heads(x_NWD: Tensor, heads: int) -> Tensor:
    """[N, W, D] -> [N, H, W, d]."""
    n_rows, row_width, width = x_NWD.shape
    return x_NWD.reshape(n_rows, row_width, heads, width // heads).transpose(1, 2)


def survivors(counts: Tensor, kept: Tensor) -> Tensor:
    """Draws from Binomial(counts, kept). Not every accelerator has the kernel."""
    if counts.device.type == "mps":
        return torch.binomial(counts.cpu(), kept.cpu()).to(counts.device)
    return torch.binomial(counts, kept)
