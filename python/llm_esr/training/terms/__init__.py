"""The loss terms: one file each, and one line in the table."""

from __future__ import annotations

from collections.abc import Callable

from llm_esr.config import Config
from llm_esr.training.terms import distillation, item_regularisation, ranking
from llm_esr.training.terms.term import Term, TermData

# Builders give None where the configuration does without the term. The total is summed in this order.
TERMS: tuple[Callable[[Config, TermData], Term | None], ...] = (
    ranking.build,
    distillation.build,
    item_regularisation.build,
)


def build_terms(config: Config, given: TermData) -> list[Term]:
    """The terms that a configuration asks for."""
    return [term for build in TERMS if (term := build(config, given)) is not None]


__all__ = ["TERMS", "Term", "TermData", "build_terms"]
