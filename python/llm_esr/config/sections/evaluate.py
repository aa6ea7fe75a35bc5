"""The section `evaluate`."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, field_validator

from llm_esr.config.sections.section import Section


class EvaluateConfig(Section):
    """How a model is judged."""

    k: list[Annotated[int, Field(ge=1, le=2**31 - 1)]] = Field([5, 10, 20], min_length=1, description="Cut-offs.")
    keep_seen: bool = Field(False, description="Whether the user's earlier items compete with the target.")
    targets: Literal["all", "known"] = Field("all", description="known: only targets that training met.")
    candidates: int | None = Field(
        None, ge=0, description="Sampled items to rank against; null or 0: the whole catalogue."
    )
    tail_share: float = Field(0.8, gt=0, lt=1, description="Share of items (users) that are tail.")
    tail_item_below: int | None = Field(None, description="Items met less often are tail; null: by tail_share.")
    tail_user_below: int | None = Field(
        None, description="Users with a shorter sequence are tail; null: by tail_share."
    )
    group_rule: Literal["training", "paper"] = Field(
        "training",
        description="What head and tail go by. training: counts of the training part; paper: items by distinct users "
        "over all parts, users by the length of the input as the model reads it.",
    )
    ties: Literal["expected", "strict"] = Field(
        "expected", description="strict: only a higher score counts against the target."
    )
    tail_item_skips_first: bool = Field(
        False, description="The authors' slip: the first user counts, but is never a hit."
    )
    length_groups: list[int] = Field(
        [5, 10, 15, 20], description="Lower ends of the groups by sequence length; []: none."
    )
    popularity_groups: list[int] = Field(
        [10, 30, 60, 100], description="Lower ends of the groups by the target's popularity; []: none."
    )
    resamples: int = Field(1000, ge=0, le=100_000, description="Bootstrap resamples; 0: no intervals.")

    @field_validator("candidates")
    @classmethod
    def _none_is_all(cls, candidates: int | None) -> int | None:
        return candidates or None
