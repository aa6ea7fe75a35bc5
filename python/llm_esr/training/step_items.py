"""The items that a step meets, each once: found in memory while the device is still busy with the step before.

Shapes: T tokens, M tokens with a target, N negatives, Z tokens of teachers, C channels of all views.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from llm_esr import _native
from llm_esr.loading.staging import to_device
from llm_esr.models.encoder import SequentialEncoder

if TYPE_CHECKING:
    from llm_esr.loading import Batch


@dataclass(frozen=True)
class StepItems:
    """The distinct items of a step, and where each item that it meets stands among them.

    Attributes:
        students_n: distinct items of students, targets and negatives, int64 [n].
        teachers_m: what teachers meet beside them, int64 [m].
        targeted_M: students' tokens with a target, int64 [M].
        targets_M: their targets, int64 [M].
        negatives_N: int64, [N] or [M, N].
        place_T: each student token's item among `students_n`, int64 [T].
        place_M: each target's, int64 [M].
        place_N: each negative's, as `negatives_N`.
        place_Z: each teacher token's among `students_n` and `teachers_m` together; None without teachers.

    """

    students_n: Tensor
    teachers_m: Tensor
    targeted_M: Tensor
    targets_M: Tensor
    negatives_N: Tensor
    place_T: Tensor
    place_M: Tensor
    place_N: Tensor
    place_Z: Tensor | None

    @staticmethod
    def of(batch: Batch, *, distil: bool, device: torch.device) -> StepItems:
        """Found in memory, then brought to the device, with the teachers' items where there are any and `distil`."""
        students, negatives = batch.students, batch.negatives
        targeted = np.flatnonzero(students.targets)
        targets = students.targets[targeted]
        groups = [[students.items, targets, negatives.reshape(-1)], []]
        if distil and batch.teachers is not None and len(batch.teachers):
            groups[1].append(batch.teachers.items)
        ids, (own, _), (place_T, place_M, place_N, *place_Z) = _native.distinct_items(groups)
        return StepItems(
            students_n=to_device(ids[:own], device),
            teachers_m=to_device(ids[own:], device),
            targeted_M=to_device(targeted, device),
            targets_M=to_device(targets.astype(np.int64), device),
            negatives_N=to_device(negatives.astype(np.int64), device),
            place_T=to_device(place_T, device),
            place_M=to_device(place_M, device),
            place_N=to_device(place_N.reshape(negatives.shape), device),
            place_Z=to_device(place_Z[0], device) if place_Z else None,
        )

    @torch.no_grad()
    def teacher_vectors(self, model: SequentialEncoder, vectors_nC: Tensor) -> Tensor:
        """Item vectors of the teachers' tokens, without gradients."""
        assert self.place_Z is not None
        return F.embedding(self.place_Z, torch.cat([vectors_nC.detach(), model.item_vectors(self.teachers_m)]))
