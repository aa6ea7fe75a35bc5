"""One training step's losses: from a batch to a value for each loss term."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from torch import Tensor

from llm_esr.models import SequentialEncoder
from llm_esr.training.forward import Forward
from llm_esr.training.row_forward import RowForward, RowInputs
from llm_esr.training.terms import Term

if TYPE_CHECKING:
    from llm_esr.loading import Batch


def compute_losses(
    model: SequentialEncoder, batch: Batch, terms: Sequence[Term], inputs: RowInputs | None = None
) -> dict[str, Tensor]:
    """The loss of each term that has one in this step, by name, not weighted; scalars with gradients.

    Args:
        model: what is trained.
        batch: one step's inputs.
        terms: the loss terms.
        inputs: what `row_inputs` found for them, on the model's device; None: the step goes over flat tokens.

    """
    return losses_of(forward_of(model, batch, terms, inputs), terms)


def forward_of(
    model: SequentialEncoder, batch: Batch, terms: Sequence[Term], inputs: RowInputs | None = None
) -> Forward:
    """The forward pass that the terms read; see `compute_losses`."""
    if inputs is not None:
        return RowForward(model, inputs)
    return Forward(
        model,
        batch,
        teachers=any(term.encodes_teachers for term in terms),
        whole_catalogue=any(term.reads_catalogue for term in terms),
    )


def losses_of(forward: Forward, terms: Sequence[Term]) -> dict[str, Tensor]:
    """The loss of each term that has one; see `compute_losses`."""
    losses = ((term.name, term(forward)) for term in terms)
    return {name: loss for name, loss in losses if loss is not None}


def total_loss(losses: dict[str, Tensor], terms: Sequence[Term]) -> Tensor:
    """The weighted sum of a step's losses, which is what the step minimises.

    Raises:
        ValueError: no term has a value.

    """
    weighted = [
        losses[term.name] if term.weight == 1 else term.weight * losses[term.name]
        for term in terms
        if term.name in losses
    ]
    if not weighted:
        names = ", ".join(term.name for term in terms) or "none"
        raise ValueError(f"no loss term has a value in this step (there are: {names}); nothing can be minimised")
    total = weighted[0]
    for loss in weighted[1:]:
        total = total + loss
    return total
