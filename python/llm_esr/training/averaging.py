"""Averaged weights: an exponential moving average of a model's parameters, used for evaluation."""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn


class AveragedModel:
    """A copy of a model whose weights follow the original's.

    After update t the copy keeps `min(decay, (1 + t) / (10 + t))` of itself, so that it forgets where it started.
    """

    def __init__(self, model: nn.Module, decay: float) -> None:
        self.decay = decay
        self.updates = 0
        # Frozen tables (the text embeddings) are shared, not copied.
        shared = {id(buffer): buffer for buffer in model.buffers()}
        self.model = copy.deepcopy(model, shared).eval().requires_grad_(False)
        self._pairs = list(zip(self.model.parameters(), model.parameters(), strict=True))

    @torch.no_grad()
    def update(self) -> None:
        """Move every averaged weight towards the current one."""
        self.updates += 1
        keep = min(self.decay, (1 + self.updates) / (10 + self.updates))
        averaged: list[Tensor] = [pair[0] for pair in self._pairs]
        current: list[Tensor] = [pair[1].detach() for pair in self._pairs]
        torch._foreach_lerp_(averaged, current, 1 - keep)
