"""The commands that take a trained model elsewhere: export, serve."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from llm_esr.cli.models import ModelFolder, ModelOption, NoBlendOption, SeedOption, model_folder


def register(app: typer.Typer) -> None:
    """Add the commands of this module."""
    for command in (export, serve):
        app.command()(command)


def export(
    folder: ModelFolder,
    out: Annotated[Path, typer.Option("--out", "-o", help="The folder to make.")],
    to: Annotated[
        str, typer.Option("--to", metavar="onnx|torch|hub", help="The user encoder's format, or hub.")
    ] = "onnx",
    with_histories: Annotated[
        bool,
        typer.Option(
            "--with-histories", help="For hub: what each user met goes along, to serve known users. Personal data."
        ),
    ] = False,
    model: ModelOption = None,
    seed: SeedOption = None,
    no_blend: NoBlendOption = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace an earlier export.")] = False,
) -> None:
    """Write a model as files that need no llm-esr: the user encoder, the item vectors, the ids, the blend's tables.

    With --to hub: as a folder of the Hugging Face Hub, with a model card, which Recommender.from_pretrained opens.
    """
    from llm_esr.serving import Recommender  # noqa: PLC0415 (brings torch)
    from llm_esr.serving.export import export_model  # noqa: PLC0415

    recommender = Recommender.load(model_folder(folder, model, seed), device="cpu", blend=not no_blend, exact=True)
    made = export_model(recommender, out, to, with_histories=with_histories, overwrite=overwrite)
    size = sum(path.stat().st_size for path in made.iterdir())
    typer.echo(f"{recommender.name}: {recommender.data.n_items:,} items, {size / 1e6:,.1f} MB -> {made}")


def serve(
    folder: ModelFolder,
    host: Annotated[
        str, typer.Option("--host", help="The address to listen at; 0.0.0.0: all of this machine.")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option("--port", help="0: a free one.")] = 8000,
    watch: Annotated[
        float | None,
        typer.Option("--watch", metavar="SECONDS", help="Look so often whether another model lies there, and swap it."),
    ] = None,
    threads: Annotated[
        int | None, typer.Option("--threads", min=1, help="Of the scoring; default: one less than there are cores.")
    ] = None,
    max_body: Annotated[int, typer.Option("--max-body", help="Bytes of a request.")] = 1 << 20,
    max_history: Annotated[int, typer.Option("--max-history", help="Items of a history.")] = 1000,
    max_lists: Annotated[int, typer.Option("--max-lists", help="Lists of a request.")] = 256,
    model: ModelOption = None,
    seed: SeedOption = None,
    no_blend: NoBlendOption = False,
    exact: Annotated[bool, typer.Option("--exact", help="Score every item, however many there are.")] = False,
) -> None:
    """Serve a model over HTTP: /recommend, /similar, /health, /metrics, /docs. SIGHUP swaps it for a newer one."""
    try:
        import fastapi, prometheus_client, uvicorn  # noqa: E401, F401, PLC0415, I001 (an extra)
    except ImportError as error:
        raise ImportError(f"serving needs the package {error.name}: pip install 'llm-esr[serve]'") from None
    from llm_esr.serving.http.limits import Limits  # noqa: PLC0415
    from llm_esr.serving.http.server import serve as run_server  # noqa: PLC0415 (brings torch)

    run_server(
        model_folder(folder, model, seed),
        host=host,
        port=port,
        limits=Limits(body=max_body, history=max_history, lists=max_lists),
        blend=not no_blend,
        exact=exact,
        threads=threads,
        watched=watch,
        say=typer.echo,
    )
