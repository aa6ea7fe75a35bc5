"""What is laid over the presets of a run's models, and what they must have in common; needs no torch."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from llm_esr.config.parts import SCORERS
from llm_esr.config.read import load_config
from llm_esr.config.schema import Config

Settings = Mapping[str, Any]

DEFAULT = "llm-esr"
# The sections of the stages that all models of a run share.
SHARED = ("data", "embed", "index")


def as_overrides(settings: Settings) -> list[str]:
    """A mapping of sections as `section.key=value` strings, the form in which `load_config` lays values over a preset.

    Raises:
        ValueError: a section that holds no settings by name.
    """
    overrides = []
    for section, values in settings.items():
        if not isinstance(values, Mapping):
            raise ValueError(f"settings: expected '{section}' to hold settings by name, got {values!r}")
        # JSON is YAML, which is what an override's value is read as.
        overrides += [f"{section}.{key}={json.dumps(value)}" for key, value in values.items()]
    return overrides


def all_overrides(
    config: Settings | None,
    settings: Mapping[str, Any],
    epochs: int | None,
    item_embeddings: str | Path | None,
    overrides: Sequence[str],
) -> list[str]:
    """What is laid over every model's preset, lowest first."""
    layers = as_overrides(config or {}) + as_overrides({"data": settings})
    if epochs is not None:
        layers.append(f"train.epochs={epochs}")
    if item_embeddings is not None:
        layers += as_overrides({"embed": {"encoder": f"file:{item_embeddings}"}})
    return [*layers, *overrides]


def shared_config(models: Sequence[str | Path] | None, overrides: Sequence[str]) -> Config:
    """The sections that all models share, wherever they are set; two models that set one differently are an error."""
    merged: dict[str, dict[str, Any]] = {section: {} for section in SHARED}
    set_by: dict[str, str] = {}
    for model in models if models is not None else [DEFAULT]:
        config = load_config(model, overrides)
        for section in SHARED:
            part = getattr(config, section)
            for field in part.model_fields_set:
                name, value = f"{section}.{field}", getattr(part, field)
                if merged[section].setdefault(field, value) != value:
                    raise ValueError(
                        f"{name} is {merged[section][field]!r} in {set_by[name]} and {value!r} in {model}, but one run "
                        "has one data set; use two runs, or set it for all with --set"
                    )
                set_by.setdefault(name, str(model))
    return load_config(None, [*overrides, *as_overrides(merged)])


def wanted_models(models: Sequence[str | Path] | None) -> tuple[list[str], list[str | Path] | None]:
    """What a run was asked for: scorers that need no training, and presets and files (None: the usual ones)."""
    scorers = [str(model) for model in models or [] if str(model) in SCORERS]
    return scorers, None if models is None else [model for model in models if str(model) not in SCORERS]


def says_epochs(overrides: Sequence[str], models: Sequence[str | Path] | None) -> bool:
    """Whether somebody said how long to train."""
    if any(override.strip().startswith("train.epochs") for override in overrides):
        return True
    files = [m for m in models or [] if str(m).endswith((".yaml", ".yml"))]
    return bool(files) and len(files) == len(models or [])
