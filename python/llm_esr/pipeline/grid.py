"""What a run trains: models by name, each with its whole configuration, times seeds."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from llm_esr.config import OTHER_MODELS, Config, load_config, load_other, model_name
from llm_esr.config.layers import DEFAULT, SHARED
from llm_esr.config.parts import SCORERS
from llm_esr.pipeline.run_folder import ModelId

BASELINE = "sasrec"


def model_grid(
    models: Sequence[str | Path] | None,
    semantic: bool,
    overrides: Sequence[str],
    shared: Config,
) -> dict[str, Config]:
    """The configuration of each model, by name, those that another one starts from before it.

    Args:
        models: presets and files; None: what can be trained here.
        semantic: whether there are item vectors.
        overrides: `section.key=value`, over every preset.
        shared: the configuration whose data stages all models have.

    Raises:
        ValueError: two models of one name, or one that reads vectors where there are none.
    """
    if models is None:
        models = [BASELINE, DEFAULT] if semantic else [BASELINE]
    sources: dict[str, str | Path] = {}
    for model in models:
        name = model_name(model)
        if name in SCORERS:
            raise ValueError(f"{model}: '{name}' is the name of a scorer that needs no training; rename the file")
        if name in sources:
            raise ValueError(f"two models are called '{name}'; rename one of the files")
        sources[name] = model
    grid: dict[str, Config] = {}

    def add(name: str, above: tuple[str, ...], setting: str | None = None) -> None:
        if name in above:
            raise ValueError(f"models start from each other in a circle: {' -> '.join([*above, name])}")
        if setting is None or name in sources:
            own = load_config(sources.get(name, name), overrides)
        else:
            # What names another model is asked of those that were named, not of what they start from.
            own = load_other(setting, name, [one for one in overrides if one.partition("=")[0] not in OTHER_MODELS])
        for other_setting, other in own.other_presets.items():
            add(other, (*above, name), other_setting)
        if name not in grid:
            grid[name] = own.model_copy(update={section: getattr(shared, section) for section in SHARED})
        if grid[name].needs_vectors and not semantic:
            raise ValueError(f"model '{name}' reads item vectors, and there are none. {what_is_missing()}")

    for name in sources:
        add(name, ())
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
        return next((model for model in known if model.name == DEFAULT), (trained or cells)[-1])
    chosen = next((model for model in known if model.name == name), None)
    if chosen is None:
        names = ", ".join(dict.fromkeys(model.name for model in known))
        raise ValueError(f"primary model '{name}' is not in this run; it has: {names}")
    return chosen
