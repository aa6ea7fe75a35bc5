"""What a scorer by who met what says of an item that nobody met: what it says of the nearest items by text.

    score(x) = sum_j w_xj score(j),   w_x = softmax(cosine_x / tau)

over the lenders j of an item x that training never met: those of its nearest items by text that training did meet. It
is the rule of `model.borrow`, for scores. Without it such an item has the lowest score of every history, and a blend in
which these scorers weigh much never shows it.

Shapes: S histories, T items of all of them, I items, U items that training never met, J lenders of one.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, runtime_checkable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from llm_esr.models.views.borrowing import BorrowedRows
from llm_esr.scoring.scorer import Scorer

if TYPE_CHECKING:
    from llm_esr.data import Dataset

LENDERS = 10
TEMPERATURE = 0.1  # as `model.borrow_temperature`


@dataclass(frozen=True)
class Lenders:
    """Who speaks for the items that training never met.

    Attributes:
        unmet: their columns, id - 1, int64 [U]; those without a lender are left out.
        columns: of their lenders, int64 [U, J].
        shares: what each gives, float32 [U, J]; a row adds up to 1.

    """

    unmet: Tensor
    columns: Tensor
    shares: Tensor

    @staticmethod
    def of(data: Dataset) -> Lenders | None:
        """Those of a data set; None where every item was met, or nothing is known of who is near."""
        counts_I = np.asarray(data.training_counts)[1:]
        neighbours, cosines = data.similar_items, data.similar_items_scores
        if counts_I.all() or neighbours is None or cosines is None:
            return None
        unmet = np.flatnonzero(counts_I == 0)
        # The table has a row before the items and one behind them; its first column is the item itself.
        lent = BorrowedRows.from_neighbours(
            np.asarray(neighbours[:, :LENDERS]), np.asarray(cosines[:, :LENDERS]), counts_I, 1.0, TEMPERATURE
        )
        rows_UJ, shares_UJ = lent.rows[unmet + 1, 1:], lent.shares[unmet + 1, 1:]
        finds_U = shares_UJ.sum(dim=1) > 0
        return Lenders(torch.from_numpy(unmet)[finds_U], rows_UJ[finds_U] - 1, shares_UJ[finds_U])

    def lends_to(self, item: int) -> bool:
        """Whether an item's scores are lent."""
        return bool((self.unmet == item - 1).any())

    def lend(self, scores_SI: Tensor) -> Tensor:
        """The scores, in which an unmet item has those of its lenders; the others' are as they were."""
        lent_SU = torch.zeros(len(scores_SI), len(self.unmet), dtype=scores_SI.dtype)
        for columns_U, shares_U in zip(self.columns.T, self.shares.T, strict=True):
            lent_SU.addcmul_(scores_SI.index_select(1, columns_U), shares_U)
        return scores_SI.index_copy(1, self.unmet, lent_SU)


@runtime_checkable
class KnowsReasons(Scorer, Protocol):
    """A scorer that tells which items of a history speak for an item."""

    def by_item(self, history: NDArray[np.int32], item: int) -> list[tuple[int, float]]:
        """The items of a history that speak for an item and what each adds, most first."""
        ...


class LentScores:
    """A scorer whose unmet items have the scores of their lenders.

    Args:
        scorer: gives scores on the CPU, by who met what.
        lenders: see `Lenders.of`.

    """

    def __init__(self, scorer: KnowsReasons, lenders: Lenders) -> None:
        self.scorer, self.lenders = scorer, lenders
        self.name = scorer.name

    def scores(self, items: NDArray[np.int32], offsets: NDArray[np.int64]) -> Tensor:
        """See `Scorer.scores`."""
        return self.lenders.lend(self.scorer.scores(items, offsets))

    def by_item(self, history: NDArray[np.int32], item: int) -> list[tuple[int, float]]:
        """The items of a history that speak for an item, or for its lenders, and what each adds, most first."""
        place = (self.lenders.unmet == item - 1).nonzero()
        if not len(place):
            return self.scorer.by_item(history, item)
        row = int(place[0, 0])
        found: dict[int, float] = {}
        for column, share in zip(self.lenders.columns[row].tolist(), self.lenders.shares[row].tolist(), strict=True):
            for number, value in self.scorer.by_item(history, column + 1) if share else ():
                found[number] = found.get(number, 0.0) + share * value
        return sorted(found.items(), key=lambda pair: -pair[1])
