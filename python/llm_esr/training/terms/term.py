"""A loss term: a name, a weight, and a function of the step's forward pass."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from torch import Tensor

from llm_esr.models import SequentialEncoder
from llm_esr.training.forward import Forward
from llm_esr.training.weights import Weights
from llm_esr.world import World

if TYPE_CHECKING:
    from llm_esr.data import Dataset
    from llm_esr.loading import Batch, BatchLoader, Sequences
    from llm_esr.training.other_models import StartModel


# Gives the model that is evaluated: the averaged one, where there is one. Bringing it up to date is not free.
Evaluated = Callable[[], SequentialEncoder]


@dataclass(frozen=True)
class Prepared:
    """What a term has found in memory for a step.

    Attributes:
        inputs: a `Staged` tree (`loading/staging.py`) that the term finds on the model's device, or None.
        beside: sequences that are encoded beside the students', with dropout and gradients.
        still: sequences that are encoded without either.

    """

    inputs: Any = None
    beside: tuple[Sequences, ...] = ()
    still: tuple[Sequences, ...] = ()


class Term(ABC):
    """One part of the loss.

    Attributes:
        name: in metrics.jsonl, TensorBoard, the progress line and callbacks.
        weight: its factor in the total; what is logged is not weighted.
        from_epoch: the first epoch, counted from 0, in which it takes part.
        encodes_teachers: whether it reads the teachers of the batch.
        reads_twice: whether it reads a second forward pass over the students.
        reads_catalogue: whether it reads the vectors of all items.
        most_steps: steps after which it ends an epoch; None: all batches run.
        whole_step: the setting by which it compares all students of a step with each other, so that several ranks
            cannot share the step; None: it is a mean, see `count`.

    """

    name: ClassVar[str]
    weight: float = 1.0
    from_epoch: int = 0
    encodes_teachers: bool = False
    reads_twice: bool = False
    reads_catalogue: bool = False
    most_steps: int | None = None
    whole_step: str | None = None

    @abstractmethod
    def __call__(self, forward: Forward) -> Tensor | None:
        """The loss of a step, a scalar with gradients; None where the step has nothing to compute it from."""

    def count(self, forward: Forward) -> int:
        """How many things the loss of this step is the mean of; known in memory.

        Where several ranks share a step, the loss of each counts by its part of them, and the sum is that of one
        process.
        """
        raise NotImplementedError

    def before_epoch(self, epoch: int, weights: Weights) -> None:  # noqa: B027 (few terms need it)
        """Called at the start of each epoch, and once more where a resume goes on within it; may rewrite weights."""

    def prepare(self, batch: Batch, model: SequentialEncoder) -> Prepared:
        """What the term reads beside the batch, from the batch alone; on a GPU ahead of the step, in another thread.

        `Forward.inputs_of` and `Forward.encoded` give it back. No generator of torch may be drawn from here.
        """
        return Prepared()

    def before_step(self, batch: Batch, evaluated: Evaluated) -> None:  # noqa: B027 (few terms need it)
        """Called before the forward pass; `evaluated` gives the model that is evaluated, at the price of averaging."""

    def state(self) -> dict[str, Tensor]:
        """What a checkpoint keeps of the term."""
        return {}

    def load_state(self, tensors: dict[str, Tensor], device: torch.device) -> None:  # noqa: B027 (few terms need it)
        """Put back what `state` gave."""


@dataclass(frozen=True)
class TermData:
    """What terms are built from beside the configuration.

    Attributes:
        device: the model's.
        loader: the batches of the training; needed by corrections for how negatives are drawn.
        data: the data set; needed by terms that look things up in it.
        start: the trained model that this training starts from, if any.
        folder: where the training goes; beside it lie the models that a setting names as `preset:NAME`.
        world: the processes that share a step.

    """

    device: torch.device
    loader: BatchLoader | None = None
    data: Dataset | None = None
    start: StartModel | None = None
    folder: Path | None = None
    world: World = field(default_factory=World)
