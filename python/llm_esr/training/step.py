"""One training step's forward pass: from a batch to its losses.

Shapes: B students, T tokens, M tokens with a target, N negatives, C channels of all views, K similar users.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor

from llm_esr.config import Config
from llm_esr.models.dual_view import DualView
from llm_esr.models.tokens import Tokens
from llm_esr.training.losses import RANKING_LOSSES, contrastive, distillation, mean_teacher, ranking

if TYPE_CHECKING:
    from llm_esr.loading import Batch
    from llm_esr.training.teachers import StoredTeachers


@dataclass(frozen=True)
class Losses:
    """What a step minimises, and its parts."""

    total: Tensor
    ranking: Tensor
    distillation: Tensor


def losses_of(
    model: DualView,
    batch: Batch,
    config: Config,
    *,
    distil: bool,
    stored: StoredTeachers | None = None,
    log_q_I: Tensor | None = None,
) -> Losses:
    """Ranking loss, plus `distill.weight` times the distillation loss, plus the items' regularisation, of one batch.

    Every distinct item of the students, their targets and their negatives goes through the views once. Teachers come
    with the batch, unless they are `stored`. With `log_q_I`, a loader's `log_q` on the model's device, negatives are
    corrected for how often they are drawn.
    """
    device = model.device
    tokens = Tokens(batch.students, device)
    negatives = torch.from_numpy(batch.negatives).long().to(device)
    targeted_M = (tokens.targets_T > 0).nonzero().squeeze(1)
    targets_M = tokens.targets_T[targeted_M]

    wanted = torch.cat([tokens.items_T, targets_M, negatives.reshape(-1)])
    distinct_n, index = torch.unique(wanted, return_inverse=True)
    vectors_nC = model.item_vectors(distinct_n)
    index_T, index_M, index_N = index.split([len(tokens), len(targets_M), negatives.numel()])

    vectors_TC = F.embedding(index_T, vectors_nC)
    hidden_TC = model.hidden(vectors_TC, tokens)
    ranking_loss = ranking(
        RANKING_LOSSES[config.train.loss],
        hidden_TC.index_select(0, targeted_M),
        F.embedding(index_M, vectors_nC),
        F.embedding(index_N.view(negatives.shape), vectors_nC),
        _masked(batch, tokens, targeted_M, targets_M, negatives),
        model.n_views,
        config.train.view_loss,
        None if log_q_I is None else _log_counts(log_q_I, negatives),
    )
    total, distillation_loss = ranking_loss, torch.zeros((), device=device)
    if distil and (stored is not None or (batch.teachers is not None and len(batch.teachers))):
        teachers_BC, taught_B = teachers_of(model, batch, config) if stored is None else stored.of(batch.users)
        if config.distill.student_pass == "twice":
            last_BC = model.hidden(vectors_TC, tokens, last_only=True)
        else:
            last_BC = hidden_TC.index_select(0, tokens.last_S) if len(tokens) else hidden_TC
        students_BC = model.user_vectors(last_BC, tokens)
        distillation_loss = distillation(
            config.distill.form, students_BC, teachers_BC, taught_B, config.distill.temperature
        )
        total = total + config.distill.weight * distillation_loss
    if config.train.item_regularisation:
        total = total + config.train.item_regularisation * _between_views(model, vectors_TC, tokens)
    return Losses(total, ranking_loss.detach(), distillation_loss.detach())


def _between_views(model: DualView, vectors_TC: Tensor, tokens: Tokens) -> Tensor:
    """The contrastive loss between the semantic and the collaborative vector of every item shown, repeats included."""
    if tokens.real_T is not None:
        vectors_TC = vectors_TC[tokens.real_T]
    by_view = dict(zip(model.views, vectors_TC.chunk(2, dim=1), strict=True))
    return contrastive(by_view["semantic"], by_view["collaborative"]) if len(vectors_TC) else vectors_TC.sum()


@torch.no_grad()
def teachers_of(model: DualView, batch: Batch, config: Config) -> tuple[Tensor, Tensor]:
    """The mean teacher of each student, [B, C], and who has one, [B]; each distinct similar user is encoded once."""
    assert batch.teachers is not None and batch.teacher_index is not None
    was_training = model.training
    model.train(was_training and config.distill.teacher_dropout)
    states_ZC = model.encode(batch.teachers)
    model.train(was_training)
    return mean_teacher(states_ZC, torch.from_numpy(batch.teacher_index).to(model.device))


def _log_counts(log_q_I: Tensor, negatives: Tensor) -> Tensor:
    """The logarithm of how often a target meets each negative's item in the mean, as `negatives`, [N] or [M, N]."""
    return log_q_I[negatives] + math.log(max(negatives.shape[-1], 1))


def _masked(batch: Batch, tokens: Tokens, targeted_M: Tensor, targets_M: Tensor, negatives: Tensor) -> Tensor:
    """Negatives that do not count, bool [M, N]: the target itself and, where they are shared, what the user met."""
    equal_MN = targets_M[:, None] == negatives
    if batch.collision is None:
        return equal_MN
    collision_BN = torch.from_numpy(batch.collision).to(targets_M.device)
    return equal_MN | collision_BN.index_select(0, tokens.sequence_T[targeted_M])
