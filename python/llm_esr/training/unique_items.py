"""The unique items of a step: found in memory while the device is still busy with the step before.

Shapes: n unique items, T tokens, M tokens with a target, N negatives, Z tokens of teachers, C channels of all views.
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
from llm_esr.models import SequentialEncoder

if TYPE_CHECKING:
    from llm_esr.loading import Batch


@dataclass(frozen=True)
class UniqueItems:
    """The unique items of a step, and the inverse indices of everything that it reads.

    Attributes:
        students_n: unique items of students, targets and negatives, int64 [n].
        teachers_m: further unique items of teachers, int64 [m].
        targeted_M: students' tokens with a target, int64 [M].
        targets_M: their targets, int64 [M].
        negatives_N: int64, [N] or [M, N].
        inverse_T: index of each student token's item in `students_n`, int64 [T].
        inverse_M: of each target, int64 [M].
        inverse_N: of each negative, as `negatives_N`.
        inverse_Z: of each teacher token, in `students_n` followed by `teachers_m`; None without teachers.

    """

    students_n: Tensor
    teachers_m: Tensor
    targeted_M: Tensor
    targets_M: Tensor
    negatives_N: Tensor
    inverse_T: Tensor
    inverse_M: Tensor
    inverse_N: Tensor
    inverse_Z: Tensor | None

    @staticmethod
    def of(batch: Batch, *, teachers: bool, device: torch.device) -> UniqueItems:
        """Found in memory, then brought to the device.

        Args:
            batch: one step's inputs.
            teachers: whether the batch's teachers are encoded in this step.
            device: the model's.

        """
        students, negatives = batch.students, batch.negatives
        targeted = np.flatnonzero(students.targets)
        targets = students.targets[targeted]
        groups = [[students.items, targets, negatives.reshape(-1)], []]
        if teachers and batch.teachers is not None and len(batch.teachers):
            groups[1].append(batch.teachers.items)
        ids, (own, _), (inverse_T, inverse_M, inverse_N, *inverse_Z) = _native.unique_items(groups)
        return UniqueItems(
            students_n=to_device(ids[:own], device),
            teachers_m=to_device(ids[own:], device),
            targeted_M=to_device(targeted, device),
            targets_M=to_device(targets.astype(np.int64), device),
            negatives_N=to_device(negatives.astype(np.int64), device),
            inverse_T=to_device(inverse_T, device),
            inverse_M=to_device(inverse_M, device),
            inverse_N=to_device(inverse_N.reshape(negatives.shape), device),
            inverse_Z=to_device(inverse_Z[0], device) if inverse_Z else None,
        )

    @staticmethod
    def whole(batch: Batch, n_items: int, *, teachers: bool, device: torch.device) -> UniqueItems:
        """All items of the catalogue in place of those of the step, by id; padding and mask tokens where they occur.

        Args:
            batch: one step's inputs; its negatives are not read.
            n_items: I.
            teachers: whether the batch's teachers are encoded in this step.
            device: the model's.

        """
        students = batch.students
        targeted = np.flatnonzero(students.targets)
        inverses = [students.items]
        if teachers and batch.teachers is not None and len(batch.teachers):
            inverses.append(batch.teachers.items)
        ids = np.arange(1, n_items + 1, dtype=np.int64)
        # What is no item goes behind the items: they keep their places, id - 1.
        others = np.unique(np.concatenate([part[(part < 1) | (part > n_items)] for part in inverses])).astype(np.int64)
        place = np.concatenate([np.zeros(1, np.int64), np.arange(n_items + 1)])
        place[others] = n_items + np.arange(len(others))
        nothing = torch.empty(0, dtype=torch.int64, device=device)
        targets = to_device(students.targets[targeted].astype(np.int64), device)
        return UniqueItems(
            students_n=to_device(np.concatenate([ids, others]), device),
            teachers_m=nothing,
            targeted_M=to_device(targeted, device),
            targets_M=targets,
            negatives_N=nothing,
            inverse_T=to_device(place[students.items], device),
            inverse_M=targets - 1,
            inverse_N=nothing,
            inverse_Z=to_device(place[inverses[1]], device) if len(inverses) > 1 else None,
        )

    @torch.no_grad()
    def teacher_vectors(self, model: SequentialEncoder, vectors_nC: Tensor) -> Tensor:
        """Item vectors of the teachers' tokens, [Z, C], without gradients."""
        assert self.inverse_Z is not None
        return F.embedding(self.inverse_Z, torch.cat([vectors_nC.detach(), model.item_vectors(self.teachers_m)]))
