"""A model that stands still for a moment: no dropout, no gradients."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from llm_esr.models import SequentialEncoder


def standing_still(model: SequentialEncoder, encode: Callable[[], Tensor]) -> Tensor:
    """What `encode` gives without dropout and gradients."""
    was_training = model.training
    model.eval()
    with torch.no_grad():
        states_SC = encode()
    model.train(was_training)
    return states_SC
