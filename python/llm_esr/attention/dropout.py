"""Dropout whose random numbers cost a fraction of the step.

torch's dropout on the CPU draws a 64-bit number for each entry, which is 40 % of a training step of this size, and
keeps a mask for the gradient. Ours is one pass of a Rust kernel on the CPU: an entry takes as many random bits as its
rate has (one for a half), a function of a seed and the entry's place, and they are made again for the gradient. The
rate is rounded to a multiple of 2^-16, and what is kept is scaled by the rounded rate, so that the expectation is
exact. The seed comes from torch's own generator: all is reproducible on any number of threads, and a checkpoint holds
its state.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from llm_esr import _native


class _Dropped(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, rate: float, seed: int) -> Tensor:
        ctx.rate, ctx.seed = rate, seed
        return _left(x, rate, seed)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:
        return _left(gradients[0], ctx.rate, ctx.seed), None, None


def _left(x: Tensor, rate: float, seed: int) -> Tensor:
    x = x.detach().contiguous()
    left = torch.empty_like(x)
    _native.drop_out(x.view(-1).numpy(), left.view(-1).numpy(), rate, seed, torch.get_num_threads())
    return left


def seed_of_step() -> int:
    """A seed from torch's generator, whose state a checkpoint holds."""
    return int(torch.empty((), dtype=torch.int64).random_())


def dropout(x: Tensor, rate: float) -> Tensor:
    """`x` with each entry dropped at `rate`, the rest scaled up; for training.

    Other devices and precisions than float32 on the CPU take torch's.
    """
    if rate == 0:
        return x
    if x.device.type != "cpu" or x.dtype != torch.float32:
        return F.dropout(x, rate)
    left: Tensor = _Dropped.apply(x, rate, seed_of_step())
    return left


class Dropout(nn.Module):
    """As `torch.nn.Dropout`: active in training alone."""

    def __init__(self, rate: float) -> None:
        super().__init__()
        self.rate = rate

    def forward(self, x: Tensor) -> Tensor:
        """Any shape."""
        return dropout(x, self.rate) if self.training else x
