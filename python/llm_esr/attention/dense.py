"""The backend `dense`: right-padded rows and torch's fused attention, as a GPU computes it fastest.

Shapes: V views, S sequences, W slots of a row, T = S x W, D width; N = V x S rows, A = W queries of a row, H heads,
d = D / H; X = W + 1 keys, where one stands for padding.

Attention that looks back needs no mask (`right_padded.py`). A key that stands for padding, with dropout, has the
formula of `rows.py`, since no fused kernel knows a key whose weight is dropped in parts.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from llm_esr.attention.dropout import dropout
from llm_esr.attention.interface import Attending, PseudoKey
from llm_esr.attention.right_padded import RightPadded
from llm_esr.attention.rows import survivors
from llm_esr.attention.tokens import Tokens


class DenseBackend:
    """See `AttentionBackend`."""

    def fits(self, tokens: Tokens, dtype: torch.dtype, *, with_pseudo_key: bool) -> bool:
        """Among right-padded rows alone, which no other backend knows."""
        return tokens.row_width is not None

    def asks_newest_alone(self, tokens: Tokens) -> bool:
        """Never: a row's newest token would need a mask."""
        return False

    def mix(self, queries_VAD: Tensor | None, memory_VTE: Tensor, tokens: Tokens, attending: Attending) -> Tensor:
        """See `AttentionBackend.mix`."""
        assert isinstance(tokens, RightPadded) and tokens.row_width is not None
        n_views, n_tokens, _ = memory_VTE.shape
        rows, heads = n_views * len(tokens.lengths), attending.heads
        parts = 3 if queries_VAD is None else 2
        split = memory_VTE.view(rows, tokens.row_width, parts, heads, -1).unbind(2)
        if queries_VAD is not None:
            split = (queries_VAD.reshape(rows, tokens.row_width, heads, -1), *split)
        q_NHWd, k_NHWd, v_NHWd = (part.transpose(1, 2) for part in split)
        if attending.pseudo_key is not None:
            mixed = _with_padding(q_NHWd, k_NHWd, v_NHWd, tokens, attending, attending.pseudo_key, n_views)
        elif attending.causal:
            mixed = F.scaled_dot_product_attention(q_NHWd, k_NHWd, v_NHWd, is_causal=True, dropout_p=attending.rate)
        else:
            keys = _keys(tokens, n_views).to(q_NHWd.dtype)
            mixed = F.scaled_dot_product_attention(q_NHWd, k_NHWd, v_NHWd, attn_mask=keys, dropout_p=attending.rate)
        return mixed.transpose(1, 2).reshape(n_views, n_tokens, -1)


def _keys(tokens: RightPadded, n_views: int) -> Tensor:
    """What is added to the scores, [N, 1, 1, W]."""
    assert tokens.keys_SW is not None, "rows that are read ahead have their keys"
    keys_SW = tokens.keys_SW
    return tokens.derived(("keys", n_views), lambda: keys_SW.repeat(n_views, 1)[:, None, None])


def _keys_and_padding(tokens: RightPadded, n_views: int, causal: bool, dtype: torch.dtype) -> Tensor:
    """What is added to the scores of a row's slots and of the key for n padding items, log n: [N, 1, A or 1, X]."""

    def make() -> Tensor:
        assert tokens.keys_SW is not None and tokens.padding_S is not None, "rows with padding's key have both"
        # log n in half precision would be off by a percent of all padding's weight.
        keys_SX = torch.cat([tokens.keys_SW.to(dtype), tokens.padding_S.to(dtype).log()[:, None]], dim=1)
        if not causal:
            return keys_SX.repeat(n_views, 1)[:, None, None]
        width = tokens.keys_SW.shape[1]
        later_WX = F.pad(torch.full((width, width), -torch.inf, device=tokens.device).triu(1), (0, 1))
        return (keys_SX[:, None] + later_WX).repeat(n_views, 1, 1)[:, None]

    return tokens.derived(("keys and padding", n_views, causal, dtype), make)


def _with_padding(
    q_NHWd: Tensor,
    k_NHWd: Tensor,
    v_NHWd: Tensor,
    tokens: RightPadded,
    attending: Attending,
    pseudo: PseudoKey,
    n_views: int,
) -> Tensor:
    """With a key more, which stands for n padding items (`rows.attend` has the formula)."""
    n_rows, heads, width, _ = q_NHWd.shape
    key, value = (part.view(1, heads, 1, -1).expand(n_rows, -1, -1, -1) for part in (pseudo.key_D, pseudo.value_D))
    k_NHXd, v_NHXd = torch.cat([k_NHWd, key], dim=2), torch.cat([v_NHWd, value], dim=2)
    exact = torch.promote_types(q_NHWd.dtype, torch.float32)
    keys = _keys_and_padding(tokens, n_views, attending.causal, exact)
    if not attending.rate:
        return F.scaled_dot_product_attention(q_NHWd, k_NHXd, v_NHXd, attn_mask=keys.to(q_NHWd.dtype))
    scores_NHAX = (q_NHWd * (1 / math.sqrt(q_NHWd.shape[3]))) @ k_NHXd.transpose(2, 3)
    weights_NHAX = (scores_NHAX.to(exact) + keys).softmax(dim=3)
    share_NHAX = _shares(tokens, (n_rows, heads, width), n_views, attending.rate)
    return (weights_NHAX * share_NHAX).to(v_NHXd.dtype) @ v_NHXd


@torch.no_grad()
def _shares(tokens: RightPadded, shape: tuple[int, int, int], n_views: int, rate: float) -> Tensor:
    """What dropout leaves of each weight, scaled up, [N, H, A, X]; each of n padding items is dropped apart."""
    kept = 1 - rate

    def make() -> tuple[Tensor, Tensor, Tensor, Tensor]:
        assert tokens.padding_S is not None
        counts_NHA = tokens.padding_S.repeat(n_views)[:, None, None].expand(shape).contiguous()
        ones_NHAX = counts_NHA.new_ones(*shape, shape[2] + 1)
        return counts_NHA, torch.full_like(counts_NHA, kept), (counts_NHA.clamp(min=1) * kept).reciprocal(), ones_NHAX

    counts_NHA, chance_NHA, scale_NHA, ones_NHAX = tokens.derived(("shares", shape, rate), make)
    share_NHAX = dropout(ones_NHAX, rate)
    torch.mul(survivors(counts_NHA, chance_NHA), scale_NHA, out=share_NHAX[..., -1])
    return share_NHAX
