"""Every setting of the pipeline, typed; one section per stage.

A configuration is YAML with the sections below. A section belongs to exactly one stage, so a stage is stale
when its own sections change and only then. Unknown keys are errors that suggest the nearest name.
"""

from __future__ import annotations

from typing import Any, Literal, get_args

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

Duplicates = Literal["all", "exact", "first"]
Split = Literal["leave-one-out", "temporal", "none"]
Layout = Literal["packed", "padded"]


class Section(BaseModel):
    """A section of the configuration: unknown keys are refused, values are checked on assignment too."""

    model_config = ConfigDict(extra="forbid", validate_assignment=True, protected_namespaces=())


class DataConfig(Section):
    """`prepare`: which columns, which rows, which split."""

    # Whose files: sets the columns below where none is named, and how items become texts (docs/paper-data.md).
    source: Literal["table", "yelp", "amazon"] = "table"
    user_column: str = "user_id"
    item_column: str = "item_id"
    timestamp_column: str | None = "timestamp"  # absent from the table: file order (or order_column)
    order_column: str | None = None
    timestamp_unit: Literal["s", "ms", "us", "ns"] = "s"
    items_id_column: str | None = None  # the id column of the items table; default: as item_column
    title_column: str | None = None  # default: `title`, else the first text column
    text_columns: list[str] | None = None  # default: every text column of the items table
    format: Literal["auto", "csv", "tsv", "parquet", "jsonl", "inter"] = "auto"
    where: str | None = None
    duplicates: Duplicates = "all"
    min_user_count: int = Field(0, ge=0)
    min_item_count: int = Field(0, ge=0)
    keep_unseen_items: bool = False
    split: Split = "leave-one-out"
    validation_from: str | int | None = None  # temporal: a timestamp (raw integer in timestamp_unit, or ISO)
    test_from: str | int | None = None


class EmbedConfig(Section):
    """`embed`: from texts to vectors."""

    encoder: str | None = None  # `lsa`, `sentence-transformers:NAME_OR_FOLDER`, `file:PATH`; None: what fits
    # "{title}. Brand: {brand}.", or the name of a ready one: yelp, fashion, beauty; default: every text column, named
    item_template: str | None = None
    user_template: str | None = None  # with {history}, or a name likewise
    user_vectors: Literal["prompt", "mean"] = "mean"
    user_history: int = Field(12, ge=1)  # the newest training items in a user's prompt
    max_characters: int = Field(2000, ge=16)  # a longer item text is cut
    lsa_dimensions: int = Field(128, ge=2)
    dtype: Literal["float16", "float32"] = "float16"
    batch_size: int = Field(64, ge=1)
    device: str = "auto"


class IndexConfig(Section):
    """`index`: similar users and nearest items."""

    similar_users: int = Field(100, ge=1)
    similar_items: int = Field(10, ge=1)


