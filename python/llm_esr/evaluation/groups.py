"""Groups of users and targets that a table shows apart."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from llm_esr.config import EvaluateConfig
    from llm_esr.data import Dataset
    from llm_esr.evaluation.ranking import Ranks

GROUPS = (
    "all",
    "tail_item",
    "head_item",
    "tail_user",
    "head_user",
    "known_target",
    "cold_target",
    "repeat_target",
    "new_target",
)


@dataclass(frozen=True)
class Thresholds:
    """An item (a user) is tail if its training count (training length) is below the number."""

    tail_item: int
    tail_user: int


def tail_threshold(counts: NDArray[np.int64], share: float) -> int:
    """The smallest t below which at least `share` of the counts lie."""
    if not len(counts):
        return 1
    # A product such as 0.07 * 100 = 7.000000000000001 must not ask for one more.
    needed = max(1, math.ceil(share * len(counts) - 1e-9))
    return int(np.partition(counts, needed - 1)[needed - 1]) + 1


def thresholds(data: Dataset, config: EvaluateConfig) -> Thresholds:
    """The numbers given in `config`, else those of the rule over all items and all users."""
    item, user = config.tail_item_below, config.tail_user_below
    return Thresholds(
        tail_threshold(np.asarray(data.training_counts[1:]), config.tail_share) if item is None else item,
        tail_threshold(np.asarray(data.training_lengths), config.tail_share) if user is None else user,
    )


def group_masks(data: Dataset, ranks: Ranks, limits: Thresholds) -> dict[str, NDArray[np.bool_]]:
    """Which of the ranked users (bool [U]) belong to each of `GROUPS`."""
    target_count = np.asarray(data.training_counts)[ranks.targets]
    tail_item = target_count < limits.tail_item
    tail_user = np.asarray(data.training_lengths)[ranks.users] < limits.tail_user
    masks = (
        np.ones(len(ranks.users), np.bool_),
        tail_item,
        ~tail_item,
        tail_user,
        ~tail_user,
        target_count > 0,
        target_count == 0,
        ranks.repeat,
        ~ranks.repeat,
    )
    return dict(zip(GROUPS, masks, strict=True))
