"""The baseline that stands in every table: the items met most often in training."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

if TYPE_CHECKING:
    from llm_esr.data import Dataset


class Popularity:
    """Scores each item by its count in the training parts, for everybody alike. Equal counts are ties."""

    name = "popularity"

    def __init__(self, data: Dataset) -> None:
        self._counts_I = torch.from_numpy(np.asarray(data.training_counts[1:], dtype=np.float32))

    def scores(self, items: NDArray[np.int32], offsets: NDArray[np.int64]) -> Tensor:
        """See `Scorer.scores`; the histories do not matter, and may be empty."""
        return self._counts_I.expand(len(offsets) - 1, -1)
