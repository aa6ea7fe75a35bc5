"""What the user branch and the item branch have in common.

Shapes: n head users or items of a step, S sequences, C channels of all views.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from llm_esr.loading.contexts import Flat
from llm_esr.loading.staging import to_device
from llm_esr.models import SequentialEncoder


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
    was_training = model.training
    model.eval()
    with torch.no_grad():
        states_SC = encoded(model, histories)
    model.train(was_training)
    return states_SC


def squared_distance(mapped_nC: Tensor, target_nC: Tensor, weights_n: NDArray[np.float64] | None) -> Tensor:
    """The mean over rows and channels of weight x (mapped - target)^2, a scalar; None: all weights 1."""
    squares_nC = (mapped_nC - target_nC) ** 2
    if weights_n is None:
        return squares_nC.mean()
    kind = np.float32 if squares_nC.dtype != torch.float64 else np.float64
    return (squares_nC * to_device(weights_n.astype(kind), squares_nC.device)[:, None]).mean()
