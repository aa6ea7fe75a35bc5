"""A batch's sequences as right-padded rows: what a GPU reads fastest.

Shapes: S sequences, W slots of a row, T = S x W tokens, those of padding among them; n unique items.

Causality alone keeps padding out of sight: it stands behind the tokens. So attention that looks back needs no mask, and
every tensor of a step has one shape [S x W, ...], where W takes few values. What is computed at padding means nothing
and is not read; its gradients are zero.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import TYPE_CHECKING, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray

from llm_esr import _native
from llm_esr.attention.tokens import Tokens
from llm_esr.loading.staging import Staged

if TYPE_CHECKING:
    from llm_esr.loading import Sequences

_N = TypeVar("_N", bound=np.generic)


class RightPadded(Tokens, Staged):
    """Several `Sequences` below each other, in memory until they are sent (`loading/staging.py`).

    Attributes:
        row_width: W, from `row_width`.
        place: where each token stands among the T, sequence after sequence, int64.
        lengths: tokens of each sequence, without padding, int64 [S].
        keys_SW: what is added to a score before softmax, float32: 0 at tokens and -inf at padding; None where
            everything that reads the rows looks back.
        padding_S: how many padding items each sequence would have in a window of `max_len`, float32; None where nobody
            asks.
        items_T: the items on the device, int64 [T]; None without a profile.
        decays_WW: what slot w of a text profile takes from slot v, float32 or float64; None without a profile.

    Args:
        parts: the sequences.
        masked: whether attention that looks ahead reads the rows.
        window: `max_len`, where padding takes attention by a key that stands for it.
        newest_at: the position of each sequence's newest token, where positions are counted from there; None: they are
            the loader's, 1 for the oldest token.
        decay: of a text profile, a step; None: the model has none.
        precise: whether decays are float64, as a model of that precision wants them.

    """

    def __init__(
        self,
        parts: Sequence[Sequences],
        *,
        masked: bool = False,
        window: int | None = None,
        newest_at: int | None = None,
        decay: float | None = None,
        precise: bool = False,
    ) -> None:
        self.lengths = np.concatenate([np.diff(part.offsets) for part in parts])
        width = row_width(int(self.lengths.max(initial=0)))
        self.row_width = width
        starts = np.arange(len(self.lengths)) * width
        within_T = np.concatenate([np.arange(part.offsets[-1]) - _starts(part) for part in parts])
        self.place = np.repeat(starts, self.lengths) + within_T
        self.offsets = np.arange(len(self.lengths) + 1) * width
        self.items = self.spread(np.concatenate([part.items for part in parts]))
        self.targets = self.spread(np.concatenate([part.targets for part in parts]))
        self.real, self.real_T = None, None
        positions = np.concatenate([part.positions for part in parts]).astype(np.int64)
        if newest_at is not None:
            positions = within_T - np.repeat(self.lengths, self.lengths) + 1 + newest_at
        self.positions_T = torch.from_numpy(self.spread(positions))
        self.last_S = torch.from_numpy(starts + np.maximum(self.lengths - 1, 0))
        self.empty_S = None if self.lengths.all() else torch.from_numpy(self.lengths == 0)
        self.keys_SW: torch.Tensor | None = None
        if masked:
            seen_SW = np.arange(width) < np.maximum(self.lengths, 1)[:, None]  # a row that sees nothing would be NaN
            self.keys_SW = torch.from_numpy(np.where(seen_SW, np.float32(0), np.float32(-np.inf)))
        self.padding_S: torch.Tensor | None = None
        if window is not None:
            self.padding_S = torch.from_numpy(np.maximum(window - self.lengths, 0).astype(np.float32))
        self.items_T: torch.Tensor | None = None
        self.decays_WW: torch.Tensor | None = None
        if decay is not None:
            ago_WW = np.arange(width)[:, None] - np.arange(width)
            powers_WW = np.where(ago_WW >= 0, decay ** (np.maximum(ago_WW, 0) + 1.0), 0.0)
            self.decays_WW = torch.from_numpy(powers_WW if precise else powers_WW.astype(np.float32))
            self.items_T = torch.from_numpy(self.items.astype(np.int64))
        self._unique: tuple[torch.Tensor, torch.Tensor] | None = None
        self._derived = {}

    @property
    def device(self) -> torch.device:  # type: ignore[override]
        """Where the tensors are."""
        return self.positions_T.device

    @cached_property
    def sequence(self) -> NDArray[np.int64]:
        """The row that each of the T belongs to."""
        return np.repeat(np.arange(len(self.lengths)), self.row_width or 0)

    def spread(self, values: NDArray[_N]) -> NDArray[_N]:
        """Values of the tokens, sequence after sequence -> [T], 0 at padding."""
        spread = np.zeros(int(self.offsets[-1]), values.dtype)
        spread[self.place] = values
        return spread

    def with_items(self) -> RightPadded:
        """Itself, with what `unique` gives found in memory, so that it is sent along; before it is sent."""
        ids_n, _, (inverse,) = _native.unique_items([[np.ascontiguousarray(self.items[self.place])]])
        self._unique = torch.from_numpy(ids_n), torch.from_numpy(self.spread(inverse))
        return self

    def unique(self) -> tuple[torch.Tensor, torch.Tensor]:
        """See `Tokens.unique`; padding has the index of some item."""
        assert self._unique is not None, "with_items comes first"
        return self._unique


def row_width(longest: int) -> int:
    """The width of rows that hold sequences of up to `longest` tokens: few values, all multiples of 8."""
    step = 8 if longest <= 64 else 32
    return -(-longest // step) * step


def _starts(part: Sequences) -> NDArray[np.int64]:
    return np.repeat(part.offsets[:-1], np.diff(part.offsets))
