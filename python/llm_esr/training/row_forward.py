"""The forward pass of a step made for a GPU: right-padded rows, one copy to the device, no number asked back.

Shapes: B students, T tokens of rows and their padding, S rows, M tokens with a target, Z tokens of teachers and their
padding, n unique items, C channels of all views.

    batch --row_inputs, in the loader's thread--> RowInputs in one buffer --one copy--> RowForward

The students' rows come first; below them stand those of a second student pass and of all that terms encode beside the
students, so that the backbone runs once for all of them. What has no gradients (teachers, `Prepared.still`) has rows
and a pass of its own.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from llm_esr.attention import RightPadded, Tokens
from llm_esr.loading.staging import Staged
from llm_esr.models import SequentialEncoder
from llm_esr.training.forward import Forward
from llm_esr.training.still import standing_still
from llm_esr.training.unique_items import UniqueItems

if TYPE_CHECKING:
    from llm_esr.loading import Batch, Sequences
    from llm_esr.training.terms.term import Term


@dataclass(frozen=True)
class RowInputs(Staged):
    """All that a step reads beside the weights.

    Attributes:
        batch: what it is made from; stays in memory.
        rows: the rows that have gradients: the students', then `parts`.
        items: the unique items; `inverse_T` and `inverse_Z` with those of padding, `targeted_M` among the T.
        wanted: the states that are read, among the T: at targets [M], the students' newest [B], then those of `parts`.
        sizes: how many each of them has.
        parts: what stands below the students' rows: (term, place among its `beside`), in order.
        student_M: each target's student, int64.
        collision_BN: see `Batch.collision`.
        tokens_T: the students' tokens among the T, int64; for terms that read each of them.
        teachers: the teachers' rows; None where no term encodes them.
        terms: what each term has prepared, by name.
        still: rows without gradients of each term, by name.

    """

    batch: Batch
    rows: RightPadded
    items: UniqueItems
    wanted: Tensor
    sizes: list[int]
    parts: list[tuple[str, int]]
    student_M: Tensor
    collision_BN: Tensor | None
    tokens_T: Tensor
    teachers: RightPadded | None
    terms: dict[str, Any]
    still: dict[str, tuple[RightPadded, ...]]


_SECOND = ("second pass", 0)


def row_inputs(batch: Batch, model: SequentialEncoder, terms: Sequence[Term]) -> RowInputs:
    """What a step reads, found in memory; a function of the batch, the model's configuration and the terms."""
    prepared = {term.name: term.prepare(batch, model) for term in terms}
    beside: list[tuple[tuple[str, int], Sequences]] = []
    if any(term.reads_twice for term in terms):
        beside.append((_SECOND, batch.students))
    for name, found in prepared.items():
        beside += [((name, place), part) for place, part in enumerate(found.beside)]
    rows = model.right_padded(batch.students, *(part for _, part in beside))
    others = [part.items for _, part in beside]
    taught = batch.teachers if any(term.encodes_teachers for term in terms) else None
    if taught is not None and len(taught):
        # Their items go through the views with the students': a few rows more, whose gradients are zero.
        others.append(taught.items)
    if any(term.reads_catalogue for term in terms):
        items = UniqueItems.all_found(batch, model.n_items, teachers=False, beside=others)
    else:
        items = UniqueItems.found(batch, teachers=False, beside=others)
    inverse, behind = np.split(items.inverse_T.numpy(), [len(rows.place)])
    teachers, inverse_Z = None, None
    if taught is not None and len(taught):
        teachers = model.right_padded(taught)
        inverse_Z = torch.from_numpy(teachers.spread(behind))
    n_students, n_tokens = len(batch.students), len(batch.students.items)
    targeted_M = torch.from_numpy(rows.place[items.targeted_M.numpy()])
    items = replace(
        items,
        inverse_T=torch.from_numpy(rows.spread(inverse)),
        inverse_Z=inverse_Z,
        targeted_M=targeted_M,
    )
    student_T = np.repeat(np.arange(n_students), rows.lengths[:n_students])
    return RowInputs(
        batch,
        rows,
        items,
        torch.cat([targeted_M, rows.last_S]),
        [len(targeted_M), n_students, *(len(part) for _, part in beside)],
        [key for key, _ in beside],
        torch.from_numpy(student_T[batch.students.targets > 0]),
        None if batch.collision is None else torch.from_numpy(batch.collision),
        torch.from_numpy(rows.place[:n_tokens]),
        teachers,
        {name: found.inputs for name, found in prepared.items()},
        {
            name: tuple(model.right_padded(part).with_items() for part in found.still)
            for name, found in prepared.items()
        },
    )


