"""The softmax over the whole catalogue, in chunks of targets: the scores of a step never exist at once.

    loss = mean over targets m of  log sum_(i not met by m's user, or i = y_m) exp(s_mi)  -  s_m,y_m
    s_mi = state_m . vector_i  (+ profile_m . text_i)

A kernel in Rust turns a chunk's scores into losses and gradients on the CPU, torch elsewhere. The gradients of what the
scores are made from come in the same pass: with q = (softmax(s) - onehot(y)) / M, they are q V for the states, q' S for
the items' vectors and q T for the profiles.

Shapes: M targets, m of a chunk, B students, I items, C channels of all views, E width of the texts, P pairs.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from llm_esr import _native
from llm_esr.loading.staging import Staged, to_device

# Scores held at once: 32 MiB on the CPU. Fewer lie nearer to the processor, but narrow products cost more than that.
_SCORES = 1 << 23
_SCORES_ON_A_DEVICE = 1 << 27
_FEWEST = 32


@dataclass(frozen=True)
class MetItems(Staged):
    """What the students of a step met in training.

    Attributes:
        starts_M: where the items of each target's student begin in `items`, [M].
        counts_M: how many they are, [M].
        items: columns (id - 1), student after student, int64.
        columns_BH: the same as rows, a student's first column again behind its last, int64; None on the CPU, where the
            columns are looked up row by row.
        student_M: each target's student, int64; None where `columns_BH` is.

    """

    starts_M: NDArray[np.int64]
    counts_M: NDArray[np.int64]
    items: Tensor
    columns_BH: Tensor | None = None
    student_M: Tensor | None = None

    @staticmethod
    def of(
        items: NDArray[np.int32],
        offsets: NDArray[np.int64],
        student_M: NDArray[np.int64],
        device: torch.device,
    ) -> MetItems:
        """From histories, one a student, and the student of each target."""
        columns = to_device(items.astype(np.int64) - 1, device)
        return MetItems(offsets[:-1][student_M], np.diff(offsets)[student_M], columns)

    @staticmethod
    def in_rows(items: NDArray[np.int32], offsets: NDArray[np.int64], student_M: NDArray[np.int64]) -> MetItems:
        """As `of`, in memory, for a device that hides many scores at once; each target's student met something."""
        starts_B, counts_B = offsets[:-1], np.diff(offsets)
        within_H = np.arange(counts_B.max(initial=0))
        places_BH = starts_B[:, None] + np.where(within_H < counts_B[:, None], within_H, 0)
        columns = items.astype(np.int64) - 1
        # Who met nothing, and has no target, reads another's.
        columns_BH = columns[np.minimum(places_BH, max(len(columns) - 1, 0))]
        nothing = torch.empty(0, dtype=torch.int64)
        rows = torch.from_numpy(columns_BH), torch.from_numpy(student_M)
        return MetItems(starts_B[student_M], counts_B[student_M], nothing, *rows)

    def hide(self, scores_mI: Tensor, start: int) -> None:
        """Set the scores that do not count, of the targets from `start`, to -inf."""
        stop = start + len(scores_mI)
        if self.columns_BH is None or self.student_M is None:
            scores_mI[self.pairs(start, stop)] = -torch.inf
        else:
            columns_mH = self.columns_BH.index_select(0, self.student_M[start:stop])
            scores_mI.scatter_(1, columns_mH, -torch.inf)

    def native_losses(self, scores_mI: Tensor, targets_m: Tensor, start: int, share: float) -> float:
        """The sum of the losses of the rows from `start`, whose gradients, times `share`, take the scores' place."""
        rows = slice(start, start + len(scores_mI))
        losses_m = _native.catalogue_losses(
            scores_mI.numpy(),
            targets_m.numpy(),
            self.starts_M[rows],
            self.counts_M[rows],
            self.items.numpy(),
            share,
            torch.get_num_threads(),
        )
        return float(losses_m.sum(dtype=np.float64))

    def pairs(self, start: int, stop: int) -> tuple[Tensor, Tensor]:
        """Row (from 0) and column of each score of the targets `start..stop` that does not count, int64 [P] each."""
        counts = self.counts_M[start:stop]
        ends = np.cumsum(counts)
        rows = np.repeat(np.arange(stop - start), counts)
        places = np.arange(ends[-1] if len(ends) else 0) + np.repeat(self.starts_M[start:stop] - ends + counts, counts)
        device = self.items.device
        return to_device(rows, device), self.items.index_select(0, to_device(places, device))


