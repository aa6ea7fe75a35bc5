"""The loss terms: one file each, and one line in the table."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from llm_esr.config import Config
from llm_esr.training.terms import (
    alignment,
    distillation,
    item_regularisation,
    item_transfer,
    ranking,
    user_transfer,
)
from llm_esr.training.terms.term import Term, TermData

# Builders give None where the configuration does without the term. The total is summed in this order.
TERMS: tuple[Callable[[Config, TermData], Term | None], ...] = (
    ranking.build,
    distillation.build,
    item_regularisation.build,
    alignment.build,
    user_transfer.build,
    item_transfer.build,
)


def build_terms(config: Config, given: TermData) -> list[Term]:
    """The terms that a configuration asks for."""
    return [term for build in TERMS if (term := build(config, given)) is not None]


def checked(terms: Sequence[Term]) -> list[Term]:
    """Terms whose names can stand in one log.

    Raises:
        ValueError: no term, a name twice, or one that the log has for something else.

    """
    names = [term.name for term in terms]
    bad = [name for name in names if names.count(name) > 1 or name in _TAKEN]
    if bad or not names:
        taken = ", ".join(sorted(_TAKEN))
        raise ValueError(f"terms: expected one or more of different names, none of {taken}; got {names}")
    return list(terms)


def check_shared(terms: Sequence[Term], ranks: int) -> None:
    """See that several ranks can share a step of these terms.

    Raises:
        ValueError: a term that needs the whole step, or does not say what it is a mean of.

    """
    for term in terms:
        if term.whole_step is not None:
            raise ValueError(
                f"{term.whole_step} compares all students of a step with each other, and {ranks} ranks share the step; "
                "train it in one process (without torchrun), or set it otherwise"
            )
        if type(term).count is Term.count:
            raise ValueError(
                f"the loss term {term.name} does not say what it is a mean of, and {ranks} ranks share a step; give it "
                "Term.count, or train in one process (without torchrun)"
            )


# Other entries of a line of metrics.jsonl.
_TAKEN = {"epoch", "step", "loss", "learning_rate", "steps_per_second", "validation_ndcg_10"}

__all__ = ["TERMS", "Term", "TermData", "build_terms", "check_shared", "checked"]
