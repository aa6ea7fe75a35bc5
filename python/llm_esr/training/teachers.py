"""Where a student's teachers come from: the batch (live), or states of all users that are refreshed now and then.

Shapes: U users, B students, K similar users, C channels of all views.

Live teachers are encoded with the weights of this very step (the paper). Stored ones lag behind, and cost one pass over
all users a refresh in place of K sequences a student a step.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from llm_esr.config import Config
from llm_esr.models import SequentialEncoder
from llm_esr.training.forward import Forward
from llm_esr.training.losses import mean_teacher

if TYPE_CHECKING:
    from llm_esr.data import Dataset
    from llm_esr.loading import Batch

_CHUNK = 2048  # users that are encoded at once

# The mean teacher of each student, [B, C], and which students have one, bool [B].
MeanTeachers = tuple[Tensor, NDArray[np.bool_]]


class Teachers(Protocol):
    """Gives the mean teacher of each student of a step.

    Attributes:
        in_batch: whether the loader has to bring the teachers' sequences.

    """

    in_batch: bool

    def before_step(self, batch: Batch, evaluated: Callable[[], SequentialEncoder]) -> None:
        """Called before each step's forward pass; `evaluated` gives the model that is evaluated."""
        ...

    def mean_of(self, forward: Forward) -> MeanTeachers | None:
        """The mean teachers of the step's students, without gradients; None where the step has no teachers."""
        ...

    def state(self) -> dict[str, Tensor]:
        """What a checkpoint keeps."""
        ...

    def load_state(self, tensors: dict[str, Tensor], device: torch.device) -> None:
        """Put back what `state` gave."""
        ...


class LiveTeachers:
    """Similar users that come with the batch; each unique one is encoded once, without gradients.

    Args:
        dropout: whether teachers have dropout in training, as in the authors' code.

    """

    in_batch = True

    def __init__(self, *, dropout: bool) -> None:
        self.dropout = dropout

    def before_step(self, batch: Batch, evaluated: Callable[[], SequentialEncoder]) -> None:
        """Nothing: they are encoded within the step."""

    def mean_of(self, forward: Forward) -> MeanTeachers | None:
        """See `Teachers`."""
        vectors_ZC = forward.teacher_vectors()
        return None if vectors_ZC is None else self.encode(forward.model, forward.batch, vectors_ZC)

    @torch.no_grad()
    def encode(self, model: SequentialEncoder, batch: Batch, vectors_ZC: Tensor | None = None) -> MeanTeachers:
        """The mean teachers of a batch; `vectors_ZC`: the item vectors of their tokens, where they are known."""
        assert batch.teachers is not None and batch.teacher_index is not None
        was_training = model.training
        model.train(was_training and self.dropout)
        states_SC = model.last_states(batch.teachers, vectors_ZC)
        model.train(was_training)
        return mean_teacher(states_SC, batch.teacher_index)

    def state(self) -> dict[str, Tensor]:
        """Nothing."""
        return {}

    def load_state(self, tensors: dict[str, Tensor], device: torch.device) -> None:
        """Nothing."""


class StoredTeachers:
    """The user vectors of everybody, as of the last refresh.

    Args:
        data: training sequences and similar users.
        config: `distill.similar_users`, `distill.refresh_steps` and `train.sequence` are read.

    Attributes:
        states_UC: `u_last` of each user; None before the first refresh.

    """

    in_batch = False

    def __init__(self, data: Dataset, config: Config) -> None:
        assert data.similar_users is not None, "the caller has looked"
        self.data = data
        self.similar_UK = data.similar_users[:, : config.distill.similar_users]
        self.every = config.distill.refresh_steps
        self.without_last = config.train.sequence == "without-last"
        self.has_items_U = np.asarray(data.training_lengths) > 0
        self.states_UC: Tensor | None = None

    def before_step(self, batch: Batch, evaluated: Callable[[], SequentialEncoder]) -> None:
        """Refresh at the start of an epoch, or every `distill.refresh_steps` steps of it."""
        if batch.step == 0 if self.every is None else batch.step % self.every == 0:
            self.refresh(evaluated())

    @torch.no_grad()
    def refresh(self, model: SequentialEncoder) -> None:
        """Encode every user with the weights of `model`, without dropout."""
        was_training = model.training
        model.eval()
        parts = []
        for start in range(0, self.data.n_users, _CHUNK):
            users = np.arange(start, min(start + _CHUNK, self.data.n_users))
            parts.append(model.last_states(model.sequences(*self._histories(users))).float())
        model.train(was_training)
        self.states_UC = torch.cat(parts)

    def mean_of(self, forward: Forward) -> MeanTeachers:
        """See `Teachers`."""
        return self.mean_of_users(forward.batch.users)

    def mean_of_users(self, users_B: NDArray[np.int64]) -> MeanTeachers:
        """The mean teacher of each of some users, [B, C], and which have one, [B]."""
        assert self.states_UC is not None, "refresh comes first"
        index_BK = np.asarray(self.similar_UK[users_B], dtype=np.int64)
        index_BK[~self.has_items_U[np.maximum(index_BK, 0)]] = -1
        return mean_teacher(self.states_UC, index_BK)

    def state(self) -> dict[str, Tensor]:
        """The stored vectors."""
        return {} if self.states_UC is None else {"states": self.states_UC}

    def load_state(self, tensors: dict[str, Tensor], device: torch.device) -> None:
        """Put them back."""
        if "states" in tensors:
            self.states_UC = tensors["states"].to(device)

    def _histories(self, users: NDArray[np.int64]) -> tuple[NDArray[np.int32], NDArray[np.int64]]:
        items, offsets = self.data.histories(users, "train")
        if not self.without_last:
            return items, offsets
        kept = np.ones(len(items), np.bool_)
        kept[offsets[1:][np.diff(offsets) > 0] - 1] = False
        return items[kept], np.concatenate([[0], np.cumsum(np.maximum(np.diff(offsets) - 1, 0))])


def build_teachers(config: Config, data: Dataset | None) -> Teachers:
    """What `distill.teachers` names."""
    if config.distill.teachers == "live":
        return LiveTeachers(dropout=config.distill.teacher_dropout)
    assert data is not None, "stored teachers are looked up in a data set"
    return StoredTeachers(data, config)
