"""Every setting, and how a configuration is read."""

from llm_esr.config.read import describe_errors, dump_config, load_config, model_name, preset_names
from llm_esr.config.schema import (
    STAGES,
    AugmentationConfig,
    Config,
    DataConfig,
    EmbedConfig,
    EvaluateConfig,
    IndexConfig,
    Layout,
    ModelConfig,
    Section,
    choices,
)

__all__ = [
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
    "describe_errors",
    "dump_config",
    "load_config",
    "model_name",
    "preset_names",
]
