"""What every attention backend is given and gives.

Shapes: V views, T tokens, S sequences, D width; A queries of a view: T, or S where only the newest tokens ask.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, Protocol

import torch
from torch import Tensor

from llm_esr.attention.tokens import Tokens

# Who may look at padding, where padding is tokens: `apart` padding alone, `seen` everybody, `unseen` nobody (but where
# a sequence holds nothing else).
Padding = Literal["apart", "seen", "unseen"]


@dataclass(frozen=True)
class PseudoKey:
    """One key more for each query, which stands for all the padding that a window of `max_len` would hold.

    Attributes:
        key_D: what a padding position is projected to.
        value_D: likewise.
        max_len: tokens of the window.

    """

    key_D: Tensor
    value_D: Tensor
    max_len: int


@dataclass(frozen=True)
class Attending:
    """Who attends to whom, and what is dropped.

    Attributes:
        heads: H.
        causal: whether later tokens are out of sight.
        padding: who may look at padding tokens, where there are any.
        newest_only: only the newest token of each sequence asks.
        rate: at which attention weights are dropped; 0 outside training.
        pseudo_key: see there; None: padding takes no attention.

    """

    heads: int
    causal: bool
    padding: Padding = "apart"
    newest_only: bool = False
    rate: float = 0.0
    pseudo_key: PseudoKey | None = None


class AttentionBackend(Protocol):
    """Mixes the values of each sequence's tokens by the attention of its queries."""

    def fits(self, tokens: Tokens, dtype: torch.dtype, *, with_pseudo_key: bool) -> bool:
        """Whether it computes attention among these tokens, in `dtype`."""
        ...

    def asks_newest_alone(self, tokens: Tokens) -> bool:
        """Whether it takes queries of the newest tokens alone; else all tokens ask and the newest are selected."""
        ...

    def mix(self, queries_VAD: Tensor | None, memory_VTE: Tensor, tokens: Tokens, attending: Attending) -> Tensor:
        """The mixtures of values, [V, A, D].

        Args:
            queries_VAD: projected queries; None: they stand before the keys in `memory_VTE`.
            memory_VTE: projected keys and values side by side, [V, T, 2D], or queries, keys and values, [V, T, 3D].
            tokens: who belongs together.
            attending: the rest; `newest_only` only where `asks_newest_alone`.

        """
        ...
