"""The baseline that stands in every table: the items met most often."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from llm_esr.data.counts import input_counts

if TYPE_CHECKING:
    from llm_esr.data import Dataset
    from llm_esr.data.dataset import Part


class Popularity:
    """Scores each item by how often it was met, for everybody alike. Equal counts are ties.

    Args:
        data: the data set.
        part: what is counted: all users' inputs for this part. `train`, the default: the training parts alone;
            `test`: train and validation.
    """

    name = "popularity"

    def __init__(self, data: Dataset, part: Part = "train") -> None:
        self._counts_I = torch.from_numpy(np.asarray(input_counts(data, part)[1:], dtype=np.float32))

    def scores(self, items: NDArray[np.int32], offsets: NDArray[np.int64]) -> Tensor:
        """See `Scorer.scores`; the histories do not matter, and may be empty."""
        return self._counts_I.expand(len(offsets) - 1, -1)
