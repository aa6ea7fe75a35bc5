"""One training step's forward pass: from a batch to its losses.

Shapes: B students, T tokens, M tokens with a target, N negatives, C channels of all views, K similar users.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from llm_esr.attention.tokens import Tokens
from llm_esr.config import Config
from llm_esr.loading.staging import to_device
from llm_esr.models.encoder import SequentialEncoder
from llm_esr.training.losses import RANKING_LOSSES, contrastive, distillation, mean_teacher, ranking
from llm_esr.training.step_items import StepItems

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
    model: SequentialEncoder,
    batch: Batch,
    config: Config,
    *,
    distil: bool,
    stored: StoredTeachers | None = None,
    log_q_I: Tensor | None = None,
) -> Losses:
    """Ranking loss, plus `distill.weight` times the distillation loss, plus the items' regularisation, of one batch.

    Every distinct item of the students, their targets and their negatives goes through the views once, and of the
    teachers' items those that are new. Teachers come with the batch, unless they are `stored`. With `log_q_I`, a
    loader's `log_q` on the model's device, negatives are corrected for how often they are drawn.
    """
    device = model.device
    tokens = Tokens(batch.students, device)
    items = StepItems.of(batch, distil=distil and stored is None, device=device)
    vectors_nC = model.item_vectors(items.students_n)

    distils = items.place_Z is not None or (distil and stored is not None)
    vectors_TC = F.embedding(items.place_T, vectors_nC)
    hidden_TC = model.hidden(vectors_TC, tokens)
    ranking_loss = ranking(
        RANKING_LOSSES[config.train.loss],
        hidden_TC.index_select(0, items.targeted_M),
        F.embedding(items.place_M, vectors_nC),
        F.embedding(items.place_N, vectors_nC),
        _masked(batch, tokens, items),
        model.n_views,
        config.train.view_loss,
        None if log_q_I is None else _log_counts(log_q_I, items.negatives_N),
    )
    total, distillation_loss = ranking_loss, torch.zeros((), device=device)
    if distils:
        if stored is None:
            teachers_BC, taught_B = teachers_of(model, batch, config, items.teacher_vectors(model, vectors_nC))
        else:
            teachers_BC, taught_B = stored.of(batch.users)
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


def _between_views(model: SequentialEncoder, vectors_TC: Tensor, tokens: Tokens) -> Tensor:
    """The contrastive loss between the semantic and the collaborative vector of every item shown, repeats included."""
    if tokens.real is not None:
        vectors_TC = vectors_TC.index_select(0, to_device(np.flatnonzero(tokens.real), vectors_TC.device))
    by_view = dict(zip(model.views, vectors_TC.chunk(2, dim=1), strict=True))
    return contrastive(by_view["semantic"], by_view["collaborative"]) if len(vectors_TC) else vectors_TC.sum()


@torch.no_grad()
def teachers_of(
    model: SequentialEncoder, batch: Batch, config: Config, vectors_ZC: Tensor | None = None
) -> tuple[Tensor, NDArray[np.bool_]]:
    """The mean teacher of each student, [B, C], and who has one, [B]; each distinct similar user is encoded once.

    `vectors_ZC` are the item vectors of the teachers' tokens, where they are known.
    """
    assert batch.teachers is not None and batch.teacher_index is not None
    was_training = model.training
    model.train(was_training and config.distill.teacher_dropout)
    states_SC = model.encode(batch.teachers, vectors_ZC)
    model.train(was_training)
    return mean_teacher(states_SC, batch.teacher_index)


def _log_counts(log_q_I: Tensor, negatives: Tensor) -> Tensor:
    """The logarithm of how often a target meets each negative's item in the mean, as `negatives`, [N] or [M, N]."""
    return log_q_I[negatives] + math.log(max(negatives.shape[-1], 1))


def _masked(batch: Batch, tokens: Tokens, items: StepItems) -> Tensor:
    """Negatives that do not count, bool [M, N]: the target itself and, where they are shared, what the user met."""
    equal_MN = items.targets_M[:, None] == items.negatives_N
    if batch.collision is None:
        return equal_MN
    collision_BN = to_device(batch.collision, equal_MN.device)
    student_M = to_device(tokens.sequence[tokens.targets > 0], equal_MN.device)
    return equal_MN | collision_BN.index_select(0, student_M)