class RowForward(Forward):
    """As `Forward`, from what `row_inputs` found and a copy brought to the model's device.

    `tokens`, `vectors_TC` and `hidden_TC` are those of the students' tokens; our own terms do without.
    """

    def __init__(self, model: SequentialEncoder, inputs: RowInputs) -> None:
        self.model, self.batch, self.inputs = model, inputs.batch, inputs
        self.items = inputs.items
        self.vectors_nC = model.item_vectors(self.items.students_n)
        self._row_vectors_TC = F.embedding(self.items.inverse_T, self.vectors_nC)
        self._row_states_TC = model.hidden(self._row_vectors_TC, inputs.rows)
        if len(inputs.rows):
            wanted = self._row_states_TC.index_select(0, inputs.wanted)
        else:
            wanted = self._row_states_TC.new_zeros(len(inputs.wanted), self._row_states_TC.shape[1])
        self._target_states_MC, *newest = torch.split(wanted, inputs.sizes)
        firsts = np.cumsum([0, *inputs.sizes[1:]])
        keys = [None, *inputs.parts]
        self._newest = {
            key: self._users(states, int(first), size)
            for key, states, first, size in zip(keys, newest, firsts, inputs.sizes[1:], strict=False)
        }

    def _users(self, states_SC: Tensor, first: int, size: int) -> Tensor:
        rows = self.inputs.rows
        if rows.empty_S is None or rows.lengths[first : first + size].all():
            return states_SC
        return self.model.states_or_empty(states_SC, rows.empty_S[first : first + size])

    @cached_property
    def tokens(self) -> Tokens:  # type: ignore[override]
        """See above; made and copied where a term asks for it."""
        return Tokens(self.batch.students, self.model.device)

    @cached_property
    def vectors_TC(self) -> Tensor:  # type: ignore[override]  # noqa: N802
        """See above."""
        return self._row_vectors_TC.index_select(0, self.inputs.tokens_T)

    @cached_property
    def hidden_TC(self) -> Tensor:  # type: ignore[override]  # noqa: N802
        """See above."""
        return self._row_states_TC.index_select(0, self.inputs.tokens_T)

    def inputs_of(self, term: Term) -> Any:
        """See `Forward`."""
        return self.inputs.terms[term.name]

    def encoded(self, term: Term, place: int = 0) -> Tensor:
        """See `Forward`."""
        return self._newest[term.name, place]

    def encoded_still(self, term: Term, place: int = 0) -> Tensor:
        """See `Forward`."""
        rows, model = self.inputs.still[term.name][place], self.model
        return standing_still(model, lambda: model.user_vectors(model(rows, last_only=True), rows))

    def target_states(self) -> Tensor:
        """See `Forward`."""
        return self._target_states_MC

    def target_profiles(self) -> Tensor | None:
        """See `Forward`."""
        profile = self.model.profile
        if profile is None:
            return None
        profiles_ME: Tensor = profile(self.inputs.rows, self.items.targeted_M)
        return profiles_ME

    def masked_negatives(self) -> Tensor:
        """See `Forward`."""
        equal_MN = self.items.targets_M[:, None] == self.items.negatives_N
        if self.inputs.collision_BN is None:
            return equal_MN
        return equal_MN | self.inputs.collision_BN.index_select(0, self.inputs.student_M)

    def user_vectors(self, *, second_pass: bool = False) -> Tensor:
        """See `Forward`."""
        return self._newest[_SECOND if second_pass else None]

    def teacher_vectors(self) -> Tensor | None:
        """See `Forward`."""
        inverse_Z = self.items.inverse_Z
        return None if inverse_Z is None else F.embedding(inverse_Z, self.vectors_nC.detach())

    def teacher_states(self) -> Tensor:
        """See `Forward`."""
        vectors_ZC, teachers = self.teacher_vectors(), self.inputs.teachers
        assert vectors_ZC is not None and teachers is not None
        return self.model.newest_states(vectors_ZC, teachers)
