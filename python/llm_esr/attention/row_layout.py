"""Rows of tokens: where each token of a batch stands in them, and who may look at whom.

Shapes: V views, T tokens, S sequences, D width; a group has R rows of width W; M = V x (slots of all groups).

On the CPU every sequence has a row to itself, beside others of about its length: the scores of a row grow with the
square of its width, and so do softmax and dropout over them. On other devices the loader's rows are taken as they
are, one group in which sequences share rows, as many small products would leave the device idle. Nothing but attention
knows rows, so the choice changes the speed of a step and never its result.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from llm_esr.attention.interface import Padding
from llm_esr.loading.staging import to_device

# Whole vectors: a row of 12 takes the CPU twice as long as one of 16.
_WIDTHS = np.array([4, 16, 32, 48, 64, 96, 128, 192, 256, 384, 512])
_WASTE = 50_000  # more scores than needed that are cheaper than a group of their own


class _Spread(torch.autograd.Function):
    """Gather tokens into slots. Each token has one slot, so the gradient is a gather too: fast and deterministic."""

    @staticmethod
    def forward(ctx: Any, x_PD: Tensor, source_M: Tensor, place_P: Tensor) -> Tensor:
        ctx.save_for_backward(place_P)
        return x_PD.index_select(0, source_M)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:
        (place_P,) = ctx.saved_tensors
        return gradients[0].index_select(0, place_P), None, None


class _Collect(torch.autograd.Function):
    """Take each token's slot; the inverse of `_Spread`."""

    @staticmethod
    def forward(ctx: Any, x_MD: Tensor, source_M: Tensor, place_P: Tensor, empty_E: Tensor) -> Tensor:
        ctx.save_for_backward(source_M, empty_E)
        return x_MD.index_select(0, place_P)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None, None]:
        source_M, empty_E = ctx.saved_tensors
        return gradients[0].index_select(0, source_M).index_fill_(0, empty_E, 0), None, None, None