class ModelConfig(Section):
    """The network: item views, their interaction, and the backbone."""

    backbone: Literal["sasrec", "bert4rec", "gru4rec"] = "sasrec"
    views: list[Literal["semantic", "collaborative"]] = ["semantic", "collaborative"]
    interaction: Literal["none", "cross-attention"] = "none"
    interaction_heads: int = Field(2, ge=1)
    interaction_residual: bool = False
    width: int = Field(64, ge=2)
    max_len: int = Field(50, ge=1)
    blocks: int = Field(2, ge=1)
    heads: int = Field(2, ge=1)
    block: Literal["pre-norm", "paper"] = "pre-norm"
    feed_forward: int = Field(4, ge=1)  # times the width (paper block: 1)
    dropout: float = Field(0.5, ge=0, lt=1)
    adapter: Literal["linear", "two-linear", "mlp"] = "two-linear"
    # `pca` of the item vectors; `stored`: pca_items.npy of the data folder, as `convert` writes the authors' table.
    collaborative_init: Literal["normal", "pca", "stored", "xavier"] = "normal"
    embedding_norm: float | None = Field(0.16, gt=0)  # mean norm of the PCA table's rows; None: as PCA gives them
    train_semantic_table: bool = False
    share_backbone: bool = True
    # GRU4Rec has one layer and no heads, blocks or positions; with `block: paper` it has no dropout either.
    # Below: where the authors' code and good practice part (docs/paper-mode.md).
    causal: bool | None = None  # attention sees earlier items alone; None: what the backbone is made for
    mask_padding_keys: bool = True  # False: as many padding keys as a full window lacks take attention
    padding: Literal["none", "tokens"] = "none"  # tokens: every sequence is filled up to max_len with item 0
    padding_row: Literal["zero", "trained", "drawn"] = "zero"  # the collaborative row of item 0
    position_rows: int | None = Field(None, ge=2)  # None: as many as there are positions

    @model_validator(mode="after")
    def _fits(self) -> ModelConfig:
        if self.width % self.heads:
            raise ValueError(f"model.width {self.width} is not a multiple of model.heads {self.heads}")
        if self.backbone == "bert4rec" and self.causal:
            raise ValueError("model.causal true does not fit bert4rec, which reads both ways; leave it out")
        if self.padding == "tokens" and self.backbone == "gru4rec" and self.mask_padding_keys:
            raise ValueError(
                "model.padding tokens lets gru4rec run over its padding, as the authors' code does; set "
                "model.mask_padding_keys to false if that is meant"
            )
        if self.position_rows is not None and self.position_rows < self.positions:
            raise ValueError(
                f"model.position_rows {self.position_rows} is too few: {self.backbone} with model.max_len "
                f"{self.max_len} needs {self.positions}"
            )
        if not self.views or len(set(self.views)) != len(self.views):
            raise ValueError(f"model.views needs one or two different views, got {self.views}")
        if self.interaction == "cross-attention":
            if len(self.views) != 2:
                raise ValueError(f"model.interaction cross-attention needs both views, got {self.views}")
            if self.width % self.interaction_heads:
                raise ValueError(
                    f"model.width {self.width} is not a multiple of model.interaction_heads {self.interaction_heads}"
                )
        return self

    @property
    def semantic(self) -> bool:
        """Whether the model needs item vectors."""
        return "semantic" in self.views

    @property
    def starts_from_vectors(self) -> bool:
        """Whether the item table starts from a projection of the item vectors."""
        return self.collaborative_init in ("pca", "stored") and "collaborative" in self.views

    @property
    def masks(self) -> bool:
        """Whether the model reads mask tokens."""
        return self.backbone == "bert4rec"

    @property
    def looks_back_only(self) -> bool:
        """Whether attention sees earlier items alone."""
        return self.backbone != "bert4rec" if self.causal is None else self.causal

    @property
    def positions(self) -> int:
        """Positions there are: 0 for padding, 1 to max_len, and the place of an appended mask token."""
        return self.max_len + 1 + self.masks


class NegativesConfig(Section):
    """Which items stand against the target."""

    # in-batch: the step's own targets, as many as there are; count, distribution and catalogue do not matter then.
    kind: Literal["shared", "own", "in-batch"] = "shared"
    count: int = Field(512, ge=1)
    distribution: Literal["uniform", "popularity"] = "uniform"
    exponent: float = Field(1.0, ge=0)
    # `all`: an item that training never meets still has to be pushed down, or it outranks what was learnt.
    catalogue: Literal["training", "all"] = "all"
    # A negative's score minus the log of how often its item is drawn: the sampled softmax stands for the full one.
    log_q_correction: bool = False


class SmoothingConfig(Section):
    """Semantic smoothing: a target is now and then replaced by one of its nearest items."""

    probability: float = Field(0.0, ge=0, le=1)
    temperature: float = Field(0.1, gt=0)


