"""Sampled candidates for comparison with papers that do not rank the whole catalogue."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from llm_esr._native import Store
from llm_esr.loading.sequences import at_least, integers

if TYPE_CHECKING:
    from llm_esr.data import Dataset


def sample_candidates(
    data: Dataset, part: Literal["validation", "test"], n: int, seed: int, users: ArrayLike | None = None
) -> NDArray[np.int32]:
    """Draw `n` distinct items for each user, uniformly from what the user never met.

    As in the paper, validation leaves out training and validation items (the test item may be drawn), test leaves
    out everything. A user's candidates depend on the seed, the part and the user alone.

    Args:
        data: the prepared data.
        part: `validation` or `test`.
        n: candidates beside the target.
        seed: names the draws.
        users: user numbers, [B]; default: all with a target in `part`, by rising number.

    Returns:
        Item ids, int32 [B, n].

    Raises:
        ValueError: an unknown part, or a user who met so much that fewer than `n` items are left.

    """
    if users is None:
        users = np.flatnonzero(np.asarray(data.targets(part)) > 0)
    chosen = integers("users", users, np.int64)
    return Store(data.folder, data.n_items).sample_candidates(
        chosen, part, at_least("n", n, 1), at_least("seed", seed, 0)
    )
