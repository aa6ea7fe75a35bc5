"""The backend `jagged`: torch's kernels for sequences of any length, over flat tokens, on a GPU.

Shapes: V views, T tokens, S sequences, D width, H heads, d = D / H; queries are T, or S where only the newest tokens
ask.

A view's sequences follow the view's before them, V x S in all; torch takes them as a nested tensor (layout `jagged`),
which is the flat tokens and the offsets, and hands both to its fused kernels. Those know no key beside the tokens and
no empty sequence: with either, and for padding that is tokens, attention goes over rows (`rows.py`). So it does
on a device whose kernels fail a trial, or give other numbers.
"""

from __future__ import annotations

import math
import warnings
from functools import cache

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from llm_esr.attention.interface import Attending
from llm_esr.attention.tokens import Tokens
from llm_esr.loading.staging import to_device


class JaggedBackend:
    """See `AttentionBackend`."""

    def fits(self, tokens: Tokens, dtype: torch.dtype, *, with_pseudo_key: bool) -> bool:
        """Where there is no padding, no pseudo-key and no empty sequence."""
        return tokens.real is None and tokens.empty_S is None and not with_pseudo_key

    def asks_newest_alone(self, tokens: Tokens) -> bool:
        """Always."""
        return True

    def mix(self, queries_VAD: Tensor | None, memory_VTE: Tensor, tokens: Tokens, attending: Attending) -> Tensor:
        """See `AttentionBackend.mix`."""
        if queries_VAD is None:
            q, k, v = memory_VTE.chunk(3, dim=2)
        else:
            q, (k, v) = queries_VAD, memory_VTE.chunk(2, dim=2)
        jagged = tokens.derived("jagged", lambda: Jagged(tokens.lengths, tokens.device))
        return attend(
            (q, k, v),
            jagged,
            heads=attending.heads,
            causal=attending.causal,
            newest_only=attending.newest_only,
            rate=attending.rate,
        )


class Jagged:
    """The offsets of V x S sequences on a device, made once for all layers."""

    def __init__(self, lengths_S: NDArray[np.int64], device: torch.device) -> None:
        self.lengths_S, self.device = lengths_S, device
        self.longest, self.shortest = int(lengths_S.max(initial=0)), int(lengths_S.min(initial=1))
        self._offsets: dict[tuple[int, bool], Tensor] = {}

    def nested(self, x_VAD: Tensor, heads: int, newest_only: bool = False) -> Tensor:
        """[V, A, D] -> [V x S, H, a sequence's tokens, d]."""
        n_views, _, width = x_VAD.shape
        key = (n_views, newest_only)
        if key not in self._offsets:
            lengths = np.ones_like(self.lengths_S) if newest_only else self.lengths_S
            offsets = np.concatenate([[0], np.cumsum(np.tile(lengths, n_views))])
            self._offsets[key] = to_device(offsets, self.device)
        # The limits are given, as asking the device for them would wait for it.
        least, most = (1, 1) if newest_only else (self.shortest, self.longest)
        values = x_VAD.reshape(-1, heads, width // heads).contiguous()
        nested = torch.nested.nested_tensor_from_jagged(values, self._offsets[key], min_seqlen=least, max_seqlen=most)
        return nested.transpose(1, 2)


def attend(
    parts: tuple[Tensor, Tensor, Tensor],
    jagged: Jagged,
    *,
    heads: int,
    causal: bool,
    newest_only: bool,
    rate: float,
) -> Tensor:
    """Mixtures of values, [V, A, D], of queries [V, A, D], keys and values [V, T, D].

    A is T, or S where only the newest tokens ask.
    """
    queries_VAD, keys_VTD, values_VTD = parts
    queries = jagged.nested(queries_VAD, heads, newest_only)
    keys, values = jagged.nested(keys_VTD, heads), jagged.nested(values_VTD, heads)
    # The newest token sees its whole sequence.
    mixed = F.scaled_dot_product_attention(queries, keys, values, dropout_p=rate, is_causal=causal and not newest_only)
    flat: Tensor = mixed.transpose(1, 2).values()
    return flat.reshape(queries_VAD.shape)


@cache
def works_on(device: torch.device, dtype: torch.dtype) -> bool:
    """Whether the device's kernels give what the formula gives, values and gradients; tried once a process."""
    try:
        devices = [device] if device.type == "cuda" else []
        with torch.random.fork_rng(devices), torch.autocast(device.type, enabled=False):
            difference = max(_difference(device, dtype, causal) for causal in (False, True))
    except Exception as error:  # whatever a device, a driver or a version of torch may say
        _warn(device, dtype, f"{type(error).__name__}: {error}")
        return False
    if not difference < (1e-4 if dtype == torch.float32 else 3e-2):
        _warn(device, dtype, f"its numbers are {difference:.1e} from the formula's")
        return False
    return True


def _difference(device: torch.device, dtype: torch.dtype, causal: bool) -> float:
    """The largest difference between the kernels and the formula, over values and gradients."""
    jagged = Jagged(np.array([3, 1, 12]), device)
    drawn = torch.rand(4, 1, 16, 16).to(device, dtype)
    found = []
    for of_kernel in (True, False):
        q, k, v = (x.clone().requires_grad_() for x in drawn[:3])
        if of_kernel:
            mixed = attend((q, k, v), jagged, heads=1, causal=causal, newest_only=False, rate=0.0)
            attend((q, k, v), jagged, heads=1, causal=causal, newest_only=False, rate=0.5)
        else:
            mixed = _by_the_formula((q, k, v), jagged, causal)
        (mixed * drawn[3]).float().sum().backward()  # type: ignore[no-untyped-call]
        found.append([mixed, q.grad, k.grad, v.grad])
    differences = [float((a - b).abs().max()) for a, b in zip(*found, strict=True) if a is not None and b is not None]
    return max(differences) if len(differences) == len(found[0]) else math.inf


def _by_the_formula(parts: tuple[Tensor, Tensor, Tensor], jagged: Jagged, causal: bool) -> Tensor:
    """As `attend`, sequence by sequence, for one view and one head."""
    mixed = []
    for q_nD, k_nD, v_nD in zip(*(torch.split(x[0].float(), jagged.lengths_S.tolist()) for x in parts), strict=True):
        scores_nn = q_nD @ k_nD.T / math.sqrt(q_nD.shape[1])
        if causal:
            scores_nn = scores_nn.masked_fill(torch.ones_like(scores_nn).triu(1).bool(), -torch.inf)
        mixed.append(scores_nn.softmax(1) @ v_nD)
    return torch.cat(mixed)[None].to(parts[0].dtype)


def _warn(device: torch.device, dtype: torch.dtype, why: str) -> None:
    warnings.warn(
        f"attention on {device} ({dtype}) goes over rows, which is slower: torch's kernel for sequences of any length "
        f"failed a trial ({why.splitlines()[0][:200]})",
        stacklevel=4,
    )
