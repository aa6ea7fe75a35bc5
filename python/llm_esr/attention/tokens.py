"""A batch's sequences as flat tokens, and how attention sees them.

Shapes: T tokens, S sequences.

Only self-attention and cross-attention know rows (`rows.py`), and only where they do not take the tokens as they are
(`flat_attention.py`, `jagged_attention.py`); embedding, feed-forward, norms and losses see tokens. So a layout (packed
or padded) changes the speed of a step and never its result.
"""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING, ClassVar, Literal

import numpy as np
import torch
from numpy.typing import NDArray

from llm_esr import _native
from llm_esr.attention.jagged import Jagged, works_on
from llm_esr.attention.rows import Rows, rows_by_length
from llm_esr.loading.staging import to_device

if TYPE_CHECKING:
    from llm_esr.loading import Sequences


# Flat (Rust, on the CPU), flat as torch takes it, in rows of their own by length, or in the loader's rows.
Way = Literal["flat", "jagged", "by-length", "rows"]


class Tokens:
    """One `Sequences`: arrays in memory, and tensors on one device where a model reads them.

    Attributes:
        items: item ids, int32 [T]; 0 is padding, where padding is tokens, and I + 1 a mask token.
        targets: the item to predict at each token, int32 [T], 0 for none.
        offsets: where each sequence starts, int64 [S + 1].
        lengths: tokens of each sequence, int64 [S].
        sequence: the sequence that each token belongs to, int64 [T].
        real: which tokens are no padding, bool [T]; None where all are.
        real_T: the same on the device.
        positions_T: 1 for a sequence's oldest token (int64).
        last_S: each sequence's newest token (int64); means nothing where a sequence is empty.
        empty_S: which sequences have no token (bool); None where all have one.

    """

    # How attention sees tokens, where nothing speaks against it; None: as suits the device. For tests and comparisons,
    # and for whoever has trouble with a device's kernels.
    attention: ClassVar[Way | None] = None

    def __init__(self, sequences: Sequences, device: torch.device | str = "cpu") -> None:
        self.device = torch.device(device)
        self.items, self.targets, self.offsets = sequences.items, sequences.targets, sequences.offsets
        self._slots = sequences.slots
        self.lengths: NDArray[np.int64] = np.diff(self.offsets)
        self.real: NDArray[np.bool_] | None = None if self.items.all() else self.items > 0
        self.positions_T = to_device(sequences.positions.astype(np.int64), device)
        self.last_S = to_device(np.maximum(self.offsets[1:] - 1, 0), device)
        self.empty_S = None if self.lengths.all() else to_device(self.lengths == 0, device)
        self.real_T = None if self.real is None else to_device(self.real, device)
        self._padding_counts: dict[int, list[torch.Tensor]] = {}

    def __len__(self) -> int:
        return len(self.items)

    def way(self, dtype: torch.dtype, *, with_padding: bool) -> Way:
        """How attention sees the tokens, of `dtype`; whether padding takes attention that is no token."""
        usual: Way = "by-length" if self.device.type == "cpu" else "rows"
        suited: dict[str, Way] = {"cpu": "flat", "cuda": "jagged"}
        wanted = self.attention or suited.get(self.device.type, usual)
        if wanted == "flat":
            fits = self.device.type == "cpu" and dtype == torch.float32 and self.real is None
        elif wanted == "jagged":
            plain = self.real is None and self.empty_S is None and not with_padding
            fits = plain and (self.attention == "jagged" or works_on(self.device, dtype))
        else:
            fits = True
        return wanted if fits else usual

    @cached_property
    def jagged(self) -> Jagged:
        """The sequences as torch's kernels for any length take them."""
        return Jagged(self.lengths, self.device)

    @cached_property
    def sequence(self) -> NDArray[np.int64]:
        """See above."""
        return np.repeat(np.arange(len(self.lengths)), self.lengths)

    @cached_property
    def rows(self) -> Rows:
        """Where tokens stand for attention that is not flat."""
        if self.device.type == "cpu" and self.attention != "rows":
            slots, owners = rows_by_length(self.offsets)
            return Rows(slots, self.sequence, owners, self.device)
        return Rows([self._slots.astype(np.int64)], self.sequence, None, self.device)

    def distinct(self) -> tuple[torch.Tensor, torch.Tensor]:
        """The distinct items, int64 [n], and the place of each token's among them, int64 [T]."""
        ids_n, _, (places_T,) = _native.distinct_items([[self.items]])
        return to_device(ids_n, self.device), to_device(places_T, self.device)

    def padding_counts(self, max_len: int) -> list[torch.Tensor]:
        """How many padding keys each slot's sequence would have in a window of `max_len`: float [R, W] a group."""
        if max_len not in self._padding_counts:
            counts = np.maximum(max_len - self.lengths, 0)[self.sequence].astype(np.float32)
            self._padding_counts[max_len] = self.rows.of_slots(to_device(counts, self.device))
        return self._padding_counts[max_len]
