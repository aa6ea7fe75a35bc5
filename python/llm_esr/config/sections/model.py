"""The section `model`: the network."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import AfterValidator, Field, model_validator

from llm_esr.config.parts import BACKBONES, INTERACTIONS, NO_INTERACTION, VIEWS, BackboneFacts, known_in
from llm_esr.config.sections.section import Section


class ModelConfig(Section):
    """The network: item views, their interaction, and the backbone."""

    backbone: Annotated[str, AfterValidator(known_in(BACKBONES))] = Field(
        "sasrec", description="What reads the sequence. GRU4Rec has one layer and no heads, blocks or positions."
    )
    views: list[Annotated[str, AfterValidator(known_in(VIEWS))]] = Field(
        ["semantic", "collaborative"],
        description="What an item is to the model.",
    )
    fusion: Literal["side-by-side", "sum"] = Field(
        "side-by-side",
        description="side-by-side: each view is read as a sequence of its own, and the scores add up. sum: an item's "
        "vectors are added before anything reads them.",
    )
    interaction: Annotated[str, AfterValidator(known_in(INTERACTIONS, NO_INTERACTION))] = Field(
        NO_INTERACTION, description="How the views look at each other before the backbone."
    )
    interaction_heads: int = Field(2, ge=1, description="Attention heads of the interaction.")
    interaction_residual: bool = Field(False, description="Whether the interaction is added to its input.")
    width: int = Field(64, ge=2, description="Width of each view.")
    max_len: int = Field(50, ge=1, description="The newest items of a sequence that are read.")
    blocks: int = Field(2, ge=1, description="Self-attention blocks.")
    heads: int = Field(2, ge=1, description="Attention heads of a block.")
    block: Literal["pre-norm", "paper"] = Field(
        "pre-norm", description="The kind of block; paper: as in the authors' code (GRU4Rec then has no dropout)."
    )
    feed_forward: int = Field(4, ge=1, description="Inner width of the feed-forward, times the width (paper block: 1).")
    dropout: float = Field(0.5, ge=0, lt=1, description="Rate of all dropout.")
    adapter: Literal["linear", "two-linear", "mlp"] = Field(
        "two-linear", description="How the semantic view brings text vectors to the model's width."
    )
    semantic_mask: Literal["adapter", "own"] = Field(
        "adapter",
        description="What the semantic view gives for a mask token: what the adapter makes of zeros, or a trained "
        "vector of its own.",
    )
    collaborative_init: Literal["normal", "pca", "stored", "xavier"] = Field(
        "normal",
        description="What the collaborative table starts from. pca: of the item vectors; stored: pca_items.npy of the "
        "data folder, as `convert` writes the authors' table.",
    )
    embedding_norm: float | None = Field(
        0.16, gt=0, description="Mean norm of the rows of a PCA table; null: as PCA gives them."
    )
    borrow: float = Field(
        0.0,
        ge=0,
        description="Borrowed rows: an item met n times in training takes the share borrow / (borrow + n) of its "
        "collaborative vector from the rows of its nearest items by text; 0: none.",
    )
    borrow_temperature: float = Field(0.1, gt=0, description="Lenders weigh by softmax(cosine / temperature).")
    text_profile: float = Field(
        0.0,
        ge=0,
        description="Scale that the text profile starts from: the decayed sum of the texts of a history, compared with "
        "each item's text; the scale is trained. 0: no profile.",
    )
    text_profile_decay: float = Field(0.7, gt=0, le=1, description="What an item weighs less than the next newer one.")
    text_profile_metric: bool = Field(
        True, description="Whether the metric in which the profile is compared with the texts is trained."
    )
    train_semantic_table: bool = Field(False, description="Whether the text vectors are trained too.")
    share_backbone: bool = Field(True, description="One backbone for all views, or one each.")
    transfer: bool = Field(
        False, description="Maps by which tail users and tail items learn from the head; the section `transfer`."
    )
    transfer_init: Literal["identity", "drawn"] = Field(
        "identity",
        description="What the maps start from. identity: a user gains nothing and an item is the mean of its contexts.",
    )
    # Below: where the authors' code and good practice part (docs/paper-mode.md).
    causal: bool | None = Field(
        None, description="Attention sees earlier items alone; null: what the backbone is made for."
    )
    mask_padding_keys: bool = Field(
        True, description="False: as many padding keys as a full window lacks take attention."
    )
    padding: Literal["none", "tokens"] = Field(
        "none", description="tokens: every sequence is filled up to max_len with item 0."
    )
    padding_row: Literal["zero", "trained", "drawn"] = Field("zero", description="The collaborative row of item 0.")
    positions: Literal["oldest-first", "slot"] = Field(
        "oldest-first",
        description="What numbers an item's place. oldest-first: 1 for the oldest item that is read; slot: the newest "
        "item is always at the last of max_len places.",
    )
    position_rows: int | None = Field(
        None, ge=2, description="Rows of the position table; null: as many as there are positions."
    )
    last_row: Literal["own", "shifted"] = Field(
        "own",
        description="shifted: the semantic view reads zeros for the last item, whose vector stands in the mask token's "
        "row, as in the code of LLMEmb's authors.",
    )

    @model_validator(mode="after")
    def _heads_divide_the_width(self) -> ModelConfig:
        if self.width % self.heads:
            raise ValueError(f"model.width {self.width} is not a multiple of model.heads {self.heads}")
        return self

    @model_validator(mode="after")
    def _directions_fit(self) -> ModelConfig:
        if self.causal and not self.facts.looks_back_only:
            raise ValueError(f"model.causal true does not fit {self.backbone}, which reads both ways; leave it out")
        return self

    @model_validator(mode="after")
    def _padding_fits(self) -> ModelConfig:
        if self.padding == "tokens" and self.facts.runs_over_padding and self.mask_padding_keys:
            raise ValueError(
                f"model.padding tokens lets {self.backbone} run over its padding, as the authors' code does; set "
                "model.mask_padding_keys to false if that is meant"
            )
        return self

    @model_validator(mode="after")
    def _positions_are_enough(self) -> ModelConfig:
        if self.position_rows is not None and self.position_rows < self.n_positions:
            raise ValueError(
                f"model.position_rows {self.position_rows} is too few: {self.backbone} with model.max_len "
                f"{self.max_len} needs {self.n_positions}"
            )
        return self

    @model_validator(mode="after")
    def _views_differ(self) -> ModelConfig:
        if not self.views or len(set(self.views)) != len(self.views):
            raise ValueError(f"model.views needs different views, at least one, got {self.views}")
        return self

    @model_validator(mode="after")
    def _lenders_have_rows(self) -> ModelConfig:
        if self.borrow and not any(VIEWS[view].has_item_table for view in self.views):
            raise ValueError(f"model.borrow needs the collaborative view, got model.views {self.views}")
        return self

    @model_validator(mode="after")
    def _tail_items_have_rows(self) -> ModelConfig:
        if self.transfer and not any(VIEWS[view].has_item_table for view in self.views):
            raise ValueError(f"model.transfer needs the collaborative view, got model.views {self.views}")
        return self

    @model_validator(mode="after")
    def _interaction_fits(self) -> ModelConfig:
        if self.interaction == NO_INTERACTION:
            return self
        if self.fusion == "sum":
            raise ValueError(f"model.interaction {self.interaction} needs views side by side; model.fusion is sum")
        wanted = INTERACTIONS[self.interaction].n_views
        if len(self.views) != wanted:
            raise ValueError(f"model.interaction {self.interaction} needs {wanted} views, got {self.views}")
        if self.width % self.interaction_heads:
            raise ValueError(
                f"model.width {self.width} is not a multiple of model.interaction_heads {self.interaction_heads}"
            )
        return self

    @property
    def facts(self) -> BackboneFacts:
        """What the backbone states."""
        return BACKBONES[self.backbone]

    @property
    def reads_vectors(self) -> bool:
        """Whether a view or the text profile reads the items' vectors."""
        return self.text_profile > 0 or any(VIEWS[view].reads_vectors for view in self.views)

    @property
    def starts_from_vectors(self) -> bool:
        """Whether the item table starts from a projection of the item vectors."""
        has_table = any(VIEWS[view].has_item_table for view in self.views)
        return self.collaborative_init in ("pca", "stored") and has_table

    @property
    def reads_mask_tokens(self) -> bool:
        """Whether the model reads mask tokens."""
        return self.facts.reads_mask_tokens

    @property
    def looks_back_only(self) -> bool:
        """Whether attention sees earlier items alone."""
        return self.facts.looks_back_only if self.causal is None else self.causal

    @property
    def n_positions(self) -> int:
        """Positions there are: the slots, or 0 for padding, 1 to max_len, and the place of an appended mask token."""
        return self.max_len if self.positions == "slot" else self.max_len + 1 + self.reads_mask_tokens

    @property
    def prefixes_agree(self) -> bool:
        """Whether a token's state is that of the history until it, encoded alone: what follows changes nothing."""
        alike = self.positions == "oldest-first" and self.padding == "none" and self.mask_padding_keys
        return alike and self.looks_back_only and not self.reads_mask_tokens
