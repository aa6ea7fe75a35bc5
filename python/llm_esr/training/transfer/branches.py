"""What the user branch and the item branch have in common.

Shapes: n head users or items of a step, S sequences, C channels of all views.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from llm_esr.loading.contexts import Flat
from llm_esr.models import SequentialEncoder
from llm_esr.training.still import standing_still


def progress_of(epoch: int, epochs: int) -> float:
    """The share of the training that is over."""
    return epoch / epochs


def encoded(model: SequentialEncoder, histories: Flat) -> Tensor:
    """The state of each history's newest item, [S, C]."""
    return model.last_states(model.sequences(*histories))


def target_states(model: SequentialEncoder, histories: Flat, *, stands_still: bool) -> Tensor:
    """As `encoded`; what `stands_still` has neither dropout nor gradients."""
    if not stands_still:
        return encoded(model, histories)
    return standing_still(model, lambda: encoded(model, histories))


def squared_distance(mapped_nC: Tensor, target_nC: Tensor, weights_n: Tensor | None) -> Tensor:
    """The mean over rows and channels of weight x (mapped - target)^2, a scalar; None: all weights 1."""
    squares_nC = (mapped_nC - target_nC) ** 2
    if weights_n is None:
        return squares_nC.mean()
    return (squares_nC * weights_n[:, None]).mean()


def weights_for(model: SequentialEncoder, weights_n: NDArray[np.float64] | None) -> Tensor | None:
    """Weights as `squared_distance` takes them, in memory: float32, but where the model has double precision."""
    if weights_n is None:
        return None
    kind = np.float64 if model.positions.weight.dtype == torch.float64 else np.float32
    return torch.from_numpy(weights_n.astype(kind))
