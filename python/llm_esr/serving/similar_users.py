"""A user and its similar users in words: what each met in training, and how near they are."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from llm_esr.serving.ids import external_id, ids_in, unknown_message

if TYPE_CHECKING:
    from llm_esr.data import Dataset


@dataclass(frozen=True)
class MetItem:
    """An item of a training sequence.

    Attributes:
        item_id: its external id.
        title: None where the items have none.
        shared: whether the user that is explained met it in training, too.

    """

    item_id: str
    title: str | None
    shared: bool


@dataclass(frozen=True)
class UserInWords:
    """A user and what it met in training.

    Attributes:
        user_id: its external id.
        items: the training sequence, oldest first.
        cosine: with the user that is explained; None for that user itself, and where no cosines are stored.

    """

    user_id: str
    items: list[MetItem]
    cosine: float | None = None


def user_number(data: Dataset, user: Any) -> int:
    """The number of a user, by its external id.

    Raises:
        ValueError: an unknown user (near ones are suggested).

    """
    (name,) = ids_in(data, "user", [external_id(user)])
    if name not in data.user_index:
        raise ValueError(unknown_message("user", [name], data.user_index))
    return data.user_index[name]


def similar_users_in_words(data: Dataset, user: Any, k: int = 5) -> list[UserInWords]:
    """A user, and then its k most similar users as the stage `index` stored them; fewer where there are fewer.

    Args:
        data: with `similar_users.npy`.
        user: an external id.
        k: similar users.

    Raises:
        ValueError: an unknown user (near ones are suggested).
        FileNotFoundError: no similar users are stored.

    """
    number = user_number(data, user)
    similar_UK, cosines_UK = data.similar_users, data.similar_users_scores
    if similar_UK is None:
        raise FileNotFoundError(f"{data.folder}/similar_users.npy does not exist; run `llm-esr index` first")
    titles = data.titles()
    own = set(data.history(number, "train").tolist())

    def in_words(other: int, cosine: float | None) -> UserInWords:
        met = data.history(other, "train").tolist()
        items = [
            MetItem(data.item_ids[item - 1], None if titles is None else titles[item - 1], item in own) for item in met
        ]
        return UserInWords(data.user_ids[other], items, cosine)

    found = [in_words(number, None)]
    for place, other in enumerate(similar_UK[number, :k].tolist()):
        if other >= 0:
            found.append(in_words(other, None if cosines_UK is None else float(cosines_UK[number, place])))
    return found
