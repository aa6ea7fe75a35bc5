"""Where a student's teachers come from: the batch (live), or states of all users that are refreshed now and then.

Shapes: U users, B students, K similar users, Z unique teachers, C channels of all views.

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
from llm_esr.loading.staging import send
from llm_esr.models import SequentialEncoder
from llm_esr.retrieval import scores_match
from llm_esr.training.forward import Forward
from llm_esr.training.losses import Mixture, mean_teacher

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

    def mixture(self, batch: Batch) -> Mixture | None:
        """What the step's mean teachers are mixed from, in memory; None where the step has no teachers."""
        ...

    def mean_of(self, forward: Forward, mixture: Mixture) -> Tensor:
        """The mean teachers of the step's students, [B, C], without gradients."""
        ...

    def state(self) -> dict[str, Tensor]:
        """What a checkpoint keeps."""
        ...

    def load_state(self, tensors: dict[str, Tensor], device: torch.device) -> None:
        """Put back what `state` gave."""
        ...


class SimilarityWeights:
    """What each similar user weighs among a student's teachers: softmax(cosine / temperature) over those it has.

    Args:
        data: with `similar_users_scores.npy`.
        config: `distill.similar_users` and `distill.teacher_temperature` are read.

    Raises:
        FileNotFoundError: no cosines are stored.
        ValueError: they are those of other similar users.

    """

    def __init__(self, data: Dataset, config: Config) -> None:
        self.temperature = config.distill.teacher_temperature
        self.cosines_UK = teacher_cosines(data)[:, : config.distill.similar_users]

    def __call__(self, users_B: NDArray[np.int64], has_BK: NDArray[np.bool_]) -> NDArray[np.float32]:
        """Weights [B, K] of the teachers that `has_BK` names; they add up to 1 where there is any."""
        logits_BK = np.where(has_BK, np.asarray(self.cosines_UK[users_B], np.float64) / self.temperature, -np.inf)
        highest_B1 = logits_BK.max(axis=1, keepdims=True, initial=-np.inf)
        weights_BK = np.exp(logits_BK - np.where(np.isfinite(highest_B1), highest_B1, 0.0))
        total_B1 = weights_BK.sum(axis=1, keepdims=True)
        made: NDArray[np.float32] = (weights_BK / np.where(total_B1 > 0, total_B1, 1.0)).astype(np.float32)
        return made


def teacher_cosines(data: Dataset) -> NDArray[np.float32]:
    """The stored cosines of a data set's similar users, [U, K].

    Raises:
        FileNotFoundError: there are none.
        ValueError: they are those of other similar users.

    """
    cosines_UK = data.similar_users_scores
    if cosines_UK is None:
        raise FileNotFoundError(
            f"{data.folder} has no similar_users_scores.npy, which distill.teacher_weights similarity reads; run "
            "`llm-esr index` again, or set distill.teacher_weights=even"
        )
    similar_UK = data.similar_users
    if similar_UK is None or similar_UK.shape != cosines_UK.shape or not scores_match(data):
        raise ValueError(
            f"{data.folder}/similar_users_scores.npy holds cosines of other similar users than similar_users.npy has; "
            "run `llm-esr index` again"
        )
    return cosines_UK


class LiveTeachers:
    """Similar users that come with the batch; each unique one is encoded once, without gradients.

    Args:
        dropout: whether teachers have dropout in training, as in the authors' code.
        weights: what each weighs in the mean; None: all the same.

    """

    in_batch = True

    def __init__(self, *, dropout: bool, weights: SimilarityWeights | None = None) -> None:
        self.dropout, self.weights = dropout, weights

    def before_step(self, batch: Batch, evaluated: Callable[[], SequentialEncoder]) -> None:
        """Nothing: they are encoded within the step."""

    def mixture(self, batch: Batch) -> Mixture | None:
        """See `Teachers`."""
        index_BK = batch.teacher_index
        if batch.teachers is None or index_BK is None or not len(batch.teachers):
            return None
        return Mixture.of(index_BK, None if self.weights is None else self.weights(batch.users, index_BK >= 0))

    def mean_of(self, forward: Forward, mixture: Mixture) -> Tensor:
        """See `Teachers`."""
        return mixture.mean(self._encoded(forward.model, forward.teacher_states))

    def encode(self, model: SequentialEncoder, batch: Batch) -> MeanTeachers:
        """The mean teachers of a batch."""
        teachers, index_BK = batch.teachers, batch.teacher_index
        assert teachers is not None and index_BK is not None
        states_ZC = self._encoded(model, lambda: model.last_states(teachers))
        weights_BK = None if self.weights is None else self.weights(batch.users, index_BK >= 0)
        return mean_teacher(states_ZC, index_BK, weights_BK)

    @torch.no_grad()
    def _encoded(self, model: SequentialEncoder, encode: Callable[[], Tensor]) -> Tensor:
        was_training = model.training
        model.train(was_training and self.dropout)
        states_ZC = encode()
        model.train(was_training)
        return states_ZC

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
        weights: what each teacher weighs in the mean; None: all the same.

    Attributes:
        states_UC: `u_last` of each user; None before the first refresh.

    """

    in_batch = False

    def __init__(self, data: Dataset, config: Config, weights: SimilarityWeights | None = None) -> None:
        assert data.similar_users is not None, "the caller has looked"
        self.data, self.weights = data, weights
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

    def mixture(self, batch: Batch) -> Mixture:
        """See `Teachers`."""
        return self.mixture_of_users(batch.users)

    def mean_of(self, forward: Forward, mixture: Mixture) -> Tensor:
        """See `Teachers`."""
        assert self.states_UC is not None, "refresh comes first"
        return mixture.mean(self.states_UC)

    def mean_of_users(self, users_B: NDArray[np.int64]) -> MeanTeachers:
        """The mean teacher of each of some users, [B, C], and which have one, [B]."""
        assert self.states_UC is not None, "refresh comes first"
        mixture = send(self.mixture_of_users(users_B), self.states_UC.device)
        return mixture.mean(self.states_UC), mixture.has_teacher_S

    def mixture_of_users(self, users_B: NDArray[np.int64]) -> Mixture:
        """What the mean teacher of each of some users is mixed from."""
        index_BK = np.asarray(self.similar_UK[users_B], dtype=np.int64)
        index_BK[~self.has_items_U[np.maximum(index_BK, 0)]] = -1
        weights_BK = None if self.weights is None else self.weights(users_B, index_BK >= 0)
        return Mixture.of(index_BK, weights_BK)

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
    """What `distill.teachers` and `distill.teacher_weights` name.

    Raises:
        ValueError: what has to be looked up in a data set, without one.

    """
    settings = config.distill
    if data is None and (settings.teachers == "stored" or settings.teacher_weights == "similarity"):
        raise ValueError(
            f"distill.teachers {settings.teachers} with weights {settings.teacher_weights} are looked up in a data "
            "set: TermData.data is needed"
        )
    weights = None
    if settings.teacher_weights == "similarity":
        assert data is not None
        weights = SimilarityWeights(data, config)
    if settings.teachers == "live":
        return LiveTeachers(dropout=settings.teacher_dropout, weights=weights)
    assert data is not None
    return StoredTeachers(data, config, weights)
