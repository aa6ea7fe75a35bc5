"""Every setting, and how a configuration is read."""

from llm_esr.config.read import (
    describe_errors,
    dump_config,
    in_our_words,
    load_config,
    load_other,
    model_name,
    preset_names,
)
from llm_esr.config.schema import OTHER_MODELS, STAGES, Config, choices, preset_of
from llm_esr.config.sections.data import DataConfig, EmbedConfig, IndexConfig
from llm_esr.config.sections.evaluate import EvaluateConfig
from llm_esr.config.sections.model import ModelConfig
from llm_esr.config.sections.section import Section
from llm_esr.config.sections.training import AugmentationConfig, Layout
from llm_esr.config.single import config_with, section_with

__all__ = [
    "OTHER_MODELS",
    "STAGES",
    "AugmentationConfig",
    "Config",
    "DataConfig",
    "EmbedConfig",
    "EvaluateConfig",
    "IndexConfig",
    "Layout",
    "ModelConfig",
    "Section",
    "choices",
    "config_with",
    "describe_errors",
    "dump_config",
    "in_our_words",
    "load_config",
    "load_other",
    "model_name",
    "preset_names",
    "preset_of",
    "section_with",
]
