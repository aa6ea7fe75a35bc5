"""Where a student's teachers come from: the batch (live), or states of all users that are refreshed now and then.

Shapes: U users, B students, K similar users, C channels of all views.

Live teachers are encoded with the weights of this very step (the paper). Stored ones lag behind, and cost one pass over
all users a refresh in place of K sequences a student a step.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from llm_esr.config import Config
from llm_esr.models.encoder import SequentialEncoder
from llm_esr.training.losses import mean_teacher

if TYPE_CHECKING:
    from llm_esr.data import Dataset

_CHUNK = 2048  # users that are encoded at once


class StoredTeachers:
    """The user vectors of everybody, as of the last refresh.

    Args:
        data: training sequences and similar users.
        config: `distill.similar_users`, `distill.refresh_steps` and `train.sequence` are read.

    Attributes:
        states_UC: `u_last` of each user; None before the first refresh.

    """

    def __init__(self, data: Dataset, config: Config) -> None:
        assert data.similar_users is not None, "the caller has looked"
        self.data = data
        self.similar_UK = data.similar_users[:, : config.distill.similar_users]
        self.every = config.distill.refresh_steps
        self.without_last = config.train.sequence == "without-last"
        self.teaches_U = np.asarray(data.training_lengths) > 0
        self.states_UC: Tensor | None = None

    def due(self, step_in_epoch: int) -> bool:
        """Whether a step of an epoch begins with a refresh."""
        return step_in_epoch == 0 if self.every is None else step_in_epoch % self.every == 0

    @torch.no_grad()
    def refresh(self, model: SequentialEncoder) -> None:
        """Encode every user with the weights of `model`, without dropout."""
        was_training = model.training
        model.eval()
        parts = []
        for start in range(0, self.data.n_users, _CHUNK):
            users = np.arange(start, min(start + _CHUNK, self.data.n_users))
            parts.append(model.encode(model.sequences(*self._histories(users))).float())
        model.train(was_training)
        self.states_UC = torch.cat(parts)

    def of(self, users_B: NDArray[np.int64]) -> tuple[Tensor, NDArray[np.bool_]]:
        """The mean teacher of each student, [B, C], and who has one, [B]."""
        assert self.states_UC is not None, "refresh comes first"
        index_BK = np.asarray(self.similar_UK[users_B], dtype=np.int64)
        index_BK[~self.teaches_U[np.maximum(index_BK, 0)]] = -1
        return mean_teacher(self.states_UC, index_BK)

    def _histories(self, users: NDArray[np.int64]) -> tuple[NDArray[np.int32], NDArray[np.int64]]:
        items, offsets = self.data.histories(users, "train")
        if not self.without_last:
            return items, offsets
        kept = np.ones(len(items), np.bool_)
        kept[offsets[1:][np.diff(offsets) > 0] - 1] = False
        return items[kept], np.concatenate([[0], np.cumsum(np.maximum(np.diff(offsets) - 1, 0))])
