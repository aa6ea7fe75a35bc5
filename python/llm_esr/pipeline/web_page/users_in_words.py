"""Example users for the page: what each met, what the model lists, and where the held-out item stands in it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from llm_esr.serving.ids import external_id

if TYPE_CHECKING:
    from llm_esr.data import Dataset
    from llm_esr.serving import Recommender

_SHARES = (0.05, 0.35, 0.65, 0.95)  # of the users, by the length of their history: from somebody new to somebody busy
_SHOWN = 5


@dataclass(frozen=True)
class Listed:
    """A recommended item, and whether it is the one that was held out."""

    title: str
    is_target: bool


@dataclass(frozen=True)
class UserInWords:
    """One user.

    Attributes:
        user_id: as in the tables.
        earlier: items before those that are shown.
        met: titles, oldest first.
        target: what was held out.
        listed: the first of the model's list, made without it.

    """

    user_id: str
    earlier: int
    met: list[str]
    target: str
    listed: list[Listed]


def example_users(model: Recommender, data: Dataset) -> list[UserInWords]:
    """Four users with a test item, from a short history to a long one."""
    targets = np.asarray(data.targets("test"))
    having = np.flatnonzero(targets > 0)
    if not len(having):
        return []
    lengths = np.asarray([len(data.history(int(user), "test")) for user in having[:50_000]])
    order = having[: len(lengths)][np.argsort(lengths, kind="stable")]
    chosen = dict.fromkeys(int(order[int(share * (len(order) - 1))]) for share in _SHARES)
    titles, ids = data.titles() or data.item_ids, data.item_ids
    found = []
    for user in chosen:
        history = data.history(user, "test").tolist()
        target = int(targets[user])
        lists = model.recommend(histories=[[ids[item - 1] for item in history]], k=_SHOWN)
        listed = [data.item_index[external_id(item)] for item in lists["item_id"].to_list()]
        found.append(
            UserInWords(
                data.user_ids[user],
                max(len(history) - _SHOWN, 0),
                [titles[item - 1] for item in history[-_SHOWN:]],
                titles[target - 1],
                [Listed(titles[item - 1], item == target) for item in listed],
            )
        )
    return found
