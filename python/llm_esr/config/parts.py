"""What the parts of a model state about themselves, and which class builds them: a part is one file and one line here.

This is read without torch, so that a configuration is checked before anything is built; `models/builders.py` finds the
classes.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class BackboneFacts:
    """What a backbone is.

    Attributes:
        builder: `module:class`, a `Backbone` built from the `model` section.
        uses_positions: whether inputs are scaled and a trained position is added.
        reads_mask_tokens: whether it learns from masked items and predicts at a mask token.
        looks_back_only: whether a token sees earlier ones alone, unless `model.causal` says otherwise.
        runs_over_padding: whether padding tokens cannot be kept out of what it computes.

    """

    builder: str
    uses_positions: bool = True
    reads_mask_tokens: bool = False
    looks_back_only: bool = True
    runs_over_padding: bool = False


@dataclass(frozen=True)
class ViewFacts:
    """What an item view is.

    Attributes:
        builder: `module:class`, a `View` built from the `model` section and `ModelData`.
        reads_vectors: whether it reads the items' vectors.
        has_item_table: whether it has a trained row for each item, which may start from the items' vectors.

    """

    builder: str
    reads_vectors: bool = False
    has_item_table: bool = False


@dataclass(frozen=True)
class InteractionFacts:
    """What an interaction of views is.

    Attributes:
        builder: `module:class`, an `Interaction` built from the `model` section.
        n_views: how many views it is made for.

    """

    builder: str
    n_views: int


BACKBONES: Mapping[str, BackboneFacts] = {
    "sasrec": BackboneFacts("llm_esr.models.backbones.transformer:Transformer"),
    "bert4rec": BackboneFacts(
        "llm_esr.models.backbones.transformer:Transformer", reads_mask_tokens=True, looks_back_only=False
    ),
    "gru4rec": BackboneFacts("llm_esr.models.backbones.gru4rec:GRU4Rec", uses_positions=False, runs_over_padding=True),
}

VIEWS: Mapping[str, ViewFacts] = {
    "semantic": ViewFacts("llm_esr.models.views.semantic:SemanticView", reads_vectors=True),
    "collaborative": ViewFacts("llm_esr.models.views.collaborative:CollaborativeView", has_item_table=True),
}

INTERACTIONS: Mapping[str, InteractionFacts] = {
    "cross-attention": InteractionFacts("llm_esr.models.interactions.cross_attention:CrossAttention", n_views=2),
}

NO_INTERACTION = "none"

# Neighbour scorers that a network can be blended with, in the order in which their weights are looked for;
# `llm_esr.scoring.blend` builds them.
BLENDABLE = (
    "text-max",
    "text",
    "transitions",
    "co-occurrence",
    "log-popularity",
    "ease",
    "prefixes",
    "similar-users",
)
BLENDED_BY_DEFAULT = BLENDABLE[:5]
POPULARITY = "popularity"  # stands in every table, too
NEIGHBOURS = "neighbours"  # those of the default blended, without a network
# What is judged and served without being trained.
SCORERS = (NEIGHBOURS, POPULARITY, *(name for name in BLENDABLE if name != "log-popularity"))


@dataclass(frozen=True)
class KnownNames:
    """A check of a setting: one of some names."""

    names: tuple[str, ...]

    def __call__(self, name: str) -> str:
        """The name itself.

        Raises:
            ValueError: it is not among them.
        """
        if name not in self.names:
            *first, last = (repr(known) for known in self.names)
            raise ValueError(f"expected {', '.join(first)} or {last}" if first else f"expected {last}")
        return name


def known_in(table: Iterable[str], *others: str) -> KnownNames:
    """A check of a setting: a name of the table, or one of `others`."""
    return KnownNames((*others, *table))
