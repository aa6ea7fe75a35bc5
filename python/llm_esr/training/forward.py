"""The forward pass of one training step: what every loss term reads.

Shapes: B students, T tokens, M tokens with a target, N negatives, n unique items, C channels of all views.

    batch --tokens, unique items--> item vectors --views, backbone--> a state for each token
"""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from llm_esr.attention.tokens import Tokens
from llm_esr.loading.staging import send, to_device
from llm_esr.models import SequentialEncoder
from llm_esr.training.still import standing_still
from llm_esr.training.unique_items import UniqueItems

if TYPE_CHECKING:
    from llm_esr.loading import Batch
    from llm_esr.training.terms.term import Prepared, Term


class Forward:
    """One batch through the model; each unique item goes through the views once.

    Args:
        model: what is trained.
        batch: one step's inputs.
        teachers: whether a term encodes the batch's teachers; their items are then found with the others.
        whole_catalogue: whether a term reads the vectors of all items; `vectors_nC` then starts with them, by id.

    Attributes:
        model: the model.
        batch: the batch.
        tokens: the students' tokens.
        items: the unique items and their inverse indices.
        vectors_nC: item vectors of the unique items, [n, C].
        vectors_TC: item vectors of the students' tokens, [T, C].
        hidden_TC: states of the students' tokens, [T, C].

    """

    def __init__(
        self, model: SequentialEncoder, batch: Batch, *, teachers: bool = False, whole_catalogue: bool = False
    ) -> None:
        self.model, self.batch = model, batch
        self.tokens = Tokens(batch.students, model.device)
        if whole_catalogue:
            self.items = UniqueItems.whole(batch, model.n_items, teachers=teachers, device=model.device)
        else:
            self.items = UniqueItems.of(batch, teachers=teachers, device=model.device)
        self.vectors_nC = model.item_vectors(self.items.students_n)
        self.vectors_TC = F.embedding(self.items.inverse_T, self.vectors_nC)
        self.hidden_TC = model.hidden(self.vectors_TC, self.tokens)

    def inputs_of(self, term: Term) -> Any:
        """What the term has prepared for this step, on the model's device; see `Term.prepare`."""
        return send(self._prepared(term).inputs, self.model.device)

    def encoded(self, term: Term, place: int = 0) -> Tensor:
        """States of the newest tokens of the sequences at `place` of the term's `beside`, [S, C]."""
        return self.model.last_states(self._prepared(term).beside[place])

    def encoded_still(self, term: Term, place: int = 0) -> Tensor:
        """The same of the term's `still`, without dropout and gradients."""
        return standing_still(self.model, lambda: self.model.last_states(self._prepared(term).still[place]))

    def _prepared(self, term: Term) -> Prepared:
        if term.name not in self._prepared_by:
            self._prepared_by[term.name] = term.prepare(self.batch, self.model)
        return self._prepared_by[term.name]

    @cached_property
    def _prepared_by(self) -> dict[str, Prepared]:
        return {}

    def target_states(self) -> Tensor:
        """States of the tokens with a target, [M, C]."""
        return self.hidden_TC.index_select(0, self.items.targeted_M)

    def target_vectors(self) -> Tensor:
        """Item vectors of the targets, [M, C]."""
        return F.embedding(self.items.inverse_M, self.vectors_nC)

    def negative_vectors(self) -> Tensor:
        """Item vectors of the negatives, [N, C] shared by the step or [M, N, C] own ones."""
        return F.embedding(self.items.inverse_N, self.vectors_nC)

    def catalogue_vectors(self) -> Tensor:
        """Item vectors of all items, [I, C], where the step has them."""
        return self.vectors_nC[: self.model.n_items]

    def target_profiles(self) -> Tensor | None:
        """The text profile at the tokens with a target, [M, E]; None where the model has none."""
        profile = self.model.profile
        return None if profile is None else profile(self.tokens, self.items.targeted_M)

    def students_of_targets(self) -> NDArray[np.int64]:
        """The student that each target belongs to, [M]."""
        return self.tokens.sequence[self.tokens.targets > 0]

    def masked_negatives(self) -> Tensor:
        """Negatives that do not count, bool [M, N]: the target itself and, where they are shared, what the user met."""
        equal_MN = self.items.targets_M[:, None] == self.items.negatives_N
        if self.batch.collision is None:
            return equal_MN
        collision_BN = to_device(self.batch.collision, equal_MN.device)
        student_M = to_device(self.students_of_targets(), equal_MN.device)
        return equal_MN | collision_BN.index_select(0, student_M)

    def user_vectors(self, *, second_pass: bool = False) -> Tensor:
        """`u_last` of each student, [B, C]; `second_pass`: from a forward pass of its own, with its own dropout."""
        if second_pass:
            last_BC = self.model.hidden(self.vectors_TC, self.tokens, last_only=True)
        else:
            has_tokens = len(self.tokens) > 0
            last_BC = self.hidden_TC.index_select(0, self.tokens.last_S) if has_tokens else self.hidden_TC
        return self.model.user_vectors(last_BC, self.tokens)

    def teacher_states(self) -> Tensor:
        """`u_last` of each teacher, [Z, C], without gradients; with dropout where the model is training."""
        assert self.batch.teachers is not None
        return self.model.last_states(self.batch.teachers, self.teacher_vectors())

    def teacher_vectors(self) -> Tensor | None:
        """Item vectors of the teachers' tokens, [Z, C], without gradients; None where the step has no teachers."""
        if self.items.inverse_Z is None:
            return None
        return self.items.teacher_vectors(self.model, self.vectors_nC)
