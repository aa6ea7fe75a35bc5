"""The unique items of a step: found in memory while the device is still busy with the step before.

Shapes: n unique items, T tokens, M tokens with a target, N negatives, Z tokens of teachers, C channels of all views.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from llm_esr import _native
from llm_esr.loading.staging import Staged, send
from llm_esr.models import SequentialEncoder

if TYPE_CHECKING:
    from llm_esr.loading import Batch


@dataclass(frozen=True)
class UniqueItems(Staged):
    """The unique items of a step, and the inverse indices of everything that it reads.

    Attributes:
        students_n: unique items of students, targets and negatives, int64 [n].
        teachers_m: further unique items of teachers, int64 [m].
        targeted_M: students' tokens with a target, int64 [M].
        targets_M: their targets, int64 [M].
        negatives_N: int64, [N] or [M, N].
        inverse_T: index of each student token's item in `students_n`, int64 [T]; of tokens read beside them, behind.
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
        """As `found`, on the model's device."""
        return send(UniqueItems.found(batch, teachers=teachers), device)

    @staticmethod
    def found(batch: Batch, *, teachers: bool, beside: Sequence[NDArray[np.int32]] = ()) -> UniqueItems:
        """Found in memory.

        Args:
            batch: one step's inputs.
            teachers: whether the batch's teachers are encoded in this step.
            beside: items of sequences that are read beside the students'.

        """
        students, negatives = batch.students, batch.negatives
        targeted = np.flatnonzero(students.targets)
        targets = students.targets[targeted]
        groups = [[_joined(students.items, beside), targets, negatives.reshape(-1)], []]
        if teachers and batch.teachers is not None and len(batch.teachers):
            groups[1].append(batch.teachers.items)
        ids, (own, _), (inverse_T, inverse_M, inverse_N, *inverse_Z) = _native.unique_items(groups)
        return UniqueItems(
            students_n=torch.from_numpy(ids[:own]),
            teachers_m=torch.from_numpy(ids[own:]),
            targeted_M=torch.from_numpy(targeted),
            targets_M=torch.from_numpy(targets.astype(np.int64)),
            negatives_N=torch.from_numpy(negatives.astype(np.int64)),
            inverse_T=torch.from_numpy(inverse_T),
            inverse_M=torch.from_numpy(inverse_M),
            inverse_N=torch.from_numpy(inverse_N.reshape(negatives.shape)),
            inverse_Z=torch.from_numpy(inverse_Z[0]) if inverse_Z else None,
        )

    @staticmethod
    def whole(batch: Batch, n_items: int, *, teachers: bool, device: torch.device) -> UniqueItems:
        """As `all_found`, on the model's device."""
        return send(UniqueItems.all_found(batch, n_items, teachers=teachers), device)

    @staticmethod
    def all_found(
        batch: Batch, n_items: int, *, teachers: bool, beside: Sequence[NDArray[np.int32]] = ()
    ) -> UniqueItems:
        """All items of the catalogue in place of those of the step, by id; padding and mask tokens where they occur.

        Args:
            batch: one step's inputs; its negatives are not read.
            n_items: I.
            teachers: whether the batch's teachers are encoded in this step.
            beside: items of sequences that are read beside the students'.

        """
        students = batch.students
        targeted = np.flatnonzero(students.targets)
        inverses = [_joined(students.items, beside)]
        if teachers and batch.teachers is not None and len(batch.teachers):
            inverses.append(batch.teachers.items)
        ids = np.arange(1, n_items + 1, dtype=np.int64)
        # What is no item goes behind the items: they keep their places, id - 1.
        others = np.unique(np.concatenate([part[(part < 1) | (part > n_items)] for part in inverses])).astype(np.int64)
        place = np.concatenate([np.zeros(1, np.int64), np.arange(n_items + 1)])
        place[others] = n_items + np.arange(len(others))
        nothing = torch.empty(0, dtype=torch.int64)
        targets = torch.from_numpy(students.targets[targeted].astype(np.int64))
        return UniqueItems(
            students_n=torch.from_numpy(np.concatenate([ids, others])),
            teachers_m=nothing,
            targeted_M=torch.from_numpy(targeted),
            targets_M=targets,
            negatives_N=nothing,
            inverse_T=torch.from_numpy(place[inverses[0]]),
            inverse_M=targets - 1,
            inverse_N=nothing,
            inverse_Z=torch.from_numpy(place[inverses[1]]) if len(inverses) > 1 else None,
        )

    @torch.no_grad()
    def teacher_vectors(self, model: SequentialEncoder, vectors_nC: Tensor) -> Tensor:
        """Item vectors of the teachers' tokens, [Z, C], without gradients."""
        assert self.inverse_Z is not None
        return F.embedding(self.inverse_Z, torch.cat([vectors_nC.detach(), model.item_vectors(self.teachers_m)]))


def _joined(items: NDArray[np.int32], beside: Sequence[NDArray[np.int32]]) -> NDArray[np.int32]:
    return np.concatenate([items, *beside]) if beside else items
