"""Groups of users and targets that a table shows apart."""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from llm_esr.data.counts import meeting_users

if TYPE_CHECKING:
    from llm_esr.config import EvaluateConfig
    from llm_esr.data import Dataset
    from llm_esr.evaluation.ranking import HeldOut, Ranks

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
ITEM_GROUPS = ("tail_item", "head_item")
# Bootstrap streams: those of `GROUPS` are their places; ranges have their lower end beyond a start of their own, so
# that a range keeps its interval whatever other ranges there are.
_RANGE_STREAMS = {"length": 1 << 32, "popularity": 2 << 32}


@dataclass(frozen=True)
class Group:
    """Some of the ranked users.

    Attributes:
        name: as in `metrics.json`.
        members: bool [U], over the ranked users.
        stream: number of the bootstrap's random stream.
    """

    name: str
    members: NDArray[np.bool_]
    stream: int


@dataclass(frozen=True)
class GroupCounts:
    """What tells head from tail.

    Attributes:
        items: int64 [I + 1], how popular each item is; entry 0 means nothing.
        users: int64 [U], the length of every user's sequence, as the rule counts it.
    """

    items: NDArray[np.int64]
    users: NDArray[np.int64]

    @classmethod
    def of(cls, data: Dataset, part: HeldOut, rule: str, max_len: int | None) -> GroupCounts:
        """The counts of `evaluate.group_rule`.

        `training`: interactions in the training parts, and training lengths. `paper` (PAPER.md, section 4a): the
        distinct users who met an item in any part, and the lengths of the inputs for `part` as the model reads them.

        Args:
            data: the data set.
            part: what is held out.
            rule: `training` or `paper`.
            max_len: the newest items that the judged model reads; None: all of them. `training` does not ask.
        """
        if rule == "paper":
            lengths_U = np.asarray(data.input_ends(part))
            return cls(meeting_users(data), lengths_U if max_len is None else np.minimum(lengths_U, max_len))
        return cls(np.asarray(data.training_counts), np.asarray(data.training_lengths))


@dataclass(frozen=True)
class Thresholds:
    """An item (a user) is tail if its count (length) is below the number."""

    tail_item: int
    tail_user: int


def tail_threshold(counts: NDArray[np.int64], share: float) -> int:
    """The smallest t below which at least `share` of the counts lie."""
    if not len(counts):
        return 1
    # A product such as 0.07 * 100 = 7.000000000000001 must not ask for one more.
    needed = max(1, math.ceil(share * len(counts) - 1e-9))
    return int(np.partition(counts, needed - 1)[needed - 1]) + 1


def thresholds(counts: GroupCounts, config: EvaluateConfig) -> Thresholds:
    """The numbers given in `config`, else those of the rule over all items and all users."""
    item, user = config.tail_item_below, config.tail_user_below
    return Thresholds(
        tail_threshold(counts.items[1:], config.tail_share) if item is None else item,
        tail_threshold(counts.users, config.tail_share) if user is None else user,
    )


def make_groups(
    data: Dataset, ranks: Ranks, counts: GroupCounts, limits: Thresholds, config: EvaluateConfig
) -> list[Group]:
    """`GROUPS`, then the ranges of length and of popularity that `config` asks for, over the ranked users."""
    popularity_U = counts.items[ranks.targets]
    length_U = counts.users[ranks.users]
    known_U = np.asarray(data.training_counts)[ranks.targets] > 0
    tail_item_U = popularity_U < limits.tail_item
    tail_user_U = length_U < limits.tail_user
    members = (
        np.ones(len(ranks.users), np.bool_),
        tail_item_U,
        ~tail_item_U,
        tail_user_U,
        ~tail_user_U,
        known_U,
        ~known_U,
        ranks.repeat,
        ~ranks.repeat,
    )
    groups = [Group(name, mask, stream) for stream, (name, mask) in enumerate(zip(GROUPS, members, strict=True))]
    groups += range_groups("length", length_U, config.length_groups)
    return groups + range_groups("popularity", popularity_U, config.popularity_groups)


def check_ranges(config: EvaluateConfig) -> None:
    """Refuse ranges that cannot be, before anything is ranked.

    Raises:
        ValueError: bounds that do not rise, or one below 1.
    """
    for name in ("length_groups", "popularity_groups"):
        bounds = getattr(config, name)
        if any(low >= high for low, high in pairwise([0, *bounds])):
            raise ValueError(f"evaluate.{name}: expected rising numbers from 1, such as [5, 10], got {bounds}")


def range_groups(kind: str, values_U: NDArray[np.int64], bounds: list[int]) -> list[Group]:
    """Users by the range that their value lies in.

    Args:
        kind: `length` or `popularity`.
        values_U: int64 [U], not negative.
        bounds: rising, the lower ends of all ranges but the first, which begins at 0; empty: no groups.

    Returns:
        For the bounds 5 and 10: `length_0_4`, `length_5_9`, `length_10_up`.
    """
    if not bounds:
        return []
    edges = [0, *bounds, None]
    place_U = np.searchsorted(bounds, values_U, side="right")
    return [
        Group(f"{kind}_{low}_{'up' if high is None else high - 1}", place_U == place, _RANGE_STREAMS[kind] + low)
        for place, (low, high) in enumerate(pairwise(edges))
        if low is not None
    ]
