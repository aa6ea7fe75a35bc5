"""The regularisation of items: the semantic and the collaborative vector of an item attract each other."""

from __future__ import annotations

from typing import ClassVar

import numpy as np
from torch import Tensor

from llm_esr.config import Config
from llm_esr.loading.staging import to_device
from llm_esr.semantics.soft_targets import soft_target_loss
from llm_esr.training.forward import Forward
from llm_esr.training.terms.term import Term, TermData


class ItemRegularisation(Term):
    """The contrastive loss between the two vectors of every item in the students' sequences, repeats included."""

    name: ClassVar[str] = "item_regularisation"

    def __init__(self, weight: float) -> None:
        self.weight = weight
        self.whole_step = "train.item_regularisation"

    def __call__(self, forward: Forward) -> Tensor:
        """Mean over the tokens that are no padding."""
        vectors_TC, tokens = forward.vectors_TC, forward.tokens
        if tokens.real is not None:
            vectors_TC = vectors_TC.index_select(0, to_device(np.flatnonzero(tokens.real), vectors_TC.device))
        if not len(vectors_TC):
            return vectors_TC.sum()
        by_view = dict(zip(forward.model.views, vectors_TC.chunk(forward.model.n_views, dim=1), strict=True))
        return soft_target_loss(by_view["semantic"], by_view["collaborative"], temperature=1.0)


def build(config: Config, given: TermData) -> ItemRegularisation | None:
    """The term of `train.item_regularisation`; None where it is 0."""
    return ItemRegularisation(config.train.item_regularisation) if config.train.item_regularisation else None
