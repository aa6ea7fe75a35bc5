"""The ranking term: the target against negatives, for all views together and, where asked, for each alone."""

from __future__ import annotations

import math
from typing import ClassVar

import torch
from torch import Tensor

from llm_esr.config import Config
from llm_esr.training.forward import Forward
from llm_esr.training.losses import RANKING_LOSSES, ranking
from llm_esr.training.terms.term import Term, TermData


class Ranking(Term):
    """`losses.ranking` of the tokens with a target.

    Args:
        loss: a name of `RANKING_LOSSES`.
        view_weight: weight of each view's own loss.
        log_q_I: the loader's `log_q` on the model's device, where negatives are corrected for how often they are drawn.

    """

    name: ClassVar[str] = "ranking"

    def __init__(self, loss: str, view_weight: float, log_q_I: Tensor | None = None) -> None:
        self.loss = RANKING_LOSSES[loss]
        self.view_weight = view_weight
        self.log_q_I = log_q_I

    def __call__(self, forward: Forward) -> Tensor:
        """Mean over the tokens with a target."""
        return ranking(
            self.loss,
            forward.target_states(),
            forward.target_vectors(),
            forward.negative_vectors(),
            forward.masked_negatives(),
            forward.model.n_views,
            self.view_weight,
            None if self.log_q_I is None else log_counts(self.log_q_I, forward.items.negatives_N),
        )


def log_counts(log_q_I: Tensor, negatives: Tensor) -> Tensor:
    """The logarithm of how often a target meets each negative's item in the mean, as `negatives`, [N] or [M, N]."""
    return log_q_I[negatives] + math.log(max(negatives.shape[-1], 1))


def build(config: Config, given: TermData) -> Ranking:
    """The term of `train.loss`, `train.view_loss` and `negatives.log_q_correction`."""
    log_q = given.loader.log_q if config.negatives.log_q_correction and given.loader is not None else None
    log_q_I = None if log_q is None else torch.from_numpy(log_q).to(given.device)
    return Ranking(config.train.loss, config.train.view_loss, log_q_I)