class AugmentationConfig(Section):
    """Sequence augmentation: now and then a student's sequence is cropped, masked in part or reordered in part."""

    probability: float = Field(0.5, ge=0, le=1)  # that a student is changed in an epoch, in one of the ways that are on
    crop: float = Field(0.0, ge=0, le=1)  # share that is kept; 0: off
    mask: float = Field(0.0, ge=0, le=1)  # share of the items that show the mask token; 0: off
    reorder: float = Field(0.0, ge=0, le=1)  # share that is shuffled; 0: off

    @property
    def on(self) -> bool:
        """Whether anything is changed."""
        return self.probability > 0 and max(self.crop, self.mask, self.reorder) > 0


class DistillConfig(Section):
    """Self-distillation from similar users."""

    weight: float = Field(0.0, ge=0)
    form: Literal["kd", "cl", "cosine"] = "kd"
    temperature: float = Field(1.0, gt=0)  # of the contrastive form, cl
    similar_users: int = Field(10, ge=1)
    teacher_dropout: bool = False
    # `live`: similar users are encoded in each step, as in the paper. `stored`: the vectors of all users are refreshed
    # from the averaged weights, once an epoch or every so many steps of it; users with one training item do not train.
    teachers: Literal["live", "stored"] = "live"
    refresh_steps: int | None = Field(None, ge=1)  # None: once an epoch
    student_pass: Literal["once", "twice"] = "once"  # twice: distilled from a second pass with its own dropout
    from_epoch: int = Field(0, ge=0)


class TrainConfig(Section):
    """The loop."""

    seed: int = Field(42, ge=0)
    start_from: str | None = None  # a trained model's folder, whose weights the training starts from
    epochs: int = Field(100, ge=1)
    batch_size: int = Field(80, ge=1)
    loss: Literal["sampled-softmax", "bce"] = "sampled-softmax"
    view_loss: float = Field(0.0, ge=0)  # weight of the ranking loss of each view alone
    item_regularisation: float = Field(0.0, ge=0)  # weight of the contrastive loss between an item's two views
    # What a student shows (BERT4Rec always trains on masked items of the whole sequence).
    sequence: Literal["whole", "without-last"] = "whole"  # whole: the last item is read but has no target
    targets: Literal["every", "last"] = "every"  # which positions predict the next item
    mask_probability: float = Field(0.6, gt=0, le=1)  # BERT4Rec's random showing
    learning_rate: float = Field(1e-3, gt=0)
    weight_decay: float = Field(0.0, ge=0)
    clip_norm: float | None = Field(5.0, gt=0)
    # Adam and the averaged weights of the collaborative table: dense, all rows in every step; lazy, only the rows that
    # a step meets, whose moments and weight decay stand still in between. Lazy is another algorithm with other results,
    # for tables of some 100,000 items and more, where dense steps spend their time on passing over the table.
    table_updates: Literal["dense", "lazy"] = "dense"
    averaging: float = Field(0.0, ge=0, lt=1)  # decay a step of the averaged weights; 0: none
    patience: int = Field(6, ge=1)  # epochs without a better validation NDCG@10
    evaluate_every: int = Field(1, ge=1)
    validation_users: int = Field(20_000, ge=1)
    validation_candidates: int | None = Field(None, ge=1)  # early stopping by so many sampled items; None: all
    validation_ties: Literal["expected", "strict"] = "expected"  # as evaluate.ties, for early stopping
    layout: Layout = "packed"
    device: str = "auto"
    precision: Literal["float32", "bfloat16", "float16"] = "float32"
    threads: int = Field(0, ge=0)  # 0: what torch finds
    loader_threads: int = Field(1, ge=1)
    keep_memory: bool = True  # on the CPU: what a step frees stays with the process until the training ends
    tensorboard: bool = False


class CheckpointConfig(Section):
    """When the state of a training is saved."""

    every_steps: int = Field(1000, ge=1)