def catalogue_softmax(
    states_MC: Tensor,
    vectors_IC: Tensor,
    targets_M: Tensor,
    met: MetItems,
    profiles_ME: Tensor | None = None,
    texts_IE: Tensor | None = None,
) -> Tensor:
    """Cross-entropy of each target among all items but those that its student met; mean over targets.

    Args:
        states_MC: states at the tokens with a target.
        vectors_IC: the vectors of all items.
        targets_M: columns of the targets, id - 1; a target counts though its student met it.
        met: what the students met.
        profiles_ME: text profiles at the same tokens.
        texts_IE: the items' texts, which are not trained.

    """
    loss: Tensor = _CatalogueSoftmax.apply(states_MC, vectors_IC, targets_M, met, profiles_ME, texts_IE)
    return loss


def _add_product(sum_ab: Tensor, one: Tensor, other: Tensor) -> Tensor:
    """`sum_ab` plus a product: in its memory, unless autocast computes products in another type than the sum's."""
    if torch.is_autocast_enabled(sum_ab.device.type):
        return sum_ab + one @ other
    return sum_ab.addmm_(one, other)


def _native_rows(scores_mI: Tensor) -> bool:
    """Whether the Rust kernel reads these scores."""
    return scores_mI.device.type == "cpu" and scores_mI.dtype == torch.float32


def _rows_by_torch(
    scores_mI: Tensor, targets_m1: Tensor, met: MetItems, start: int, share: float
) -> tuple[Tensor, Tensor]:
    """Each row's gradient, [m, I], in the memory of its scores, and the sum of the losses."""
    target_m1 = scores_mI.gather(1, targets_m1)
    met.hide(scores_mI, start)
    scores_mI.scatter_(1, targets_m1, target_m1)
    logs_mI = scores_mI.log_softmax(dim=1)
    loss = -logs_mI.gather(1, targets_m1).sum()
    gradient_mI = torch.exp(logs_mI, out=scores_mI).mul_(share)
    return gradient_mI.scatter_add_(1, targets_m1, torch.full_like(target_m1, -share)), loss


class _CatalogueSoftmax(torch.autograd.Function):
    """Loss and gradients in one pass over chunks of targets."""

    @staticmethod
    def forward(
        ctx: Any,
        states_MC: Tensor,
        vectors_IC: Tensor,
        targets_M: Tensor,
        met: MetItems,
        profiles_ME: Tensor | None,
        texts_IE: Tensor | None,
    ) -> Tensor:
        count, items = len(states_MC), len(vectors_IC)
        size = max(_FEWEST, (_SCORES if states_MC.device.type == "cpu" else _SCORES_ON_A_DEVICE) // items)
        total = torch.zeros((), dtype=torch.promote_types(states_MC.dtype, torch.float32), device=states_MC.device)
        states_grad = torch.empty_like(states_MC)
        vectors_grad = torch.zeros_like(vectors_IC)
        profiles_grad = None if profiles_ME is None else torch.empty_like(profiles_ME)
        for start in range(0, count, size):
            chunk = slice(start, min(start + size, count))
            states_mC, targets_m1 = states_MC[chunk], targets_M[chunk, None]
            scores_mI = states_mC @ vectors_IC.T
            if profiles_ME is not None and texts_IE is not None:
                scores_mI = _add_product(scores_mI, profiles_ME[chunk], texts_IE.T)
            if _native_rows(scores_mI):
                total += met.native_losses(scores_mI, targets_M[chunk], chunk.start, 1 / count)
            else:
                scores_mI, loss = _rows_by_torch(scores_mI.to(total.dtype), targets_m1, met, chunk.start, 1 / count)
                total += loss
            # Now each score's gradient stands in its place.
            states_grad[chunk] = scores_mI @ vectors_IC
            vectors_grad = _add_product(vectors_grad, scores_mI.T, states_mC)
            if profiles_grad is not None and texts_IE is not None:
                profiles_grad[chunk] = scores_mI @ texts_IE
        ctx.save_for_backward(states_grad, vectors_grad, profiles_grad)
        return total / count

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        states_grad, vectors_grad, profiles_grad = ctx.saved_tensors
        (grad,) = grads
        profiles = None if profiles_grad is None else profiles_grad * grad
        return states_grad * grad, vectors_grad * grad, None, None, profiles, None
