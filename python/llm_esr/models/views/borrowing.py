"""Borrowed rows: a rare item's collaborative vector is mixed from those of its nearest items by text.

    vector_i = (1 - a_i) row_i + a_i sum_j w_ij row_j,   a_i = borrow / (borrow + n_i),   w_i = softmax(cosine_i / tau)

over the lenders j of item i, those of its nearest items that training met, and its training count n_i. A rare item
stands on its lenders, a frequent one on itself; an item that training never met has a usable vector at once, and lends
none, since its own row has learnt nothing. Gradients reach the lenders' rows.

Shapes: I items, J lenders of an item, n some items, D width of the model.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

BUFFERS = ("borrowed_rows", "borrowed_shares")  # their names in a module that keeps them


@dataclass(frozen=True)
class BorrowedRows:
    """What each item's vector is mixed from.

    Attributes:
        rows: int64 [I + 2, 1 + J], row numbers of the item table: the item's own, then its lenders'.
        shares: float32 [I + 2, 1 + J], what each gives; a row of shares adds up to 1, or is zero for an item that
            training never met and to which nobody lends.

    """

    rows: Tensor
    shares: Tensor

    @staticmethod
    def from_neighbours(
        neighbours_IJ: NDArray[np.int32],
        cosines_IJ: NDArray[np.float32],
        counts_I: NDArray[Any],
        borrow: float,
        temperature: float,
    ) -> BorrowedRows:
        """The mixture of each item.

        Args:
            neighbours_IJ: ids of each item's nearest items by text, -1 where there are fewer.
            cosines_IJ: their cosines.
            counts_I: how often training met each item.
            borrow: the count at which an item takes half of its vector from its lenders.
            temperature: of the softmax over the lenders.

        """
        n_items = len(neighbours_IJ)
        counts_I = np.asarray(counts_I, dtype=np.float64)
        lends_I = np.concatenate([[False], counts_I > 0])
        known_IJ = lends_I[np.maximum(neighbours_IJ, 0)]
        scaled_IJ = np.where(known_IJ, np.asarray(cosines_IJ, dtype=np.float64) / temperature, -np.inf)
        highest_I1 = np.where(known_IJ.any(axis=1), scaled_IJ.max(axis=1, initial=-np.inf), 0.0)[:, None]
        weights_IJ = np.exp(scaled_IJ - highest_I1)
        total_I1 = weights_IJ.sum(axis=1, keepdims=True)
        lent_I1 = np.where(total_I1 > 0, borrow / (borrow + counts_I[:, None]), 0.0)
        shares = np.zeros((n_items + 2, 1 + neighbours_IJ.shape[1]), np.float32)
        shares[:, 0] = 1.0
        shares[1:-1, :1] -= lent_I1
        shares[1:-1, 0][counts_I == 0] = 0.0  # who met nothing and finds no lender has a vector of zeros
        shares[1:-1, 1:] = lent_I1 * weights_IJ / np.where(total_I1 > 0, total_I1, 1.0)
        rows = np.repeat(np.arange(n_items + 2, dtype=np.int64)[:, None], shares.shape[1], axis=1)
        rows[1:-1, 1:] = np.where(known_IJ, neighbours_IJ, rows[1:-1, 1:])
        return BorrowedRows(torch.from_numpy(rows), torch.from_numpy(shares))

    @staticmethod
    def empty(rows: int, width: int) -> BorrowedRows:
        """Room for a stored model's: `rows` = I + 2, `width` = 1 + J."""
        return BorrowedRows(torch.zeros(rows, width, dtype=torch.int64), torch.zeros(rows, width))

    def keep_in(self, module: nn.Module) -> None:
        """Store both as buffers of a module, so that they are part of its weights."""
        module.register_buffer("borrowed_rows", self.rows)
        module.register_buffer("borrowed_shares", self.shares)


def mixed_rows(items_n: Tensor, table: nn.Embedding, rows: Tensor, shares: Tensor) -> Tensor:
    """The vectors of some items, [n, D], mixed from the table's rows."""
    mixed_nD: Tensor = F.embedding_bag(
        rows.index_select(0, items_n),
        table.weight,
        per_sample_weights=shares.index_select(0, items_n).to(table.weight.dtype),
        mode="sum",
        sparse=table.sparse,
    )
    return mixed_nD
