"""What can be evaluated and served: anything that turns histories into scores of the whole catalogue.

Shapes: S histories, T items of all of them, I items, C channels of a user vector.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

_ENCODE_CHUNK = 512  # histories encoded at once: a few tens of thousands of tokens
SCORE_BUDGET = 1 << 21  # scores held at once: 8 MiB of float32, which stay near the processor
FEWEST = 16  # histories at once, whatever the budget: a product of fewer reads the whole catalogue for little


class Scorer(Protocol):
    """Scores every item for each of some histories."""

    name: str

    def scores(self, items: NDArray[np.int32], offsets: NDArray[np.int64]) -> Tensor:
        """Scores of all items.

        Args:
            items: int32 [T], the histories' item ids (1..I), one history after another, oldest first.
            offsets: int64 [S + 1], where each history starts; a history may be empty.

        Returns:
            float32 [S, I], column = id - 1, on any device. More is better; NaN is an error.
        """
        ...


class SequenceModel(Protocol):
    """The part of a model that scoring needs; `llm_esr.models.SequentialEncoder` has it."""

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


class ModelScorer:
    """A model as a `Scorer`: histories are cut to the model's length, encoded, and multiplied with all items.

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

    def refresh(self) -> None:
        """Forget the item matrix: the next call computes it anew."""
        self._items_CI = None

    def scores(self, items: NDArray[np.int32], offsets: NDArray[np.int64]) -> Tensor:
        """See `Scorer.scores`. The model's training mode is left as it was found."""
        empty_S = np.diff(offsets) == 0
        if empty_S.any() and self.fallback is None:
            raise ValueError(
                f"{int(empty_S.sum())} of {len(empty_S)} histories are empty and {self.name} needs at least one item; "
                "leave them out, or give ModelScorer a fallback such as Popularity(data)"
            )
        kept = np.flatnonzero(~empty_S)
        with torch.inference_mode(), _evaluating(self.model):
            if self._items_CI is None:
                matrix_IC = self.model.item_matrix().float()
                self._items_CI = matrix_IC.to(self.device or matrix_IC.device).T
            vectors = []
            for start in range(0, len(kept), _ENCODE_CHUNK):
                part = take_histories(items, offsets, kept[start : start + _ENCODE_CHUNK])
                vectors.append(self.model.encode(self.model.sequences(*part)).float())
            if not vectors:
                scores_SI = self._items_CI.new_empty(len(empty_S), self._items_CI.shape[1])
            else:
                scores_SI = torch.cat(vectors).to(self._items_CI.device) @ self._items_CI
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


def take_histories(
    items: NDArray[np.int32], offsets: NDArray[np.int64], rows: NDArray[np.int64]
) -> tuple[NDArray[np.int32], NDArray[np.int64]]:
    """Some of the histories, in the order of `rows`: (items, offsets)."""
    lengths = (offsets[1:] - offsets[:-1])[rows]
    taken = np.concatenate([np.zeros(1, np.int64), np.cumsum(lengths)])
    places = np.repeat(offsets[rows] - taken[:-1], lengths) + np.arange(taken[-1])
    return items[places], taken


def refresh(scorer: Scorer) -> None:
    """Let a scorer forget what it keeps from earlier weights, where it keeps anything."""
    forget = getattr(scorer, "refresh", None)
    if forget is not None:
        forget()


def scores_of(scorer: Scorer, items: NDArray[np.int32], offsets: NDArray[np.int64], n_items: int) -> Tensor:
    """Scores [S, I] of a scorer, or a `ValueError` about their shape. They may hold NaN: see `refuse_nan`."""
    scores_SI = scorer.scores(items, offsets)
    expected = (len(offsets) - 1, n_items)
    if tuple(scores_SI.shape) != expected:
        raise ValueError(f"scorer {scorer.name} gave scores of shape {tuple(scores_SI.shape)}, expected {expected}")
    return scores_SI


def refuse_nan(scorer: Scorer, scores_SI: Tensor) -> None:
    """A `ValueError` where a row of scores holds a NaN."""
    # One sum instead of a mask of every entry; +inf and -inf together make a NaN too, so look closer before judging.
    if bool(torch.isnan(scores_SI.sum())):
        bad_S = torch.isnan(scores_SI).any(dim=1)
        if bool(bad_S.any()):
            raise ValueError(
                f"scorer {scorer.name} gave NaN for {int(bad_S.sum())} of {len(bad_S)} histories (the first: "
                f"row {int(bad_S.nonzero()[0, 0])} of its chunk); ranks of NaN mean nothing. Did the training diverge? "
                "Try a lower train.learning_rate or a train.clip_norm"
            )


def chunks(users: NDArray[np.int64], n_items: int) -> Iterator[slice]:
    """Slices of `users`, each small enough that scores of the whole catalogue fit the budget."""
    size = max(FEWEST, min(4096, SCORE_BUDGET // max(1, n_items)))
    for start in range(0, len(users), size):
        yield slice(start, min(start + size, len(users)))


@contextmanager
def _evaluating(model: SequenceModel) -> Iterator[None]:
    was_training = model.training
    model.train(False)
    try:
        yield
    finally:
        model.train(was_training)
