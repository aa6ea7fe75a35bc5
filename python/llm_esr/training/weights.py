"""What a training changes: its model, the averaged one, and the optimizer's state."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch

from llm_esr.models import SequentialEncoder


@dataclass(frozen=True)
class Weights:
    """What a loss term may rewrite before an epoch (`Term.before_epoch`).

    Attributes:
        model: what is trained.
        evaluated: gives the averaged model, or `model` where there is none.
        optimizer: its state is by parameter.

    """

    model: SequentialEncoder
    evaluated: Callable[[], SequentialEncoder]
    optimizer: torch.optim.Optimizer
