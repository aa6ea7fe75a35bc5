"""`run`: every stage, from a table of interactions to one table of figures.

    interactions, items --prepare--> data/ --embed--> vectors --index--> similar users
        --train, for each model and seed--> models/<name>/<seed>/ --evaluate--> metrics.json, tables.md

What is fresh is skipped, what is unfinished goes on, and a trained model is never replaced without `overwrite`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console

from llm_esr.config import Config, model_name
from llm_esr.config.layers import Settings, all_overrides, says_epochs, shared_config, wanted_models
from llm_esr.doors import door
from llm_esr.evaluation import print_tables, render
from llm_esr.files import folded, given_path, printable
from llm_esr.files.temporaries import tidy
from llm_esr.pipeline.grid import model_grid, primary_model, what_is_missing
from llm_esr.pipeline.reports import vector_notes, write_tables
from llm_esr.pipeline.run_folder import ModelId, RunFolder
from llm_esr.pipeline.stages import Say, Stages
from llm_esr.serving import Recommender
from llm_esr.training import is_finished, with_limits_as_trained
from llm_esr.world import refuse_several

if TYPE_CHECKING:
    from llm_esr.data import Dataset
    from llm_esr.training import Callback


@dataclass(frozen=True)
class Run:
    """What a run left behind."""

    folder: Path
    data: Dataset
    models: list[ModelId]
    primary: ModelId
    rows: list[dict[str, Any]]  # of metrics.json; empty without a test part

    def table(self) -> str:
        """The figures as text; empty without a test part."""
        return render(self.rows, notes=vector_notes(RunFolder(self.folder))) if self.rows else ""

    def print_table(self, label: str | None = None) -> None:
        """Print the figures, under a label where one is given."""
        console = Console()
        if label is not None:
            console.print(label, markup=False, highlight=False)
        print_tables(self.rows, console, notes=vector_notes(RunFolder(self.folder)))

    def recommender(self, name: str | None = None, seed: int | None = None) -> Recommender:
        """A model, ready to evaluate and recommend; default: the primary one."""
        name = name or self.primary.name
        same = [model for model in self.models if model.name == name and seed in (None, model.seed)]
        # Of several seeds the primary model's.
        same.sort(key=lambda model: model.seed != self.primary.seed)
        wanted = same[0] if same else ModelId(name, seed)
        if wanted not in self.models:
            raise ValueError(f"this run has no model {wanted}; it has: {', '.join(map(str, self.models))}")
        return Recommender.load(RunFolder(self.folder).model(wanted))


@door
def run(
    interactions: Any = None,
    *,
    items: Any = None,
    out: str | Path,
    models: Sequence[str | Path] | None = None,
    seeds: Sequence[int] = (42,),
    item_embeddings: str | Path | None = None,
    user_embeddings: str | Path | None = None,
    config: Settings | None = None,
    overrides: Sequence[str] = (),
    epochs: int | None = None,
    primary: str | None = None,
    overwrite: bool = False,
    callbacks: Sequence[Callback] = (),
    progress: bool = True,
    say: Say | None = None,
    **settings: Any,
) -> Run:
    """Prepare, embed, index, train and evaluate; skip what is fresh.

    Args:
        interactions: as for `prepare`; None: go on with the data that the run folder holds.
        items: the items table, as for `prepare`.
        out: the run folder.
        models: presets, YAML files, and scorers that need no training (`neighbours`, `popularity`, `transitions`,
            `co-occurrence`, `text`, `text-max`, `ease`, `prefixes`, `similar-users`); default: `sasrec`, and
            `llm-esr` where there are texts or vectors.
        seeds: each model is trained once with each.
        item_embeddings: a file of item vectors, in place of an encoder.
        user_embeddings: a file of user vectors.
        config: sections laid over every model's preset, such as `{"train": {"epochs": 20}}`.
        overrides: `section.key=value` strings, on top of all, as the command line has them.
        epochs: short for `train.epochs`; required with `split="none"`, where nothing can stop the training early.
        primary: the model that `Recommender.load(out)` opens; default: `llm-esr`, else the last one.
        overwrite: replace trained models that were made with other settings or data.
        callbacks: passed to every training.
        progress: show bars and a line for each stage.
        say: takes the lines in place of the terminal.
        settings: single settings of the data by their plain name, such as `split="temporal"`, on top of `config`.

    Raises:
        ValueError: settings that do not fit, a model that needs vectors where there are none, or a trained model
            with other settings.
        FileNotFoundError: an input that does not exist.
    """
    refuse_several("run", "prepare, embed and index in one, then train each model with torchrun")
    folder = RunFolder(given_path(out))
    scorers, models = wanted_models(models)
    overrides = all_overrides(config, settings, epochs, item_embeddings, overrides)
    shared = shared_config(models, overrides)
    if shared.data.split == "none" and not says_epochs(overrides, models):
        raise ValueError(
            "split none keeps no validation part, so nothing stops the training early: say how long with --epochs N "
            "(the model.json of a run with validation names its best epoch)"
        )
    stages = Stages(folder, overwrite, progress, say or _teller(progress))
    data = stages.prepare(interactions, items, shared)
    data = stages.embed(data, shared, user_embeddings, as_is=interactions is None)
    data = stages.index(data, shared, as_is=interactions is None)
    tidy(data.folder)  # of a stage that was killed once all was written
    semantic = data.item_embeddings is not None
    if models is None and not semantic:
        stages.say(what_is_missing())
    grid = model_grid(models, semantic, overrides, shared)
    cells = [ModelId(name, int(seed)) for name in grid for seed in seeds]
    untrained = [ModelId(name, None) for name in dict.fromkeys(scorers)]
    if not cells and (grid or not untrained):
        raise ValueError("no models or no seeds: name at least one of each")
    cells = [*untrained, *cells]
    chosen = primary_model(primary, cells, list(folder.finished()))
    judged = data.split != "none" and bool((data.targets("test") > 0).any())
    configs = {cell: _with_seed(grid[cell.name], cell.seed) for cell in cells if cell.seed is not None}
    named = {model_name(model) for model in models or grid}
    for cell, own in configs.items():
        if cell.name not in named:
            # `--epochs` is meant for what was asked for: what that starts from is taken as it was trained.
            configs[cell] = with_limits_as_trained(data, own, folder.model(cell))
    for cell, own in configs.items():
        # A refusal comes before the first training, not after hours of it.
        is_finished(data, own, folder.model(cell), overwrite=overwrite)
    for cell, own in configs.items():
        model = stages.train(data, cell, own, callbacks)
        if judged:
            stages.evaluate(data, cell, model, own)
    # A scorer is judged as the model that the run stands for.
    common = configs.get(chosen, next(iter(configs.values()), shared))
    for cell in untrained:
        model = stages.open_scorer(data, cell, common)
        if judged:
            stages.evaluate(data, cell, model, common)
    if not judged:
        why = "split none keeps nothing to judge by" if data.split == "none" else "no user has a test item"
        stages.say(f"evaluate   nothing: {why}")
    if judged:
        stages.compare(data, chosen, common)
    folder.update(primary={"name": chosen.name, "seed": chosen.seed})
    rows = write_tables(folder) if judged else []
    stages.report()
    return Run(folder.path, data, cells, chosen, rows)


def _with_seed(config: Config, seed: int) -> Config:
    return config.model_copy(update={"train": config.train.model_copy(update={"seed": seed})})


def _teller(progress: bool) -> Say:
    if not progress:
        return lambda line: None
    console = Console(stderr=True)

    def say(line: str) -> None:
        text = printable(line)
        text = folded(text, console.width, indent=11) if console.is_terminal else text
        console.print(text, markup=False, highlight=False, soft_wrap=True)

    return say
