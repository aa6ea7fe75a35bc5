"""The section `transfer`: how tail users and tail items learn from the head (MELT, docs/melt.md)."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from llm_esr.config.sections.section import Section


class TransferConfig(Section):
    """Losses on head users and head items, and tail rows that are written anew; `model.transfer` switches it on."""

    user_weight: float = Field(
        0.1, ge=0, description="Weight of the user branch: a short cut of a head user's history against the whole."
    )
    item_weight: float = Field(
        0.4, ge=0, description="Weight of the item branch: few contexts of a head item against its row."
    )
    head: Literal["groups", "quantile"] = Field(
        "groups",
        description="Who is head. groups: as evaluate.tail_share divides; quantile: above the quantile of lengths and "
        "counts, of items a fiftieth lower, as the authors' code does.",
    )
    head_share: float = Field(0.2, gt=0, lt=0.98, description="Share of users and of items that are head.")
    curriculum: Literal["sine", "none"] = Field(
        "sine", description="sine: first the richest heads weigh most, at the end those next to the tail."
    )
    recent: Literal["up-to-tail", "below-tail"] = Field(
        "up-to-tail",
        description="The longest cut of a head user's history: the longest tail history, or (the authors' slip) one "
        "item less.",
    )
    reversed_contexts: bool = Field(
        True, description="Whether what was met from an item on, read backwards, is a context of it too."
    )
    context_item: bool = Field(True, description="Whether a context ends with the item itself.")
    detach_targets: bool = Field(
        True, description="Whether whole histories and rows stand still as targets, without dropout and gradients."
    )
    refresh_from: int | None = Field(
        0, ge=0, description="The first epoch at whose start tail rows are written anew, from 0; null: never."
    )
    refresh_keep: float = Field(
        0.0, ge=0, le=1, description="Share of a tail row that stays what it was when the row is written anew."
    )
    fit_items: bool = Field(
        True,
        description="Whether the item map starts from the least-squares solution on head items; else the first tail "
        "rows come from a map that has learnt nothing, at many times the length of other rows.",
    )
    refresh_input: Literal["enhanced", "plain"] = Field(
        "enhanced",
        description="What a tail row is mapped from. enhanced: contexts with the user map added, as in training; "
        "plain: contexts alone.",
    )
    refresh_chunk: int | None = Field(
        None, ge=1, description="Rows written at once, later ones read them; null: all from one state."
    )
    reset_moments: bool = Field(True, description="Whether Adam forgets what it knew of a row that is written anew.")
    steps: Literal["all", "shortest"] = Field(
        "all",
        description="all: head users and items are spread over all steps of an epoch; shortest: the epoch ends with "
        "the shortest of three lists, as in the authors' code.",
    )
    score_tail_users: bool = Field(
        True, description="Whether a history of tail length is scored with the user map added."
    )
