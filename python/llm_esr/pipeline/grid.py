"""What a run trains: models by name, each with its whole configuration, times seeds."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from llm_esr.config import Config, load_config, model_name
from llm_esr.config.parts import SCORERS
from llm_esr.pipeline.run_folder import ModelId

Settings = Mapping[str, Any]

BASELINE = "sasrec"
LLM_ESR = "llm-esr"
# The sections of the stages that all models of a run share.
_SHARED = ("data", "embed", "index")


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
    merged: dict[str, dict[str, Any]] = {section: {} for section in _SHARED}
    set_by: dict[str, str] = {}
    for model in models if models is not None else [LLM_ESR]:
        config = load_config(model, overrides)
        for section in _SHARED:
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


def model_grid(
    models: Sequence[str | Path] | None,
    semantic: bool,
    overrides: Sequence[str],
    shared: Config,
) -> dict[str, Config]:
    """The configuration of each model, by name.

    Args:
        models: presets and files; None: what can be trained here.
        semantic: whether there are item vectors.
        overrides: `section.key=value`, over every preset.
        shared: the configuration whose data stages all models have.

    Raises:
        ValueError: two models of one name, or one that reads vectors where there are none.
    """
    if models is None:
        models = [BASELINE, LLM_ESR] if semantic else [BASELINE]
    grid: dict[str, Config] = {}
    for model in models:
        name = model_name(model)
        if name in SCORERS:
            raise ValueError(f"{model}: '{name}' is the name of a scorer that needs no training; rename the file")
        if name in grid:
            raise ValueError(f"two models are called '{name}'; rename one of the files")
        own = load_config(model, overrides)
        grid[name] = own.model_copy(update={section: getattr(shared, section) for section in _SHARED})
        if grid[name].needs_vectors and not semantic:
            raise ValueError(f"model '{name}' reads item vectors, and there are none. {what_is_missing()}")
    return grid


def what_is_missing() -> str:
    """Why only item ids can be learnt from, and what to give."""
    return (
        "There are no item texts and no item vectors, so only plain SASRec (item ids alone) can be trained. For "
        "LLM-ESR give an items table with text columns (--items items.parquet), or vectors (--item-embeddings "
        "vectors.npy, one row an item of the items table)."
    )


def primary_model(name: str | None, cells: Sequence[ModelId], finished: Sequence[ModelId] = ()) -> ModelId:
    """The model that `run.json` names: of this call's cells, or of those that the folder holds finished already."""
    # What is trained comes before what is not.
    cells = sorted(cells, key=lambda model: model.seed is None)
    known = [*cells, *(model for model in finished if model not in cells)]
    if name is None:
        trained = [model for model in cells if model.seed is not None]
        return next((model for model in known if model.name == LLM_ESR), (trained or cells)[-1])
    chosen = next((model for model in known if model.name == name), None)
    if chosen is None:
        names = ", ".join(dict.fromkeys(model.name for model in known))
        raise ValueError(f"primary model '{name}' is not in this run; it has: {names}")
    return chosen
