"""The commands that take a trained model elsewhere: export, serve."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from llm_esr.cli.models import ModelFolder, ModelOption, NoBlendOption, SeedOption, model_folder


def register(app: typer.Typer) -> None:
    """Add the commands of this module."""
    for command in (export,):
        app.command()(command)


def export(
    folder: ModelFolder,
    out: Annotated[Path, typer.Option("--out", "-o", help="The folder to make.")],
    to: Annotated[str, typer.Option("--to", metavar="onnx|torch", help="The user encoder's format.")] = "onnx",
    model: ModelOption = None,
    seed: SeedOption = None,
    no_blend: NoBlendOption = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace an earlier export.")] = False,
) -> None:
    """Write a model as files that need no llm-esr: the user encoder, the item vectors, the ids, the blend's tables."""
    from llm_esr.serving import Recommender  # noqa: PLC0415 (brings torch)
    from llm_esr.serving.export import export_model  # noqa: PLC0415

    recommender = Recommender.load(model_folder(folder, model, seed), device="cpu", blend=not no_blend, exact=True)
    made = export_model(recommender, out, to, overwrite=overwrite)
    size = sum(path.stat().st_size for path in made.iterdir())
    typer.echo(f"{recommender.name}: {recommender.data.n_items:,} items, {size / 1e6:,.1f} MB -> {made}")
