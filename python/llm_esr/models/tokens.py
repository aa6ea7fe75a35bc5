"""A batch's sequences as tensors: flat tokens, and the rows in which attention sees them.

Shapes: T tokens, S sequences.

Only self-attention and cross-attention know rows (`rows.py`); embedding, feed-forward, norms and losses see tokens. So
a layout (packed or padded) changes the speed of a step and never its result.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

import numpy as np
import torch

from llm_esr.models.rows import Rows, rows_by_length

if TYPE_CHECKING:
    from llm_esr.loading import Sequences


class Tokens:
    """Tensors of one `Sequences`, on one device.

    Attributes:
        items_T: item ids (int64); 0 is padding, where padding is tokens, and I + 1 a mask token.
        positions_T: 1 for a sequence's oldest token (int64).
        targets_T: the item to predict at each token, 0 for none (int64).
        sequence_T: the sequence that each token belongs to (int64).
        lengths_S: tokens of each sequence (int64).
        last_S: each sequence's newest token (int64); means nothing where a sequence is empty.
        empty_S: which sequences have no token (bool); None where all have one.
        real_T: which tokens are no padding (bool); None where all are.
        rows: where tokens stand for attention.

    """

    # Whether sequences have rows of their own, by length, or the loader's rows; None: the first on the CPU.
    by_length: ClassVar[bool | None] = None

    def __init__(self, sequences: Sequences, device: torch.device | str = "cpu") -> None:
        offsets_S1, items_T = sequences.offsets, sequences.items
        lengths_S = np.diff(offsets_S1)
        sequence_T = np.repeat(np.arange(len(lengths_S)), lengths_S)
        last_S = np.maximum(offsets_S1[1:] - 1, 0)

        def tensor(array: np.ndarray) -> torch.Tensor:
            return torch.from_numpy(array).to(device)

        self.items_T = tensor(items_T).long()
        self.positions_T = tensor(sequences.positions).long()
        self.targets_T = tensor(sequences.targets).long()
        self.sequence_T, self.lengths_S, self.last_S = tensor(sequence_T), tensor(lengths_S), tensor(last_S)
        self.empty_S = None if lengths_S.all() else tensor(lengths_S == 0)
        self.real_T = None if items_T.all() else tensor(items_T > 0)
        self._padding_counts: dict[int, list[torch.Tensor]] = {}
        on_cpu = torch.device(device).type == "cpu"
        if on_cpu if self.by_length is None else self.by_length:
            slots, owners = rows_by_length(offsets_S1)
            self.rows = Rows(slots, sequence_T, owners, device)
        else:
            self.rows = Rows([sequences.slots.astype(np.int64)], sequence_T, None, device)

    def __len__(self) -> int:
        return len(self.items_T)

    def padding_counts(self, max_len: int) -> list[torch.Tensor]:
        """How many padding keys each slot's sequence would have in a window of `max_len`: float [R, W] a group."""
        if max_len not in self._padding_counts:
            counts_T = (max_len - self.lengths_S).clamp(min=0)[self.sequence_T].float()
            self._padding_counts[max_len] = self.rows.of_slots(counts_T)
        return self._padding_counts[max_len]