class EvaluateConfig(Section):
    """How a model is judged."""

    k: list[int] = [5, 10, 20]
    keep_seen: bool = False
    targets: Literal["all", "known"] = "all"
    candidates: int | None = Field(None, ge=0)  # sampled items to rank against; None or 0: the whole catalogue
    tail_share: float = Field(0.8, gt=0, lt=1)
    tail_item_below: int | None = None
    tail_user_below: int | None = None
    # Tail by training counts; `paper`: items by distinct users over all parts, users by the length of the input.
    group_rule: Literal["training", "paper"] = "training"
    ties: Literal["expected", "strict"] = "expected"  # strict: only a higher score counts against the target
    tail_item_skips_first: bool = False  # the authors' slip: the first user counts, but is never a hit
    length_groups: list[int] = [5, 10, 15, 20]  # lower ends of the groups by sequence length; []: none
    popularity_groups: list[int] = [10, 30, 60, 100]  # likewise by the target's popularity
    resamples: int = Field(1000, ge=0)

    @field_validator("candidates")
    @classmethod
    def _none_is_all(cls, candidates: int | None) -> int | None:
        return candidates or None


class Config(Section):
    """The whole configuration."""

    data: DataConfig = DataConfig()
    embed: EmbedConfig = EmbedConfig()
    index: IndexConfig = IndexConfig()
    model: ModelConfig = ModelConfig()
    negatives: NegativesConfig = NegativesConfig()
    smoothing: SmoothingConfig = SmoothingConfig()
    augmentation: AugmentationConfig = AugmentationConfig()
    distill: DistillConfig = DistillConfig()
    train: TrainConfig = TrainConfig()
    checkpoint: CheckpointConfig = CheckpointConfig()
    evaluate: EvaluateConfig = EvaluateConfig()

    @model_validator(mode="after")
    def _teachers_need_vectors(self) -> Config:
        if self.distill.weight and self.distill.similar_users > self.index.similar_users:
            raise ValueError(
                f"distill.similar_users {self.distill.similar_users} is more than index.similar_users "
                f"{self.index.similar_users}"
            )
        return self

    @model_validator(mode="after")
    def _showing_fits(self) -> Config:
        if self.model.masks and self.train.targets == "last":
            raise ValueError("train.targets last does not fit bert4rec, whose targets are the masked items")
        if self.distill.teachers == "stored" and self.distill.teacher_dropout:
            raise ValueError("distill.teacher_dropout is for live teachers; stored ones are encoded without dropout")
        if self.model.masks and self.augmentation.on:
            raise ValueError("augmentation does not fit bert4rec, whose items are masked anyway; set its ratios to 0")
        if self.negatives.log_q_correction and self.train.loss != "sampled-softmax":
            raise ValueError(
                f"negatives.log_q_correction belongs to train.loss sampled-softmax, not to {self.train.loss}"
            )
        if self.model.padding == "tokens" and self.train.layout != "padded":
            raise ValueError("model.padding tokens needs a row for each sequence; set train.layout to padded")
        if self.train.item_regularisation and len(self.model.views) != 2:
            raise ValueError(f"train.item_regularisation needs both views, got model.views {self.model.views}")
        return self

    @property
    def shows_mask_tokens(self) -> bool:
        """Whether training shows the model mask tokens."""
        return self.model.masks or (self.augmentation.on and self.augmentation.mask > 0)

    @property
    def needs_vectors(self) -> bool:
        """Whether training reads item vectors, similar items or similar users."""
        return (
            self.model.semantic
            or self.model.starts_from_vectors
            or self.smoothing.probability > 0
            or self.distill.weight > 0
        )


# The stage that each section belongs to; `seed` of the training is part of its key.
STAGES: dict[str, tuple[str, ...]] = {
    "prepare": ("data",),
    "embed": ("embed",),
    "index": ("index",),
    "train": ("model", "negatives", "smoothing", "augmentation", "distill", "train"),
    "evaluate": ("evaluate",),
}


def choices(annotation: Any) -> tuple[Any, ...]:
    """The values of a `Literal`, for help texts."""
    return get_args(annotation)
