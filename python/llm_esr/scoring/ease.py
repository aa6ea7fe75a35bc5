"""EASE (Steck 2019, arXiv 1905.03375): the linear item-to-item model with a closed form.

    B = I - P diag(1 / diag(P)),  P = (X'X + lambda I)^-1,   score sum_(j <= 20) .9^j B[j-th newest, x]

X is the binary matrix of users and items of the training parts; a row keeps its largest positive entries. The inverse
is dense, so time grows with the catalogue's cube and memory with its square: for catalogues up to `MOST_ITEMS`.

Shapes: U users, I items, W entries of a table's row.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, ClassVar

import numpy as np
import torch
from scipy import sparse
from torch import Tensor

from llm_esr.scoring.neighbours import CountedNeighbours, DecayedSum
from llm_esr.scoring.stored_tables import Table

if TYPE_CHECKING:
    from llm_esr.data import Dataset
    from llm_esr.data.dataset import Part

MOST_ITEMS = 20_000
_LAMBDA = 300.0
_ROWS = 1024  # rows of the table that are sifted at once


class Ease(CountedNeighbours):
    """What a linear model of all other items of a history predicts.

    Args:
        data: the data set.
        part: not read: training parts alone.

    Raises:
        ValueError: more than `MOST_ITEMS` items.
    """

    name = "ease"
    sum: ClassVar[DecayedSum] = DecayedSum(decay=0.9, newest=20)
    settings: ClassVar[Mapping[str, float]] = {"lambda": _LAMBDA}

    def __init__(self, data: Dataset, part: Part = "train") -> None:
        if data.n_items > MOST_ITEMS:
            raise ValueError(
                f"the scorer ease inverts a matrix of items by items, which is kept to {MOST_ITEMS:,} items; "
                f"{data.folder} has {data.n_items:,}. Take co-occurrence, or leave ease out of blend.scorers"
            )
        super().__init__(data, part)

    def _count(self, data: Dataset, width: int) -> Table:
        weights_II = ease_weights(met_together(data), _LAMBDA)
        ids_IW = np.zeros((data.n_items, width), np.int32)
        values_IW = np.zeros((data.n_items, width), np.float32)
        for start in range(0, data.n_items, _ROWS):
            # A stable sort: equal entries go by id.
            values, columns = (-weights_II[start : start + _ROWS]).sort(dim=1, stable=True)
            kept = -values[:, :width].numpy()
            ids_IW[start : start + _ROWS] = np.where(kept > 0, columns[:, :width].numpy() + 1, 0)
            values_IW[start : start + _ROWS] = np.maximum(kept, 0)
        return ids_IW, values_IW


def met_together(data: Dataset) -> Tensor:
    """X'X: how many users met both of two items in training, float32 [I, I]."""
    items, offsets = data.histories(np.arange(data.n_users), "train")
    met_UI = sparse.csr_array((np.ones(len(items), np.float32), items - 1, offsets), shape=(data.n_users, data.n_items))
    met_UI.sum_duplicates()
    met_UI.data.fill(1)
    return torch.from_numpy((met_UI.T @ met_UI).toarray())


def ease_weights(together_II: Tensor, weight: float) -> Tensor:
    """B of the formula above, float32 [I, I]; its argument is overwritten."""
    together_II.diagonal().add_(weight)
    inverse_II = torch.cholesky_inverse(torch.linalg.cholesky(together_II))
    diagonal_I = inverse_II.diagonal().clone()
    weights_II = inverse_II.div_(-diagonal_I)
    weights_II.fill_diagonal_(0)
    return weights_II
