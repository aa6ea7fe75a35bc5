"""The section `blend`."""

from __future__ import annotations

from typing import Annotated

from pydantic import AfterValidator, Field, field_validator

from llm_esr.config.parts import BLENDABLE, known_in
from llm_esr.config.sections.section import Section


class BlendConfig(Section):
    """What is added to a trained network's scores."""

    scorers: list[Annotated[str, AfterValidator(known_in(BLENDABLE))]] = Field(
        [],
        description="Neighbour scorers, whose weights are looked for on validation after the training; those that read "
        "texts are passed over where there are none; []: the network alone.",
    )

    @field_validator("scorers")
    @classmethod
    def _once_each(cls, scorers: list[str]) -> list[str]:
        if len(set(scorers)) != len(scorers):
            raise ValueError(f"blend.scorers needs different scorers, got {scorers}")
        return scorers
