"""GRU4Rec (Hidasi et al., 2016): a gated recurrent unit over each sequence, without bias as in the authors' code.

Shapes: V views, T tokens, S sequences, D width.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from llm_esr.attention import Tokens
from llm_esr.config import ModelConfig
from llm_esr.loading.staging import to_device
from llm_esr.models.backbones.interface import Backbone


class GRU4Rec(Backbone):
    """The backbone: one recurrent layer.

    The sequences are flat, and the longest come first at each step of time, so that a step is a slice and nothing is
    computed for padding. (torch's PackedSequence gives the same numbers, with a slow gradient on the CPU.)
    """

    def __init__(self, config: ModelConfig) -> None:
        super().__init__(config)
        width = config.width
        self.drops_inputs = config.block != "paper"  # the authors' GRU4Rec has no dropout
        # The order of the three gates and the names are those of torch.nn.GRU.
        self.weight_ih = nn.Parameter(torch.empty(3 * width, width))
        self.weight_hh = nn.Parameter(torch.empty(3 * width, width))

    def forward(self, x_VTD: Tensor, tokens: Tokens, last_only: bool = False) -> Tensor:
        """[V, T, D] -> [V, T, D]; with `last_only` the newest tokens' outputs alone, [V, S, D]."""
        # Hundreds of steps of a state in half precision would add up their rounding.
        with torch.autocast(x_VTD.device.type, enabled=False):
            return self._recurrence(x_VTD.to(self.weight_ih.dtype), tokens, last_only)

    def _recurrence(self, x_VTD: Tensor, tokens: Tokens, last_only: bool) -> Tensor:
        n_views, _, width = x_VTD.shape
        if tokens.row_width is not None:
            rows = x_VTD.reshape(-1, tokens.row_width, width)
            start = rows.new_zeros(1, len(rows), width)
            weights: list[Tensor] = [self.weight_ih, self.weight_hh]
            all_states, _ = torch.gru(rows, start, weights, False, 1, 0.0, self.training, False, True)
            states_VTD = all_states.reshape(x_VTD.shape)
            return states_VTD.index_select(1, tokens.last_S) if last_only else states_VTD
        order, counts = _by_time(tokens.lengths)
        order_T = to_device(order, x_VTD.device)
        gates_VTG = x_VTD.index_select(1, order_T) @ self.weight_ih.T
        state_VSD = x_VTD.new_zeros(n_views, counts[0], width)
        states = []
        for gates_VSG in torch.split(gates_VTG, counts, dim=1):
            state_VSD = self.step(gates_VSG, state_VSD[:, : gates_VSG.shape[1]])
            states.append(state_VSD)
        place = np.empty_like(order)
        place[order] = np.arange(len(order))
        place_T = to_device(place, x_VTD.device)
        wanted = place_T.index_select(0, tokens.last_S) if last_only else place_T
        return torch.cat(states, dim=1).index_select(1, wanted)

    def step(self, gates_VSG: Tensor, state_VSD: Tensor) -> Tensor:
        """One item more: its inputs to the three gates, [V, S, 3D], and the states so far -> the states, [V, S, D]."""
        reset_i, update_i, new_i = gates_VSG.chunk(3, dim=2)
        reset_h, update_h, new_h = (state_VSD @ self.weight_hh.T).chunk(3, dim=2)
        reset, update = torch.sigmoid(reset_i + reset_h), torch.sigmoid(update_i + update_h)
        new = torch.tanh(new_i + reset * new_h)
        return torch.lerp(new, state_VSD, update)

    def empty_state(self) -> Tensor:
        """The state before any item, [D]: zero."""
        return self.weight_hh.new_zeros(self.weight_hh.shape[1])


def _by_time(lengths_S: NDArray[np.int64]) -> tuple[NDArray[np.int64], list[int]]:
    """Tokens ordered by their place in the sequence, longer sequences first; and how many each place has."""
    start_S = lengths_S.cumsum() - lengths_S
    rank_S = np.argsort(-lengths_S, kind="stable")
    falling_S, start_S = lengths_S[rank_S], start_S[rank_S]
    time_L = np.arange(falling_S[0])
    there_LS = falling_S[None, :] > time_L[:, None]
    return (start_S[None, :] + time_L[:, None])[there_LS], there_LS.sum(1).tolist()
