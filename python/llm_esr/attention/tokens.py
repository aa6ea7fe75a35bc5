"""A batch's sequences as flat tokens: arrays in memory, and tensors on one device where a model reads them.

Shapes: T tokens, S sequences, n unique items, R rows of width W.

Embedding, feed-forward, norms and losses see tokens; only attention backends look at how the loader laid them out. So a
layout (packed or padded) changes the speed of a step and never its result.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray

from llm_esr import _native
from llm_esr.loading.staging import to_device

if TYPE_CHECKING:
    from llm_esr.loading import Sequences

_T = TypeVar("_T")


class Tokens:
    """One `Sequences`.

    Attributes:
        device: where the tensors are.
        items: item ids, int32 [T]; 0 is padding, where padding is tokens, and I + 1 a mask token.
        targets: the item to predict at each token, int32 [T], 0 for none.
        offsets: where each sequence starts, int64 [S + 1].
        slots: the token in each slot of the loader's rows, -1 for none, int32 [R, W].
        lengths: tokens of each sequence, int64 [S].
        sequence: the sequence that each token belongs to, int64 [T].
        real: which tokens are no padding, bool [T]; None where all are.
        real_T: the same on the device.
        positions_T: 1 for a sequence's oldest token (int64).
        last_S: each sequence's newest token (int64); means nothing where a sequence is empty.
        empty_S: which sequences have no token (bool); None where all have one.
        row_width: W where the tokens are right-padded rows of that width (`right_padded.py`); None: they are flat.

    """

    row_width: int | None = None

    def __init__(self, sequences: Sequences, device: torch.device | str = "cpu") -> None:
        self.device = torch.device(device)
        self.items, self.targets, self.offsets = sequences.items, sequences.targets, sequences.offsets
        self.slots = sequences.slots
        self.lengths: NDArray[np.int64] = np.diff(self.offsets)
        self.real: NDArray[np.bool_] | None = None if self.items.all() else self.items > 0
        self.positions_T = to_device(sequences.positions.astype(np.int64), device)
        self.last_S = to_device(np.maximum(self.offsets[1:] - 1, 0), device)
        self.empty_S = None if self.lengths.all() else to_device(self.lengths == 0, device)
        self.real_T = None if self.real is None else to_device(self.real, device)
        self._derived: dict[Any, Any] = {}

    def __len__(self) -> int:
        return len(self.items)

    @cached_property
    def sequence(self) -> NDArray[np.int64]:
        """See above."""
        return np.repeat(np.arange(len(self.lengths)), self.lengths)

    def met(self, n_items: int) -> NDArray[np.int64]:
        """Items of each sequence, without padding and mask tokens, int64 [S]."""
        is_item_T = (self.items > 0) & (self.items <= n_items)
        return np.bincount(self.sequence[is_item_T], minlength=len(self.lengths))

    def unique(self) -> tuple[torch.Tensor, torch.Tensor]:
        """The unique items, int64 [n], and the index of each token's item among them, int64 [T]."""
        ids_n, _, (inverse_T,) = _native.unique_items([[self.items]])
        return to_device(ids_n, self.device), to_device(inverse_T, self.device)

    def derived(self, key: object, make: Callable[[], _T]) -> _T:
        """What a backend derives from the tokens: made at the first call, the same for all layers of a step."""
        if key not in self._derived:
            self._derived[key] = make()
        found: _T = self._derived[key]
        return found
