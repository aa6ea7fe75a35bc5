"""The contrastive loss whose targets are soft: how alike the rows of a batch are among themselves.

Shapes: B rows, D wide.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F


def soft_targets(x_BD: Tensor, y_BD: Tensor, temperature: Tensor | float) -> Tensor:
    """`softmax((Y Yᵀ + X Xᵀ) / 2 * temperature)` by rows, `[B, B]`."""
    return ((y_BD @ y_BD.T + x_BD @ x_BD.T) / 2 * temperature).softmax(dim=1)


def soft_target_loss(x_BD: Tensor, y_BD: Tensor, temperature: Tensor | float) -> Tensor:
    """Symmetric cross entropy of `X Yᵀ / temperature` with soft targets, as in LLMEmb's code (arXiv 2409.19925).

    Gradients flow through the targets too, those of `temperature` included. The transposed targets serve the other
    direction as they are, though their rows do not sum to 1.

    Args:
        x_BD: first vectors of B pairs, of any length.
        y_BD: second vectors.
        temperature: a positive number, or a scalar tensor that may be trained.

    Returns:
        The mean over rows, a scalar.
    """
    logits_BB = x_BD @ y_BD.T / temperature
    targets_BB = soft_targets(x_BD, y_BD, temperature)
    rows = -(targets_BB * F.log_softmax(logits_BB, dim=1)).sum(dim=1)
    columns = -(targets_BB.T * F.log_softmax(logits_BB.T, dim=1)).sum(dim=1)
    return ((rows + columns) / 2).mean()


def masked_infonce(x_BD: Tensor, y_BD: Tensor, temperature: Tensor | float, false_BB: Tensor) -> Tensor:
    """Symmetric InfoNCE on unit vectors; what is no true negative takes no part.

    Args:
        x_BD: first vectors of B pairs, brought to unit length here.
        y_BD: second vectors.
        temperature: what cosines are divided by.
        false_BB: bool; True where row i and column j say the same and are no negatives of each other.

    Returns:
        The mean over rows and both directions, a scalar.
    """
    logits_BB = F.normalize(x_BD, dim=1) @ F.normalize(y_BD, dim=1).T / temperature
    pairs = torch.arange(len(x_BD), device=x_BD.device)
    others = false_BB & (pairs[:, None] != pairs)
    logits_BB = logits_BB.masked_fill(others, float("-inf"))
    return (F.cross_entropy(logits_BB, pairs) + F.cross_entropy(logits_BB.T, pairs)) / 2
