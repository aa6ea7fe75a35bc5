"""The command of new items: add-items."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from llm_esr.cli.models import ModelFolder, ModelOption, SeedOption, model_folder
from llm_esr.cli.options import one_or_many
from llm_esr.files import printable


def register(app: typer.Typer) -> None:
    """Add the command of this module."""
    app.command()(add_items)


def add_items(
    folder: ModelFolder,
    items: Annotated[
        list[Path] | None,
        typer.Argument(metavar="[ITEMS...]", help="Tables of new items, as that of the others."),
    ] = None,
    vectors: Annotated[
        Path | None,
        typer.Option("--vectors", help="Their vectors; default: made by the encoder that made those of the others."),
    ] = None,
    name: Annotated[
        str | None, typer.Option("--name", help="What the addition is called; default: items-1 and so on.")
    ] = None,
    undo: Annotated[str | None, typer.Option("--undo", metavar="NAME", help="Take an addition away.")] = None,
    list_: Annotated[bool, typer.Option("--list", help="Show the additions.")] = False,
    model: ModelOption = None,
    seed: SeedOption = None,
) -> None:
    """Let a trained model recommend new items, by their texts, without training it again."""
    asked = [bool(items) or vectors is not None, undo is not None, list_]
    if sum(asked) != 1:
        raise ValueError("say what to do, in one way: a table of new items (or --vectors), --undo NAME, or --list")
    from llm_esr.serving import Recommender  # noqa: PLC0415 (brings torch)
    from llm_esr.serving.extensions import items_of, names_of, undo_addition  # noqa: PLC0415
    from llm_esr.serving.model_folders import find_model  # noqa: PLC0415

    where = find_model(model_folder(folder, model, seed))
    if list_:
        for one in names_of(where):
            typer.echo(printable(f"{one}: {items_of(where, one):,} items"))
        return
    if undo is not None:
        count = undo_addition(where, undo)
        typer.echo(f"{undo}: {count:,} items taken away from {where}")
        return
    before = Recommender.load(where)
    made = before.add_items(one_or_many(items), vectors=vectors, name=name)
    new = made.data.n_items - before.data.n_items
    typer.echo(f"{names_of(where)[-1]}: {new:,} new items, {made.data.n_items:,} in all -> {where}")