class Rows:
    """Groups of rows of one width each.

    Args:
        slots: for each group the token in each slot, int64 [R, W], -1 for none.
        sequence_T: the sequence that each token belongs to.
        owners: for each group the sequence of each row, int64 [R], where every row holds one; else None.
        device: where the tensors go.

    """

    def __init__(
        self,
        slots: list[NDArray[np.int64]],
        sequence_T: NDArray[np.int64],
        owners: list[NDArray[np.int64]] | None,
        device: torch.device | str,
    ) -> None:
        self.device = device
        self.shapes: list[tuple[int, int]] = [(len(group), group.shape[1]) for group in slots]
        self._slots = slots
        self._sequence_T = sequence_T
        self.owners = owners
        self._indices: dict[int, tuple[Tensor, Tensor, Tensor]] = {}
        self._masks: dict[tuple[Any, ...], list[Tensor]] = {}

    def spread(self, x_VTD: Tensor) -> list[Tensor]:
        """[V, T, D] -> [V x R, W, D] for each group. The content of an empty slot means nothing."""
        n_views, n_tokens, width = x_VTD.shape
        source_M, place_P, _ = self._index(n_views)
        x_MD: Tensor = _Spread.apply(x_VTD.reshape(n_views * n_tokens, width), source_M, place_P)
        parts = torch.split(x_MD, [n_views * r * w for r, w in self.shapes])
        return [part.view(n_views * r, w, width) for part, (r, w) in zip(parts, self.shapes, strict=True)]

    def collect(self, groups: list[Tensor], n_views: int) -> Tensor:
        """[V x R, W, D] for each group -> [V, T, D]; the inverse of `spread`."""
        width = groups[0].shape[-1]
        x_MD = torch.cat([group.reshape(-1, width) for group in groups])
        x_PD: Tensor = _Collect.apply(x_MD, *self._index(n_views))
        return x_PD.view(n_views, -1, width)

    def spread_last(self, last_VSD: Tensor) -> list[Tensor]:
        """What belongs to sequences, [V, S, D] -> [V x R, 1, D] for each group, where a row holds one sequence."""
        assert self.owners is not None
        owners = (to_device(group, self.device) for group in self.owners)
        return [last_VSD.index_select(1, group).reshape(-1, 1, last_VSD.shape[2]) for group in owners]

    def collect_last(self, groups: list[Tensor], n_views: int, n_sequences: int) -> Tensor:
        """[V x R, 1, D] for each group -> [V, S, D]; the inverse of `spread_last`. Empty sequences get any vector."""
        assert self.owners is not None
        place_S = np.zeros(n_sequences, np.int64)
        place_S[np.concatenate(self.owners)] = np.arange(sum(map(len, self.owners)))
        x_VRD = torch.cat([group.view(n_views, -1, group.shape[2]) for group in groups], dim=1)
        return x_VRD.index_select(1, to_device(place_S, self.device))

    def of_slots(self, x_T: Tensor) -> list[Tensor]:
        """[T] -> [R, W] for each group; zero in empty slots."""
        padded = torch.cat([x_T, x_T.new_zeros(1)])
        return [padded[to_device(group, self.device)] for group in self._slots]

    def masks(self, causal: bool, n_views: int, padding: Padding, real: NDArray[np.bool_] | None) -> list[Tensor]:
        """Which slot may look at which: bool [V x R, 1, W, W] for each group; the same sequence and, where causal, not
        later. Empty slots look at empty slots, so that no row of scores is wholly masked.
        """  # noqa: D205
        key = (causal, n_views, padding)
        if key not in self._masks:
            numbers_T = to_device(self._sequence_T + 1, self.device)
            real_RW = None if real is None or padding == "seen" else self.of_slots(to_device(real, self.device))
            hollow = None
            if real is not None and padding == "unseen" and not causal:
                filled_S = np.zeros(int(self._sequence_T.max(initial=0)) + 1, np.bool_)
                filled_S[self._sequence_T[real]] = True
                hollow = self.of_slots(to_device(~filled_S[self._sequence_T], self.device))
            masks = []
            for g, sequence_RW in enumerate(self.of_slots(numbers_T)):
                mask_RWW = sequence_RW[:, :, None] == sequence_RW[:, None, :]
                if real_RW is not None:
                    exempt_RW = ~real_RW[g] if hollow is None else hollow[g]
                    mask_RWW = mask_RWW & (real_RW[g][:, None, :] | exempt_RW[:, :, None])
                masks.append(mask_RWW.tril() if causal else mask_RWW)
            self._masks[key] = [mask.repeat(n_views, 1, 1)[:, None] for mask in masks]
        return self._masks[key]

    def _index(self, n_views: int) -> tuple[Tensor, Tensor, Tensor]:
        """Token of each slot, slot of each token, and the empty slots; views follow each other within a group."""
        if n_views not in self._indices:
            n_tokens = len(self._sequence_T)
            place_VT = np.empty((n_views, n_tokens), np.int64)
            sources: list[NDArray[np.int64]] = []
            first = 0
            for group in self._slots:
                flat = group.reshape(-1)
                filled = np.flatnonzero(flat >= 0)
                for view in range(n_views):
                    place_VT[view, flat[filled]] = first + filled
                    sources.append(np.where(flat >= 0, flat + view * n_tokens, -1))
                    first += len(flat)
            source_M = np.concatenate(sources) if sources else np.empty(0, np.int64)
            empty_E = np.flatnonzero(source_M < 0)
            source_M[empty_E] = 0
            arrays = (source_M, place_VT.reshape(-1), empty_E)
            source, place, empty = (to_device(array, self.device) for array in arrays)
            self._indices[n_views] = (source, place, empty)
        return self._indices[n_views]


def rows_by_length(offsets_S1: NDArray[np.int64]) -> tuple[list[NDArray[np.int64]], list[NDArray[np.int64]]]:
    """A row for each sequence that has a token, in groups of about the same length.

    Returns:
        (slots, owners), see `Rows`.

    """
    lengths_S = np.diff(offsets_S1)
    order_S = np.argsort(-lengths_S, kind="stable")
    order_S = order_S[: np.count_nonzero(lengths_S)]
    falling_S = lengths_S[order_S]
    kinds_S = np.searchsorted(_WIDTHS, falling_S)
    ends = [*(np.flatnonzero(np.diff(kinds_S)) + 1).tolist(), len(order_S)] if len(order_S) else []
    cuts: list[tuple[int, int]] = []
    start = 0
    for end in ends:
        if cuts:
            # Few rows stay with the longer ones before them: a group of their own would cost more.
            longer, shorter = _width(falling_S[cuts[-1][0]]), _width(falling_S[start])
            if (end - start) * (longer**2 - shorter**2) < _WASTE:
                cuts[-1] = (cuts[-1][0], end)
                start = end
                continue
        cuts.append((start, end))
        start = end
    slots, owners = [], []
    for start, end in cuts:
        mine, within_W = order_S[start:end], np.arange(_width(falling_S[start]))
        place_RW = within_W[None, :] + offsets_S1[mine][:, None]
        slots.append(np.where(within_W[None, :] < lengths_S[mine][:, None], place_RW, -1))
        owners.append(mine)
    return slots, owners


def _width(length: np.int64) -> int:
    """The width of a row for a sequence of `length`."""
    if length > _WIDTHS[-1]:
        return int(-(-length // 16) * 16)
    return int(_WIDTHS[np.searchsorted(_WIDTHS, length)])
