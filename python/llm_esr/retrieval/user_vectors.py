"""What users are compared by: their text vectors, what a trained model makes of their histories, or both.

Shapes: U users, B users of a chunk, K similar users, E width of the text vectors, C channels of a model's user vectors.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from llm_esr.config import IndexConfig
from llm_esr.files.memory import refuse_beyond_memory

_ROWS = 8192  # rows that are scaled at once
_NUMBERS = 1 << 23  # of gathered vectors, 64 MB


@dataclass(frozen=True)
class UserVectors:
    """User vectors of a trained model, computed when they are asked for and not before.

    Attributes:
        source: what they are made from, as a checksum; neighbours are fresh as long as it stays.
        compute: gives them, float [U, C]; row = user.

    """

    source: str
    compute: Callable[[], NDArray[Any]]


def given_user_vectors(
    given: NDArray[Any] | UserVectors | None, config: IndexConfig, n_users: int
) -> UserVectors | None:
    """What `index` was given as `collaborative`, held against what its settings read.

    Raises:
        ValueError: no vectors where the settings compare them, vectors that the settings do not read, or an array that
            is none of user vectors.

    """
    if config.users_by == "text":
        if given is not None:
            raise ValueError(
                "user vectors of a model were given and index.users_by is text, which does not read them; set it to "
                "collaborative or both"
            )
        return None
    if given is None:
        raise ValueError(
            f"index.users_by is {config.users_by}, which compares the user vectors of a trained model, and none were "
            "given: name the model with `llm-esr index --model FOLDER`, in Python pass "
            "collaborative=Recommender.load(FOLDER).user_vectors()"
        )
    if isinstance(given, UserVectors):
        return given
    array = np.ascontiguousarray(checked(np.asarray(given), n_users))
    digest = hashlib.sha256(f"{array.dtype.str} {array.shape} ".encode())
    digest.update(array.tobytes())
    return UserVectors(digest.hexdigest(), lambda: array)


def checked(vectors: NDArray[Any], n_users: int) -> NDArray[Any]:
    """A model's user vectors, float16 or float32 [U, C].

    Raises:
        ValueError: another shape or kind of numbers.

    """
    if vectors.ndim != 2 or len(vectors) != n_users or vectors.dtype.kind != "f":
        raise ValueError(
            f"collaborative holds {vectors.dtype} {vectors.shape}; expected floats [{n_users}, C], a row for each user "
            "of the data set in their order, as Recommender.user_vectors gives them"
        )
    return vectors if vectors.dtype in (np.float16, np.float32) else vectors.astype(np.float32)


def side_by_side(one_UE: NDArray[Any], other_UC: NDArray[Any]) -> NDArray[np.float32]:
    """Both vectors of each user at unit length, one behind the other, float32 [U, E + C].

    The cosine of two users is then the mean of their two cosines. Whose vector is zero on one side is compared by the
    other side; the missing one takes from its cosines as if it were at a right angle.
    """
    rows, width = len(one_UE), one_UE.shape[1] + other_UC.shape[1]
    refuse_beyond_memory(4 * rows * width, f"{rows:,} user vectors, {width:,} wide,", "take text or collaborative")
    made = np.empty((rows, width), np.float32)
    for start in range(0, rows, _ROWS):
        part = slice(start, start + _ROWS)
        made[part, : one_UE.shape[1]] = _at_unit_length(one_UE[part])
        made[part, one_UE.shape[1] :] = _at_unit_length(other_UC[part])
    return made


def cosines_of(vectors_UE: NDArray[Any], similar_UK: NDArray[np.int32]) -> NDArray[np.float32]:
    """The cosines of users with similar users that were found elsewhere, float32 [U, K]; 0 where the id is -1."""
    found = np.zeros(similar_UK.shape, np.float32)
    rows = max(1, _NUMBERS // max(1, similar_UK.shape[1] * vectors_UE.shape[1]))
    for start in range(0, len(similar_UK), rows):
        part = slice(start, start + rows)
        users_BE = _at_unit_length(vectors_UE[part])
        others_BKE = _at_unit_length(vectors_UE[np.maximum(similar_UK[part], 0)])
        found[part] = np.where(similar_UK[part] < 0, 0, np.einsum("be,bke->bk", users_BE, others_BKE))
    return found


def _at_unit_length(vectors: NDArray[Any]) -> NDArray[np.float64]:
    wide = np.asarray(vectors, np.float64)
    lengths = np.linalg.norm(wide, axis=-1, keepdims=True)
    with np.errstate(invalid="ignore"):  # what is not finite is refused with its row where neighbours are searched
        return wide / np.where(lengths > 0, lengths, 1.0)
