"""The network's scorer: a user vector times the matrix of all items.

Shapes: S histories, T items of all of them, I items, C channels of a user vector.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from llm_esr.scoring.scorer import Scorer, reads_at_most, take_histories

if TYPE_CHECKING:
    from llm_esr.data import Dataset
    from llm_esr.data.dataset import Part

_USERS_AT_ONCE = 4096  # users whose vectors are made at once
_ENCODE_CHUNK = 512  # histories encoded at once: a few tens of thousands of tokens


class SequenceModel(Protocol):
    """The part of a model that scoring needs; `llm_esr.models.SequentialEncoder` has it.

    One that cuts histories tells its length as `max_len` (see `llm_esr.scoring.scorer.ReadsNewest`).
    """

    training: bool

    def sequences(self, items: NDArray[np.int32], offsets: NDArray[np.int64]) -> Any:
        """Histories, as of `Scorer.scores`, cut and laid out as the model reads them."""
        ...

    def encode(self, sequences: Any) -> Tensor:
        """What `sequences` gave -> the user vectors, [S, C]."""
        ...

    def item_matrix(self) -> Tensor:
        """All items' vectors, [I, C], row = id - 1."""
        ...

    def train(self, mode: bool = True) -> Any:
        """Switch dropout on or off."""
        ...


class NetworkScorer:
    """A network as a `Scorer`: histories are cut to the model's length, encoded, and multiplied with all items.

    The item matrix is computed once and kept until `refresh`, which must follow every change of the weights;
    `evaluate` and `quick_ndcg` call it themselves.

    Args:
        model: encodes sequences and gives the item matrix.
        name: what tables call it.
        device: where scores are computed; None: where the model's item matrix is.
        fallback: scores histories without any item; without one they are a `ValueError`.
    """

    def __init__(
        self,
        model: SequenceModel,
        name: str,
        device: torch.device | str | None = None,
        fallback: Scorer | None = None,
    ) -> None:
        self.model = model
        self.name = name
        self.device = device
        self.fallback = fallback
        self._items_CI: Tensor | None = None

    @property
    def max_len(self) -> int | None:
        """The newest items that the network reads."""
        return reads_at_most(self.model)

    def refresh(self) -> None:
        """Forget the item matrix: the next call computes it anew."""
        self._items_CI = None

    def scores(self, items: NDArray[np.int32], offsets: NDArray[np.int64]) -> Tensor:
        """See `Scorer.scores`. The model's training mode is left as it was found."""
        empty_S = np.diff(offsets) == 0
        if empty_S.any() and self.fallback is None:
            raise ValueError(
                f"{int(empty_S.sum())} of {len(empty_S)} histories are empty and {self.name} needs at least one item; "
                "leave them out, or give NetworkScorer a fallback such as Popularity(data)"
            )
        kept = np.flatnonzero(~empty_S)
        with torch.inference_mode():
            items_CI = self.item_vectors().T
            users_SC = self._encoded(items, offsets, kept)
            if users_SC is None:
                scores_SI = items_CI.new_empty(len(empty_S), items_CI.shape[1])
            else:
                scores_SI = users_SC.to(items_CI.device) @ items_CI
        if not empty_S.any():
            return scores_SI
        assert self.fallback is not None
        whole_SI = scores_SI.new_empty(len(empty_S), scores_SI.shape[1])
        empty = np.flatnonzero(empty_S)
        if len(kept):
            whole_SI[torch.from_numpy(kept).to(whole_SI.device)] = scores_SI
        popular_SI = self.fallback.scores(np.empty(0, np.int32), np.zeros(len(empty) + 1, np.int64))
        whole_SI[torch.from_numpy(empty).to(whole_SI.device)] = popular_SI.to(whole_SI)
        return whole_SI

    def item_vectors(self) -> Tensor:
        """All items' vectors, [I, C], row = id - 1; computed once and kept until `refresh`."""
        if self._items_CI is None:
            with torch.inference_mode(), _evaluating(self.model):
                matrix_IC = self.model.item_matrix().float()
                self._items_CI = matrix_IC.to(self.device or matrix_IC.device).T
        return self._items_CI.T

    def all_user_vectors(self, data: Dataset, part: Part) -> NDArray[np.float32]:
        """`user_vectors` of every user's inputs for a part, [U, C], in memory."""
        vectors_UC = np.zeros((data.n_users, self.item_vectors().shape[1]), np.float32)
        for start in range(0, data.n_users, _USERS_AT_ONCE):
            users = np.arange(start, min(start + _USERS_AT_ONCE, data.n_users))
            vectors_UC[users] = self.user_vectors(*data.histories(users, part)).cpu().numpy()
        return vectors_UC

    def user_vectors(self, items: NDArray[np.int32], offsets: NDArray[np.int64]) -> Tensor:
        """The vectors of histories, [S, C], that the item vectors are multiplied with; zeros where a history is empty.

        Args:
            items: as of `Scorer.scores`.
            offsets: as of `Scorer.scores`.

        """
        kept = np.flatnonzero(np.diff(offsets) > 0)
        with torch.inference_mode():
            found = self._encoded(items, offsets, kept)
            width = self.item_vectors().shape[1]
            if found is None:
                return torch.zeros(len(offsets) - 1, width)
            whole_SC = found.new_zeros(len(offsets) - 1, width)
            whole_SC[torch.from_numpy(kept).to(whole_SC.device)] = found
            return whole_SC

    def _encoded(self, items: NDArray[np.int32], offsets: NDArray[np.int64], rows: NDArray[np.int64]) -> Tensor | None:
        """The vectors of some of the histories, by `rows`; None where there is none. The mode is left as it was."""
        vectors = []
        with _evaluating(self.model):
            for start in range(0, len(rows), _ENCODE_CHUNK):
                part = take_histories(items, offsets, rows[start : start + _ENCODE_CHUNK])
                vectors.append(self.model.encode(self.model.sequences(*part)).float())
        return torch.cat(vectors) if vectors else None


@contextmanager
def _evaluating(model: SequenceModel) -> Iterator[None]:
    if isinstance(model, torch.nn.Module) and not any(module.training for module in model.modules()):
        yield  # as every model that serves: setting the mode of each part would take as long as a small layer
        return
    was_training = model.training
    model.train(False)
    try:
        yield
    finally:
        model.train(was_training)
