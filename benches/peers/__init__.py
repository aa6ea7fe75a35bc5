"""What ours is measured against, written here in the style of those it stands for.

Loaders give `Dense` batches: what a model that reads left-padded rows takes.
Shapes: B students, L positions, K similar users.
"""

from __future__ import annotations

from dataclasses import dataclass, fields

import torch


@dataclass(frozen=True)
class Dense:
    """One batch, 0 where there is nothing.

    Attributes:
        users: [B].
        items: the newest L items of each student, oldest first, [B, L].
        positions: 1, 2, ... from the oldest item shown, [B, L].
        targets: the next item; none at the newest place, [B, L].
        negatives: one item a target that the student never met, [B, L].
        teacher_items: of each student's similar users, [B, K, L]; None: without similar users.
        teacher_positions: likewise.

    """

    users: torch.Tensor
    items: torch.Tensor
    positions: torch.Tensor
    targets: torch.Tensor
    negatives: torch.Tensor
    teacher_items: torch.Tensor | None = None
    teacher_positions: torch.Tensor | None = None

    def to(self, device: str) -> Dense:
        """The same batch on another device."""
        arrays = [getattr(self, field.name) for field in fields(self)]
        return Dense(*(None if array is None else array.to(device) for array in arrays))
