"""The backend `flat`: our Rust kernel over flat tokens on the CPU, as a function that torch can differentiate.

Shapes: V views, T tokens, S sequences, D width; queries are T, or S where only the newest tokens ask.

Nothing is padded or masked, and no weight is kept: the gradient makes weights and dropped entries again, from a seed
that torch's generator draws. The backend over rows (`rows.py`) has the same in plain torch, which other devices and
precisions take and tests compare with.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from llm_esr import _native
from llm_esr.attention.dropout import seed_of_step
from llm_esr.attention.interface import Attending
from llm_esr.attention.tokens import Tokens

_Array = NDArray[np.float32]


class FlatBackend:
    """See `AttentionBackend`."""

    def fits(self, tokens: Tokens, dtype: torch.dtype, *, with_pseudo_key: bool) -> bool:
        """On the CPU, in float32, where no padding is tokens."""
        return tokens.device.type == "cpu" and dtype == torch.float32 and tokens.real is None

    def asks_newest_alone(self, tokens: Tokens) -> bool:
        """Always."""
        return True

    def mix(self, queries_VAD: Tensor | None, memory_VTE: Tensor, tokens: Tokens, attending: Attending) -> Tensor:
        """See `AttentionBackend.mix`."""
        pseudo, rate = attending.pseudo_key, attending.rate
        settings = Settings(
            tokens.offsets, len(memory_VTE), attending.heads, attending.causal, attending.newest_only,
            max_len=0 if pseudo is None else pseudo.max_len, rate=rate, seed=seed_of_step() if rate else 0,
        )  # fmt: skip
        return attend(queries_VAD, memory_VTE, None if pseudo is None else (pseudo.key_D, pseudo.value_D), settings)


@dataclass(frozen=True)
class Settings:
    """What the kernel is told."""

    offsets_S1: NDArray[np.int64]
    n_views: int
    heads: int
    causal: bool
    newest_only: bool
    max_len: int
    rate: float
    seed: int

    def native(self) -> _native.Attention:
        """With as many threads as torch takes."""
        return _native.Attention(
            views=self.n_views, heads=self.heads, causal=self.causal, newest_only=self.newest_only,
            rate=self.rate, seed=self.seed, max_len=self.max_len, threads=torch.get_num_threads(),
        )  # fmt: skip


class _Attend(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        queries: Tensor | None,
        memory: Tensor,
        pseudo_key_D: Tensor | None,
        pseudo_value_D: Tensor | None,
        settings: Settings,
    ) -> Tensor:
        ctx.save_for_backward(queries, memory, pseudo_key_D, pseudo_value_D)
        ctx.settings = settings
        width = memory.shape[1] // (3 if queries is None else 2)
        out = torch.empty(len(memory) if queries is None else len(queries), width)
        inputs = _inputs(queries, memory, pseudo_key_D, pseudo_value_D)
        settings.native().forward(settings.offsets_S1, inputs, _array(out))
        return out

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, Tensor, Tensor | None, Tensor | None, None]:
        queries, memory, pseudo_key_D, pseudo_value_D = ctx.saved_tensors
        of_queries = None if queries is None else torch.empty_like(queries)
        of_memory = torch.empty_like(memory)
        inputs = _inputs(queries, memory, pseudo_key_D, pseudo_value_D)
        to_fill = (None if of_queries is None else _array(of_queries), _array(of_memory))
        given = _array(gradients[0].contiguous())
        of_pseudo = ctx.settings.native().backward(ctx.settings.offsets_S1, inputs, given, to_fill)
        of_key_D, of_value_D = (None, None) if of_pseudo is None else map(torch.from_numpy, of_pseudo)
        return of_queries, of_memory, of_key_D, of_value_D, None


def attend(
    queries_VAD: Tensor | None,
    memory_VTE: Tensor,
    pseudo: tuple[Tensor, Tensor] | None,
    settings: Settings,
) -> Tensor:
    """Mixtures of values, [V, A, D]; A is T, or S where only the newest tokens ask.

    Args:
        queries_VAD: queries; None: they stand before the keys in `memory_VTE`.
        memory_VTE: keys and values side by side, [V, T, 2D], or queries, keys and values, [V, T, 3D].
        pseudo: key and value [D] that stand for all the padding that a window of `max_len` would hold.
        settings: the rest.

    """
    queries = None if queries_VAD is None else queries_VAD.flatten(0, 1).contiguous()
    mixed: Tensor = _Attend.apply(queries, memory_VTE.flatten(0, 1).contiguous(), *(pseudo or (None, None)), settings)
    return mixed.view(settings.n_views, -1, mixed.shape[1])


def _inputs(
    queries: Tensor | None, memory: Tensor, pseudo_key_D: Tensor | None, pseudo_value_D: Tensor | None
) -> tuple[_Array | None, _Array, tuple[_Array, _Array] | None]:
    pseudo = None
    if pseudo_key_D is not None and pseudo_value_D is not None:
        pseudo = (_array(pseudo_key_D), _array(pseudo_value_D))
    return None if queries is None else _array(queries), _array(memory), pseudo


def _array(x: Tensor) -> _Array:
    array: _Array = x.detach().numpy()
    return array
