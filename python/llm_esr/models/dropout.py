"""Dropout whose random numbers cost a fraction of the step.

torch's dropout on the CPU draws a 64-bit number for each entry, which is 40 % of a training step of this size. Sixteen
random bits are enough for one: the rate is rounded to a multiple of 2^-16, and what is kept is scaled by the rounded
rate, so that the expectation is exact. The bits come from torch's own generator, so they are reproducible, and a
checkpoint holds their state.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

_LEVELS = 1 << 16


def dropout_mask(x: Tensor, rate: float) -> Tensor:
    """What `x` is multiplied with: 0 with probability `rate`, else 1 / (1 - rate); shape and type of `x`."""
    if x.device.type != "cpu":
        return F.dropout(torch.ones_like(x), rate)
    dropped = min(round(rate * _LEVELS), _LEVELS - 1)
    words = torch.empty((x.numel() + 3) // 4, dtype=torch.int64).random_(-(2**63), None)
    bits = words.view(torch.int16)[: x.numel()].view(x.shape)
    return (bits >= dropped - _LEVELS // 2).to(x.dtype).mul_(_LEVELS / (_LEVELS - dropped))


def dropout(x: Tensor, rate: float) -> Tensor:
    """`x` with each entry dropped at `rate`, the rest scaled up; for training."""
    return x if rate == 0 else x * dropout_mask(x, rate)


class Dropout(nn.Module):
    """As `torch.nn.Dropout`: active in training alone."""

    def __init__(self, rate: float) -> None:
        super().__init__()
        self.rate = rate

    def forward(self, x: Tensor) -> Tensor:
        """Any shape."""
        return dropout(x, self.rate) if self.training else x
