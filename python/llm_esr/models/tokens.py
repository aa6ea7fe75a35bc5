"""A batch's sequences as tensors: flat tokens, and where each stands in the rows that attention works on.

Shapes: T tokens, S sequences, R rows, W row width, V views, D width, C = V x D channels.

Only self-attention and cross-attention know rows. They gather flat tokens by `slots`, compute under a mask, and
scatter back; embedding, feed-forward, norms and losses see tokens alone. So a layout (packed or padded) changes the
speed of a step and never its result.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

import torch
from torch import Tensor

if TYPE_CHECKING:
    from llm_esr.loading import Sequences


# Who may look at padding, where padding is tokens: `apart` padding alone, `seen` everybody, `unseen` nobody (but where
# a sequence holds nothing else).
Padding = Literal["apart", "seen", "unseen"]


class _ToRows(torch.autograd.Function):
    """Gather tokens into slots. Each token has one slot, so the gradient is a gather too: fast and deterministic."""

    @staticmethod
    def forward(ctx: Any, x_VTD: Tensor, source_N: Tensor, slot_T: Tensor) -> Tensor:
        ctx.save_for_backward(source_N, slot_T)
        return _with_zero_row(x_VTD).index_select(1, source_N)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:
        _, slot_T = ctx.saved_tensors
        return gradients[0].index_select(1, slot_T), None, None


class _ToTokens(torch.autograd.Function):
    """Take each token's slot; the inverse of `_ToRows`."""

    @staticmethod
    def forward(ctx: Any, x_VND: Tensor, source_N: Tensor, slot_T: Tensor) -> Tensor:
        ctx.save_for_backward(source_N, slot_T)
        return x_VND.index_select(1, slot_T)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:
        source_N, _ = ctx.saved_tensors
        return _with_zero_row(gradients[0]).index_select(1, source_N), None, None


def _with_zero_row(x_VTD: Tensor) -> Tensor:
    return torch.cat([x_VTD, x_VTD.new_zeros(x_VTD.shape[0], 1, x_VTD.shape[2])], dim=1)


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

    """

    def __init__(self, sequences: Sequences, device: torch.device | str = "cpu") -> None:
        items_T = torch.from_numpy(sequences.items)
        offsets_S1 = torch.from_numpy(sequences.offsets)
        slots_RW = torch.from_numpy(sequences.slots)
        lengths_S = offsets_S1[1:] - offsets_S1[:-1]
        n_tokens = len(items_T)
        self.n_rows, self.row_width = slots_RW.shape
        slots_N = slots_RW.reshape(-1).long()
        filled_T = (slots_N >= 0).nonzero().squeeze(1)
        slot_T = torch.empty(n_tokens, dtype=torch.int64)
        slot_T[slots_N[filled_T]] = filled_T
        sequence_T = torch.repeat_interleave(torch.arange(len(lengths_S)), lengths_S)
        # One entry more than tokens: an empty slot belongs to sequence -1.
        sequence_of_slot_N = torch.cat([sequence_T, sequence_T.new_tensor([-1])])[slots_N]
        real_T = items_T > 0
        empty_S = lengths_S == 0

        self.items_T = items_T.long().to(device)
        self.positions_T = torch.from_numpy(sequences.positions).long().to(device)
        self.targets_T = torch.from_numpy(sequences.targets).long().to(device)
        self.sequence_T = sequence_T.to(device)
        self.lengths_S = lengths_S.to(device)
        self.last_S = (offsets_S1[1:] - 1).clamp(min=0).to(device)
        self.empty_S = empty_S.to(device) if bool(empty_S.any()) else None
        self.real_T = None if bool(real_T.all()) else real_T.to(device)
        self._source_N = torch.where(slots_N >= 0, slots_N, n_tokens).to(device)
        self._slot_T = slot_T.to(device)
        self._sequence_RW = sequence_of_slot_N.view(self.n_rows, self.row_width).to(device)
        self._masks: dict[tuple[Any, ...], Tensor] = {}

    def __len__(self) -> int:
        return len(self.items_T)

    def rows(self, x_VTD: Tensor) -> Tensor:
        """[V, T, D] -> [V x R, W, D]; empty slots are zero."""
        x_VND: Tensor = _ToRows.apply(x_VTD, self._source_N, self._slot_T)
        return x_VND.reshape(-1, self.row_width, x_VTD.shape[2])

    def flat(self, x_RWD: Tensor, n_views: int) -> Tensor:
        """[V x R, W, D] -> [V, T, D]; the inverse of `rows`."""
        x_VND = x_RWD.reshape(n_views, self.n_rows * self.row_width, x_RWD.shape[2])
        tokens: Tensor = _ToTokens.apply(x_VND, self._source_N, self._slot_T)
        return tokens

    def mask(self, causal: bool, n_views: int, padding: Padding = "apart") -> Tensor:
        """Which slot may look at which: bool [V x R, 1, W, W], the same sequence and, where causal, not later.

        Empty slots look at empty slots, so that no row of scores is wholly masked.
        """
        key = (causal, n_views, padding)
        if key not in self._masks:
            mask_RWW = self._sequence_RW[:, :, None] == self._sequence_RW[:, None, :]
            if self.real_T is not None and padding != "seen":
                real_RW = self._of_slots(self.real_T)
                sees_RWW = real_RW[:, None, :] | ~real_RW[:, :, None]
                if padding == "unseen" and not causal:
                    hollow_S = self.real_T.new_ones(len(self.lengths_S)).index_fill(0, self.sequence_T[self.real_T], 0)
                    sees_RWW = real_RW[:, None, :] | self._of_slots(hollow_S[self.sequence_T])[:, :, None]
                mask_RWW = mask_RWW & sees_RWW
            if causal:
                mask_RWW = mask_RWW.tril()
            self._masks[key] = mask_RWW.repeat(n_views, 1, 1)[:, None]
        return self._masks[key]

    def padding_counts(self, max_len: int, n_views: int) -> Tensor:
        """How many padding keys each slot's sequence would have in a window of `max_len`: float [V x R, 1, W]."""
        key = ("counts", max_len, n_views)
        if key not in self._masks:
            counts_RW = self._of_slots((max_len - self.lengths_S)[self.sequence_T])
            self._masks[key] = counts_RW.clamp(min=0).float().repeat(n_views, 1)[:, None]
        return self._masks[key]

    def _of_slots(self, x_T: Tensor) -> Tensor:
        """[T] -> [R, W]; zero in empty slots."""
        return torch.cat([x_T, x_T.new_zeros(1)])[self._source_N].view(self.n_rows, self.row_width)
