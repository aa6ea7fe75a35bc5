"""The distillation term: each student's user vector against the mean of its similar users'."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor

from llm_esr.config import Config
from llm_esr.loading import Batch
from llm_esr.models import SequentialEncoder
from llm_esr.training.forward import Forward
from llm_esr.training.losses import distillation
from llm_esr.training.teachers import Teachers, build_teachers
from llm_esr.training.terms.term import Evaluated, Prepared, Term, TermData


class Distillation(Term):
    """`losses.distillation` of the students that have a teacher.

    Args:
        config: the section `distill` is read.
        teachers: where the students' teachers come from.

    """

    name: ClassVar[str] = "distillation"

    def __init__(self, config: Config, teachers: Teachers) -> None:
        settings = config.distill
        self.weight, self.from_epoch = settings.weight, settings.from_epoch
        self.form, self.temperature = settings.form, settings.temperature
        self.second_pass = self.reads_twice = settings.student_pass == "twice"
        self.teachers = teachers
        self.encodes_teachers = teachers.in_batch
        self.whole_step = "distill.form cl" if self.form == "cl" else None

    def prepare(self, batch: Batch, model: SequentialEncoder) -> Prepared:
        """What the mean teachers are mixed from."""
        return Prepared(self.teachers.mixture(batch))

    def before_step(self, batch: Batch, evaluated: Evaluated) -> None:
        """Let the teachers be refreshed where they are due."""
        self.teachers.before_step(batch, evaluated)

    def __call__(self, forward: Forward) -> Tensor | None:
        """Mean over the students that have a teacher; None where the step has no teachers at all."""
        mixture = forward.inputs_of(self)
        if mixture is None:
            return None
        teachers_BC = self.teachers.mean_of(forward, mixture)
        students_BC = forward.user_vectors(second_pass=self.second_pass)
        return distillation(
            self.form, students_BC, teachers_BC, mixture.has_teacher_S, self.temperature, mixture.taught_s
        )

    def count(self, forward: Forward) -> int:
        """The students that have a teacher."""
        mixture = forward.inputs_of(self)
        return 0 if mixture is None else int(mixture.has_teacher_S.sum())

    def state(self) -> dict[str, Tensor]:
        """The teachers' state."""
        return self.teachers.state()

    def load_state(self, tensors: dict[str, Tensor], device: torch.device) -> None:
        """Put it back."""
        self.teachers.load_state(tensors, device)


def build(config: Config, given: TermData) -> Distillation | None:
    """The term of the section `distill`; None where its weight is 0."""
    return Distillation(config, build_teachers(config, given.data)) if config.distill.weight else None
