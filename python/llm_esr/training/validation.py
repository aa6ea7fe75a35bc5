"""What early stopping goes by: NDCG@10 on the validation part."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from llm_esr.config import Config
from llm_esr.evaluation import early_stopping_candidates, early_stopping_users, quick_ndcg
from llm_esr.models import SequentialEncoder
from llm_esr.scoring import NetworkScorer
from llm_esr.world import World

if TYPE_CHECKING:
    from llm_esr.data import Dataset

Validate = Callable[[SequentialEncoder], float]


def build_validation(data: Dataset, config: Config, world: World | None = None) -> Validate | None:
    """NDCG@10 on validation, over the whole catalogue or against `train.validation_candidates` sampled items.

    All users up to `train.validation_users`, else a fixed sample; several ranks share them, and all get the figure.
    """
    if data.split == "none":
        return None
    users = early_stopping_users(data, "validation", config.train.validation_users)
    if len(users) == 0:
        return None
    count = config.train.validation_candidates
    try:
        candidates = None if count is None else early_stopping_candidates(data, users, count)
    except ValueError as error:
        raise ValueError(f"train.validation_candidates: {error}") from None

    def validate(model: SequentialEncoder) -> float:
        scorer = NetworkScorer(model, "validation", str(model.device))
        ties = config.train.validation_ties
        return quick_ndcg(scorer, data, "validation", 10, users, candidates=candidates, ties=ties, shared_by=world)

    return validate
