"""The section `align`: item vectors are drawn towards those of a trained model."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from llm_esr.config.sections.section import Section


class AlignConfig(Section):
    """Alignment with the item vectors of a trained model, the anchors (docs/llmemb.md)."""

    anchor: str | None = Field(
        None,
        description="The trained model whose item vectors are the anchors: its folder, or a run's (its primary model); "
        "null: no alignment.",
    )
    weight: float = Field(0.01, ge=0, description="Weight of the alignment loss; 0: no alignment.")
    over: Literal["targets", "distinct", "inputs"] = Field(
        "targets",
        description="Which items of a step are aligned. targets: those to predict, repeats included, so an item counts "
        "as often as it is met; distinct: each of them once; inputs: those that are read, repeats included.",
    )
    loss: Literal["soft-targets", "infonce"] = Field(
        "soft-targets",
        description="soft-targets: the authors' symmetric contrastive loss on the vectors as they are, with targets "
        "that both sides' similarities soften; infonce: each vector against its own anchor, by cosine, other rows of "
        "the same item left out.",
    )
    temperature: float = Field(2.0, gt=0, description="Of the alignment loss (infonce: .05 is usual).")
