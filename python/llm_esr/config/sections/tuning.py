"""The settings of `embed` that tune the encoder before it encodes."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from llm_esr.config.sections.section import Section

TuneLevel = Literal["head", "layers", "lora"]


class TuneSettings(Section):
    """`embed.tune`: an encoder learns to tell items apart by their attributes."""

    tune: Literal["none", "attributes"] = Field(
        "none",
        description="attributes: a sentence encoder is tuned first, on pairs of views of an item, each without some of "
        "its attributes.",
    )
    tune_level: TuneLevel = Field(
        "head",
        description="What is trained. head: a linear map behind the encoder; layers: its top tune_layers layers; lora: "
        "low-rank additions to all of them (extra tune-lora).",
    )
    tune_attributes: list[str] | None = Field(
        None, description="Text columns that hold attributes; null: all. Lists and paths, a > b > c, give several."
    )
    tune_drop_ratio: float = Field(
        0.2, ge=0, lt=1, description="Share of an item's attributes that a view lacks; at least one is left out."
    )
    tune_keep_title: bool = Field(False, description="Whether every view has the title.")
    tune_header: str | None = Field(
        None,
        description="First line of item texts in the form of the paper, 'title is ...; brand is ...', for tuning and "
        "encoding; null: as embed.item_template has it where it is null.",
    )
    tune_loss: Literal["infonce", "soft-targets"] = Field(
        "infonce",
        description="infonce: on unit vectors, equal texts left out; soft-targets: as in the paper, of any length.",
    )
    tune_temperature: float | None = Field(
        None, gt=0, description="Of the loss; null: .2 for infonce, 3 for soft-targets, where it is trained too."
    )
    tune_fresh_pairs: bool = Field(True, description="Whether views are drawn anew each epoch, or once.")
    tune_layers: int = Field(2, ge=1, description="Top layers that level layers trains.")
    tune_tokens: int = Field(64, ge=8, description="A view is cut to so many tokens while layers or lora are trained.")
    tune_batch: int = Field(64, ge=2, description="Items of a step.")
    tune_epochs: int | None = Field(None, ge=1, description="Null: 3 for head, 1 for layers and lora.")
    tune_learning_rate: float | None = Field(
        None, gt=0, description="Of AdamW, falling to 0; null: .0003 for head, .00005 for layers, .0002 for lora."
    )
    tune_seed: int = Field(42, ge=0, lt=2**63, description="Of views, batches and LoRA's start.")
