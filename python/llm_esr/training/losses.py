"""The losses of LLM-ESR (arXiv 2405.20646, sections 3.3 and 3.4), each a mean over what it averages.

Shapes: M tokens with a target, N negatives, V views, D width, C = V x D, S students, Z teachers, K similar users.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from llm_esr.loading.staging import Staged, send, to_device
from llm_esr.semantics.soft_targets import soft_target_loss

RankingLoss = Callable[[Tensor, Tensor, Tensor], Tensor]


def sampled_softmax(positive_M: Tensor, negative_MN: Tensor, masked_MN: Tensor) -> Tensor:
    """Cross-entropy of the target among itself and the unmasked negatives; mean over targets."""
    logits_MN1 = torch.cat([positive_M[:, None], negative_MN.masked_fill(masked_MN, -torch.inf)], dim=1)
    return (torch.logsumexp(logits_MN1, dim=1) - positive_M).mean()


def binary_cross_entropy(positive_M: Tensor, negative_MN: Tensor, masked_MN: Tensor) -> Tensor:
    """Mean over targets of the positive loss + mean over the unmasked negatives of the negative loss."""
    kept_MN = ~masked_MN
    negative = (F.softplus(negative_MN) * kept_MN).sum() / kept_MN.sum().clamp(min=1)
    return F.softplus(-positive_M).mean() + negative


RANKING_LOSSES: dict[str, RankingLoss] = {"sampled-softmax": sampled_softmax, "bce": binary_cross_entropy}


def ranking(
    loss: RankingLoss,
    hidden_MC: Tensor,
    positive_MC: Tensor,
    negative: Tensor,
    masked_MN: Tensor,
    n_views: int,
    view_weight: float,
    log_counts: Tensor | None = None,
    profile_scores: tuple[Tensor, Tensor] | None = None,
) -> Tensor:
    """The ranking loss of all views together, plus `view_weight` times that of each view alone.

    A score of all views is the sum of the views' scores. Without the second term the view that learns faster
    takes all the gradient.

    Args:
        loss: one of `RANKING_LOSSES`.
        hidden_MC: states at the tokens with a target.
        positive_MC: the targets' item vectors.
        negative: item vectors of the negatives, [N, C] shared by the step or [M, N, C] own ones.
        masked_MN: negatives that do not count (seen by the user, or the target itself).
        n_views: V.
        view_weight: weight of each view's own loss.
        log_counts: the logarithm of how often each negative's item is drawn for a target in the mean, [N] or [M, N];
            taken from the negatives' scores. Then the sum over the sample has the mean of the sum over all items that
            may be drawn (Bengio and Senecal 2008), and the sampled softmax tends to that over all items as N grows.
            The target is there for certain, not by the sampler's chance, so its score stays: taking its own chance
            from it too, as is often done, leaves a bias that no N removes.
        profile_scores: what the text profile adds to each target's score, [M], and each negative's, [M, N].

    """
    if len(hidden_MC) == 0:
        return hidden_MC.sum() * 0.0
    width = hidden_MC.shape[1] // n_views
    positive_VM = (hidden_MC * positive_MC).view(-1, n_views, width).sum(2).T
    hidden_VMD = hidden_MC.view(-1, n_views, width).transpose(0, 1)
    if negative.dim() == 2:
        negative_VMN = hidden_VMD @ negative.view(-1, n_views, width).permute(1, 2, 0)
    else:
        negative_VMND = negative.view(*negative.shape[:2], n_views, width).permute(2, 0, 1, 3)
        negative_VMN = (negative_VMND @ hidden_VMD[..., None]).squeeze(-1)
    together_M, together_MN = positive_VM.sum(0), negative_VMN.sum(0)
    if profile_scores is not None:
        together_M, together_MN = together_M + profile_scores[0], together_MN + profile_scores[1]
        positive_VM, negative_VMN = positive_VM + profile_scores[0], negative_VMN + profile_scores[1]
    if log_counts is not None:
        together_MN, negative_VMN = together_MN - log_counts, negative_VMN - log_counts
    total = loss(together_M, together_MN, masked_MN)
    if view_weight and n_views > 1:
        for positive_M, negative_MN in zip(positive_VM, negative_VMN, strict=True):
            total = total + view_weight * loss(positive_M, negative_MN, masked_MN)
    return total


def mean_teacher(
    states_ZC: Tensor, teacher_index_SK: NDArray[np.int64], weights_SK: NDArray[np.float32] | None = None
) -> tuple[Tensor, NDArray[np.bool_]]:
    """The mean state of each student's similar users.

    Args:
        states_ZC: `u_last` of each unique teacher.
        teacher_index_SK: rows of `states_ZC`; -1 where there is none.
        weights_SK: what each teacher weighs, adding up to 1 over those that a student has; None: all the same.

    Returns:
        means [S, C] (zero where a student has no teacher) and whether a student has one, [S].

    """
    mixture = send(Mixture.of(teacher_index_SK, weights_SK), states_ZC.device)
    return mixture.mean(states_ZC), mixture.has_teacher_S


@dataclass(frozen=True)
class Mixture(Staged):
    """What the mean teacher of each student is mixed from.

    Attributes:
        index_SK: rows of the teachers' states, int64; 0 where there is none.
        shares_SK: what each weighs: float32 that adds up to 1, or bool, and `counts_S` divides.
        counts_S: teachers of each student, 1 at least, int64; None where shares add up to 1.
        has_teacher_S: which students have one; stays in memory.
        taught_s: the places of those, int64; None where all have one.

    """

    index_SK: Tensor
    shares_SK: Tensor
    counts_S: Tensor | None
    has_teacher_S: NDArray[np.bool_]
    taught_s: Tensor | None

    @staticmethod
    def of(teacher_index_SK: NDArray[np.int64], weights_SK: NDArray[np.float32] | None = None) -> Mixture:
        """As `mean_teacher`, in memory."""
        known_SK = teacher_index_SK >= 0
        counts_S = known_SK.sum(1)
        has_teacher_S = counts_S > 0
        shares_SK = known_SK if weights_SK is None else weights_SK
        return Mixture(
            torch.from_numpy(np.maximum(teacher_index_SK, 0)),
            torch.from_numpy(shares_SK),
            torch.from_numpy(np.maximum(counts_S, 1)) if weights_SK is None else None,
            has_teacher_S,
            None if has_teacher_S.all() else torch.from_numpy(np.flatnonzero(has_teacher_S)),
        )

    def mean(self, states_ZC: Tensor) -> Tensor:
        """The mean teachers, [S, C]; zero where a student has none."""
        sums_SC = (states_ZC[self.index_SK] * self.shares_SK[..., None]).sum(1)
        return sums_SC if self.counts_S is None else sums_SC / self.counts_S[:, None]


def distillation(
    form: str,
    students_SC: Tensor,
    teachers_SC: Tensor,
    has_teacher_S: NDArray[np.bool_],
    temperature: float = 1.0,
    taught_s: Tensor | None = None,
) -> Tensor:
    """How far the students are from their teachers; mean over the students that have one.

    `kd` is the mean squared error of the paper, `cl` its contrastive form; `cosine` is one minus the cosine, which
    leaves the length free. `taught_s`: where `has_teacher_S` is true, on the device, if that is known.
    """
    if not has_teacher_S.any():
        return students_SC.sum() * 0.0
    students, teachers = students_SC, teachers_SC
    if not has_teacher_S.all():
        rows = to_device(np.flatnonzero(has_teacher_S), students_SC.device) if taught_s is None else taught_s
        students, teachers = students_SC.index_select(0, rows), teachers_SC.index_select(0, rows)
    if form == "cl":
        return soft_target_loss(students, teachers, temperature)
    if form == "cosine":
        return (1 - F.cosine_similarity(students, teachers, dim=1)).mean()
    return F.mse_loss(students, teachers)
