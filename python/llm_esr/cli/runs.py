"""The commands that go over all stages: run, demo, report, doctor."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Annotated, Any

import typer

from llm_esr.cli.options import (
    OverwriteOption,
    QuietOption,
    SetOption,
    names,
    numbers,
    one_or_many,
    run_settings,
    settings_from,
    with_data_options,
)
from llm_esr.cli.stages import ItemFiles
from llm_esr.files import printable

OutOption = Annotated[Path, typer.Option("--out", "-o", help="The run folder.")]


def register(app: typer.Typer) -> None:
    """Add the commands of this module."""
    for command in (run, demo, report, doctor):
        app.command()(command)


@with_data_options
def run(
    out: OutOption,
    interactions: Annotated[
        list[Path] | None,
        typer.Argument(metavar="[INTERACTIONS]...", help="A table of interactions; none: go on with the run's data."),
    ] = None,
    items: ItemFiles = None,
    models: Annotated[
        str | None,
        typer.Option(
            "--models",
            help="Presets, YAML files, scorers such as neighbours, comma-separated; default: sasrec and llm-esr.",
        ),
    ] = None,
    seeds: Annotated[str, typer.Option("--seeds", help="Comma-separated; each model is trained with each.")] = "42",
    item_embeddings: Annotated[
        Path | None, typer.Option("--item-embeddings", help="Item vectors: .npy, Parquet, safetensors.")
    ] = None,
    user_embeddings: Annotated[
        Path | None, typer.Option("--user-embeddings", help="User vectors: .npy, Parquet, safetensors.")
    ] = None,
    encoder: Annotated[
        str | None,
        typer.Option(
            "--encoder",
            help="lsa (no LLM; default), sentence-transformers:NAME_OR_FOLDER, openai:MODEL@URL, or file:PATH.",
        ),
    ] = None,
    epochs: Annotated[int | None, typer.Option("--epochs", help="Short for --set train.epochs=N.")] = None,
    primary: Annotated[
        str | None, typer.Option("--primary", help="The model that the run folder stands for; default: llm-esr.")
    ] = None,
    config: Annotated[
        str | None, typer.Option("--config", metavar="FILE", help="A YAML file of settings over every model's preset.")
    ] = None,
    set_: SetOption = None,
    overwrite: OverwriteOption = False,
    quiet: QuietOption = False,
    **data: Any,
) -> None:
    """Do every stage for a grid of models and seeds, skip what is fresh, and print one table."""
    if encoder is not None and item_embeddings is not None:
        raise ValueError("--encoder and --item-embeddings were both given; item vectors have one source")
    settings = run_settings(config, settings_from(**data))
    if encoder is not None:
        settings["embed"] = {**settings.get("embed", {}), "encoder": encoder}
    chosen = numbers(seeds, "--seeds") or []
    _check_settings(names(models), settings, epochs, set_)
    from llm_esr.pipeline.runs import run as whole_run  # noqa: PLC0415 (brings torch)

    done = whole_run(
        one_or_many(interactions),
        items=one_or_many(items),
        out=out,
        models=names(models),
        seeds=chosen,
        item_embeddings=item_embeddings,
        user_embeddings=user_embeddings,
        config=settings,
        overrides=set_ or [],
        epochs=epochs,
        primary=primary,
        overwrite=overwrite,
        progress=not quiet,
    )
    if done.rows:
        done.print_table()
    typer.echo(
        printable(
            f"recommend with: llm-esr recommend {shlex.quote(str(out))} --user {shlex.quote(done.data.user_ids[0])}"
        )
    )


def demo(
    out: OutOption = Path("runs/demo"),
    seeds: Annotated[str, typer.Option("--seeds", help="Comma-separated.")] = "42",
    quick: Annotated[
        bool,
        typer.Option("--quick", help="A smaller shop, fewer epochs: about a minute, and figures that say less."),
    ] = False,
    set_: SetOption = None,
    overwrite: OverwriteOption = False,
    quiet: QuietOption = False,
) -> None:
    """Run everything on simulated data: SASRec and LLM-ESR, one table, three users in words."""
    chosen = numbers(seeds, "--seeds") or []
    _check_settings(None, {}, None, set_)
    from llm_esr.pipeline.demo import demo as whole_demo  # noqa: PLC0415

    done = whole_demo(out, seeds=chosen, quick=quick, overrides=set_ or [], overwrite=overwrite, progress=not quiet)
    done.print_table("simulated data; item vectors by lsa, no LLM")
    from llm_esr.pipeline.demo import in_words  # noqa: PLC0415

    typer.echo(in_words(done))


def report(
    folder: Annotated[Path, typer.Argument(metavar="RUN", help="A run folder.")],
    out: Annotated[
        Path | None, typer.Option("--out", "-o", help="The file; default: report.html in the folder.")
    ] = None,
) -> None:
    """Write one HTML file with a run's figures, plots, example users, data and settings; it needs no network."""
    from llm_esr.pipeline.web_page import write_page  # noqa: PLC0415 (brings torch)

    typer.echo(printable(str(write_page(folder, out))))


def _check_settings(
    models: list[str] | None, settings: dict[str, Any], epochs: int | None, set_: list[str] | None
) -> None:
    """Refuse a wrong model or setting at once, before the seconds that torch takes to import."""
    from llm_esr.config.layers import all_overrides, shared_config, wanted_models  # noqa: PLC0415

    shared_config(wanted_models(models)[1], all_overrides(settings, {}, epochs, None, set_ or []))


def doctor(
    folder: Annotated[
        Path | None, typer.Argument(help="A run, data or model folder to check: every file, every checksum.")
    ] = None,
) -> None:
    """Say what is installed and found here, and whether a folder's files are whole."""
    from llm_esr.pipeline.doctor import doctor as examine  # noqa: PLC0415

    findings = examine(folder)
    for finding in findings:
        typer.echo(printable(finding))
    if any(finding.bad for finding in findings):
        raise typer.Exit(1)
