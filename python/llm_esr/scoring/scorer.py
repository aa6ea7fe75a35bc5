"""A scorer turns histories into scores of the whole catalogue; whatever is evaluated and served is one.

Shapes: S histories, T items of all of them, I items.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol, runtime_checkable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

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


@runtime_checkable
class ReadsNewest(Protocol):
    """A scorer, or a network, that tells how much of a history it reads."""

    @property
    def max_len(self) -> int | None:
        """The newest items that are read; None: all of them."""
        ...


def reads_at_most(scorer: object) -> int | None:
    """How many of a history's newest items a scorer or a network reads; None: all of them, or it does not tell."""
    return scorer.max_len if isinstance(scorer, ReadsNewest) else None


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
