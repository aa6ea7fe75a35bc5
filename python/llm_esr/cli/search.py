"""The command that searches for settings: tune."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Annotated

import typer

from llm_esr.cli.options import DataFolder, QuietOption, SetOption
from llm_esr.config import load_config
from llm_esr.config.search_space import read_space
from llm_esr.files import printable


def register(app: typer.Typer) -> None:
    """Add the commands of this module."""
    app.command()(tune)


def tune(
    folder: DataFolder,
    space: Annotated[
        Path, typer.Option("--space", metavar="FILE", help="YAML: a setting's range or choices on each line.")
    ],
    out: Annotated[Path, typer.Option("--out", "-o", help="The search's folder.")],
    trials: Annotated[int, typer.Option("--trials", help="Trainings in all, those of earlier calls included.")] = 20,
    model: Annotated[
        str, typer.Option("--model", "--config", metavar="PRESET|FILE", help="What the settings are laid over.")
    ] = "llm-esr",
    maximize: Annotated[
        str,
        typer.Option(
            "--maximize",
            metavar="FIGURE",
            help="Of validation: a metric (ndcg@10, hr@20, mrr@10), a group (tail_item), or both (tail_item.hr@20).",
        ),
    ] = "ndcg@10",
    pruner: Annotated[
        str, typer.Option("--pruner", metavar="median|hyperband|none", help="What stops unpromising trials.")
    ] = "median",
    seed: Annotated[int, typer.Option("--seed", min=0, help="Of the trials' settings and of every training.")] = 42,
    set_: SetOption = None,
    keep_all: Annotated[
        bool, typer.Option("--keep-all", help="Keep every trial's folder, not only the best one's.")
    ] = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Begin anew where another search lies.")] = False,
    quiet: QuietOption = False,
) -> None:
    """Search for settings: each trial trains a model and is judged on validation; the best become a preset file.

    The space is a YAML file such as

        train.learning_rate: {low: 1e-4, high: 1e-2, log: true}

        model.blocks: {low: 1, high: 3, step: 1}

        model.width: [64, 128]

    A search that was stopped goes on with the same line; a larger --trials makes it longer.
    """
    # A wrong name or range is refused at once, before the seconds that torch takes to import.
    read_space(space, load_config(model, set_ or []))
    from llm_esr.pipeline.search import tune as search  # noqa: PLC0415 (brings torch)

    done = search(
        folder,
        space,
        out=out,
        trials=trials,
        model=model,
        maximize=maximize,
        pruner=pruner,
        seed=seed,
        overrides=set_ or [],
        keep_all=keep_all,
        overwrite=overwrite,
        progress=not quiet,
    )
    done.print_table()
    if done.page is not None:
        typer.echo(printable(f"plots: {done.page}"))
    typer.echo(printable(f"train the best with: llm-esr run --models {shlex.quote(str(done.preset))} ..."))
