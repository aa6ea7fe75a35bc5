"""The whole configuration: its sections, what they ask of each other, and the stage that each belongs to.

A configuration is YAML with the sections below. A section belongs to one stage at most, so a stage is stale when its
own sections change and only then. Unknown keys are errors that suggest the nearest name.
"""

from __future__ import annotations

import re
from typing import Any, get_args

from pydantic import model_validator

from llm_esr.config.sections.align import AlignConfig
from llm_esr.config.sections.blend import BlendConfig
from llm_esr.config.sections.data import DataConfig, EmbedConfig, IndexConfig
from llm_esr.config.sections.evaluate import EvaluateConfig
from llm_esr.config.sections.model import ModelConfig
from llm_esr.config.sections.section import Section
from llm_esr.config.sections.training import (
    AugmentationConfig,
    CheckpointConfig,
    DistillConfig,
    NegativesConfig,
    RuntimeConfig,
    SmoothingConfig,
    TrainConfig,
)
from llm_esr.config.sections.transfer import TransferConfig


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
    align: AlignConfig = AlignConfig()
    transfer: TransferConfig = TransferConfig()
    train: TrainConfig = TrainConfig()
    checkpoint: CheckpointConfig = CheckpointConfig()
    runtime: RuntimeConfig = RuntimeConfig()
    blend: BlendConfig = BlendConfig()
    evaluate: EvaluateConfig = EvaluateConfig()

    @model_validator(mode="after")
    def _teachers_are_indexed(self) -> Config:
        if self.distill.weight and self.distill.similar_users > self.index.similar_users:
            raise ValueError(
                f"distill.similar_users {self.distill.similar_users} is more than index.similar_users "
                f"{self.index.similar_users}"
            )
        return self

    @model_validator(mode="after")
    def _targets_fit_the_backbone(self) -> Config:
        if self.model.reads_mask_tokens and self.train.targets == "last":
            name = self.model.backbone
            raise ValueError(f"train.targets last does not fit {name}, whose targets are the masked items")
        return self

    @model_validator(mode="after")
    def _stored_teachers_have_no_dropout(self) -> Config:
        if self.distill.teachers == "stored" and self.distill.teacher_dropout:
            raise ValueError("distill.teacher_dropout is for live teachers; stored ones are encoded without dropout")
        return self

    @model_validator(mode="after")
    def _augmentation_fits_the_backbone(self) -> Config:
        if self.model.reads_mask_tokens and self.augmentation.on:
            name = self.model.backbone
            raise ValueError(f"augmentation does not fit {name}, whose items are masked anyway; set its ratios to 0")
        return self

    @model_validator(mode="after")
    def _correction_fits_the_loss(self) -> Config:
        if self.negatives.log_q_correction and self.train.loss != "sampled-softmax":
            raise ValueError(
                f"negatives.log_q_correction belongs to train.loss sampled-softmax, not to {self.train.loss}"
            )
        return self

    @model_validator(mode="after")
    def _padding_fits_the_layout(self) -> Config:
        if self.model.padding == "tokens" and self.train.layout != "padded":
            raise ValueError("model.padding tokens needs a row for each sequence; set train.layout to padded")
        return self

    @model_validator(mode="after")
    def _regularised_views_are_there(self) -> Config:
        if self.train.item_regularisation and not {"semantic", "collaborative"} <= set(self.model.views):
            raise ValueError(f"train.item_regularisation needs both views, got model.views {self.model.views}")
        if self.train.item_regularisation and self.model.fusion == "sum":
            raise ValueError("train.item_regularisation compares views side by side; model.fusion is sum")
        return self

    @model_validator(mode="after")
    def _other_presets_are_names(self) -> Config:
        for setting, name in self.other_presets.items():
            if not _NAME.fullmatch(name):  # it becomes a folder's name beside the model
                raise ValueError(f"{setting}: expected a folder, or preset:NAME with a model's name, got preset:{name}")
        return self

    @model_validator(mode="after")
    def _aligned_vectors_are_there(self) -> Config:
        if self.align.anchor is not None and self.model.fusion != "sum" and "semantic" not in self.model.views:
            raise ValueError(
                f"align.anchor needs the semantic view, whose vectors are aligned, or model.fusion sum; got "
                f"model.views {self.model.views}"
            )
        return self

    @property
    def other_models(self) -> dict[str, str]:
        """The settings that name another trained model, and what they say."""
        named = self.train.start_from, self.align.anchor if self.align.weight else None
        return {setting: value for setting, value in zip(OTHER_MODELS, named, strict=True) if value is not None}

    @property
    def other_presets(self) -> dict[str, str]:
        """The settings that say `preset:NAME`, and the presets whose models are trained before this one."""
        presets = {setting: preset_of(value) for setting, value in self.other_models.items()}
        return {setting: name for setting, name in presets.items() if name is not None}

    @property
    def shows_mask_tokens(self) -> bool:
        """Whether training shows the model mask tokens."""
        return self.model.reads_mask_tokens or (self.augmentation.on and self.augmentation.mask > 0)

    @property
    def needs_vectors(self) -> bool:
        """Whether training reads item vectors, similar items or similar users."""
        return (
            self.model.reads_vectors
            or self.model.starts_from_vectors
            or self.model.borrow > 0
            or self.smoothing.probability > 0
            or self.distill.weight > 0
        )


# The stage that each section belongs to; `seed` of the training is part of its key.
STAGES: dict[str, tuple[str, ...]] = {
    "prepare": ("data",),
    "embed": ("embed",),
    "index": ("index",),
    "train": ("model", "negatives", "smoothing", "augmentation", "distill", "align", "transfer", "train"),
    "blend": ("blend",),
    "evaluate": ("evaluate",),
}


OTHER_MODELS = ("train.start_from", "align.anchor")  # settings that name another trained model
_PRESET = "preset:"
_NAME = re.compile(r"[^\W_][\w.+-]*")


def preset_of(value: str) -> str | None:
    """NAME of `preset:NAME`, as settings that name another model may say; None for a folder."""
    return value.removeprefix(_PRESET) if value.startswith(_PRESET) else None


def choices(annotation: Any) -> tuple[Any, ...]:
    """The values of a `Literal`, for help texts."""
    return get_args(annotation)
