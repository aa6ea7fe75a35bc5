"""The two maps of MELT (SIGIR 2023, docs/melt.md): from a short history to a long one, from contexts to an item's row.

    tail user:  f(S) + T_U(f(S))          tail item:  q_i <- T_I(mean over contexts of f(C) + T_U(f(C)))

Shapes: S sequences, C channels of all views, D width.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from llm_esr.config import ModelConfig


class Transfer(nn.Module):
    """T_U, C -> C, and T_I, C -> D.

    Drawing them leaves torch's generator as it was, so that a model with maps of no weight trains as one without.

    Args:
        config: `model.width`, `model.transfer_init` and the views are read.
        channels: C.

    """

    tail_user: Tensor

    def __init__(self, config: ModelConfig, channels: int) -> None:
        super().__init__()
        with torch.random.fork_rng(devices=[]):
            self.users = nn.Linear(channels, channels)
            self.items = nn.Linear(channels, config.width)
            with torch.no_grad():
                self._start(config)
        # Histories of so many items or fewer are scored as tail users'; training sets it, and weights carry it.
        self.register_buffer("tail_user", torch.tensor(-1.0))

    def _start(self, config: ModelConfig) -> None:
        if config.transfer_init == "drawn":
            for layer in (self.users, self.items):
                nn.init.xavier_normal_(layer.weight)
            return
        for layer in (self.users, self.items):
            nn.init.zeros_(layer.weight)
            nn.init.zeros_(layer.bias)
        first = 0 if config.fusion == "sum" else config.views.index("collaborative") * config.width
        nn.init.eye_(self.items.weight[:, first : first + config.width])

    def drawn(self) -> list[Tensor]:
        """All weights: they are initialised here."""
        return list(self.parameters())

    def enhanced(self, states_SC: Tensor) -> Tensor:
        """States with what the user map adds, [S, C]."""
        added_SC: Tensor = self.users(states_SC)
        return states_SC + added_SC

    def scored(self, states_SC: Tensor, lengths_S: NDArray[np.int64]) -> Tensor:
        """User vectors, [S, C]: enhanced where the history has the length of a tail user's."""
        tail_S = torch.from_numpy(lengths_S).to(states_SC.device) <= self.tail_user
        return torch.where(tail_S[:, None], self.enhanced(states_SC), states_SC)
