"""The commands of single stages: prepare, convert, embed, index, train."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from llm_esr.cli.options import (
    ConfigOption,
    DataFolder,
    OverwriteOption,
    QuietOption,
    SetOption,
    data_folder,
    names,
    one_or_many,
    settings_from,
    stage_config,
    with_data_options,
)
from llm_esr.cli.similar_users import print_similar_users
from llm_esr.config.layers import as_overrides
from llm_esr.files import printable

InteractionFiles = Annotated[
    list[Path],
    typer.Argument(metavar="INTERACTIONS...", help="CSV, TSV (.gz), Parquet or a folder of it, JSON lines, inter.txt."),
]
ItemFiles = Annotated[list[Path] | None, typer.Option("--items", help="The items table; may be given many times.")]


def register(app: typer.Typer) -> None:
    """Add the commands of this module."""
    for command in (prepare, convert, embed, index, train):
        app.command()(command)


@with_data_options
def prepare(
    interactions: InteractionFiles,
    out: Annotated[Path, typer.Option("--out", "-o", help="The data folder to make.")],
    items: ItemFiles = None,
    config: ConfigOption = None,
    set_: SetOption = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace a data set of another source.")] = False,
    **data: Any,
) -> None:
    """Clean, filter, order, number and split a table of interactions."""
    settings = stage_config(config, set_, settings_from(**data))
    from llm_esr.data import prepare as make  # noqa: PLC0415 (brings polars)
    from llm_esr.data.row_summary import row_summary  # noqa: PLC0415

    made = make(one_or_many(interactions), items=one_or_many(items), out=out, config=settings.data, overwrite=overwrite)
    typer.echo(
        f"{made.n_users:,} users, {made.n_items:,} items, {made.n_interactions:,} interactions, split {made.split} "
        f"-> {out}"
    )
    for line in row_summary(made):
        typer.echo(printable(line))


def convert(
    folder: Annotated[Path, typer.Argument(help="The authors' folder, with inter.txt and the pickles of vectors.")],
    out: Annotated[Path, typer.Option("--out", "-o", help="The data folder to make.")],
    quiet: QuietOption = False,
) -> None:
    """Make a data folder of the files that the paper's authors give out; nothing in their pickles is run."""
    from llm_esr.data.row_summary import row_summary  # noqa: PLC0415
    from llm_esr.files import read_record  # noqa: PLC0415 (brings NumPy)
    from llm_esr.published import convert as make  # noqa: PLC0415 (brings polars)

    made = make(folder, out=out, progress=not quiet)
    typer.echo(f"{made.n_users:,} users, {made.n_items:,} items, {made.n_interactions:,} interactions -> {out}")
    for line in row_summary(made):
        typer.echo(printable(line))
    for name in ("item_embeddings", "user_embeddings", "similar_users", "similar_items", "pca_items"):
        if (path := out / f"{name}.json").exists():
            rows, width = read_record(path, "shape")["shape"]
            typer.echo(f"{name}.npy: {rows:,} rows, {width} wide")


def embed(
    data: DataFolder,
    encoder: Annotated[
        str | None,
        typer.Option(
            "--encoder", help="lsa (no LLM), sentence-transformers:NAME_OR_FOLDER, openai:MODEL@URL, or file:PATH."
        ),
    ] = None,
    item_embeddings: Annotated[
        Path | None, typer.Option("--item-embeddings", help="Item vectors: a file, or a folder of Parquet parts.")
    ] = None,
    user_embeddings: Annotated[Path | None, typer.Option("--user-embeddings", help="User vectors from a file.")] = None,
    tune: Annotated[
        str | None,
        typer.Option("--tune", metavar="none|attributes", help="Tune the encoder first, on the items' attributes."),
    ] = None,
    tune_level: Annotated[
        str | None, typer.Option("--tune-level", metavar="head|layers|lora", help="What is trained. Default: head.")
    ] = None,
    tune_loss: Annotated[
        str | None, typer.Option("--tune-loss", metavar="infonce|soft-targets", help="Default: infonce.")
    ] = None,
    attributes: Annotated[
        str | None,
        typer.Option("--attributes", metavar="COLUMN,COLUMN", help="Columns of the attributes. Default: all texts."),
    ] = None,
    config: ConfigOption = None,
    set_: SetOption = None,
    quiet: QuietOption = False,
) -> None:
    """Turn item texts into vectors, and users' training items into user vectors."""
    options = {"tune": tune, "tune_level": tune_level, "tune_loss": tune_loss, "tune_attributes": names(attributes)}
    given = {name: value for name, value in options.items() if value is not None}
    settings = stage_config(config, [*as_overrides({"embed": given}), *(set_ or [])])
    if encoder is not None and item_embeddings is not None:
        raise ValueError("--encoder and --item-embeddings were both given; item vectors have one source")
    if item_embeddings is not None:
        encoder = f"file:{item_embeddings}"
    from llm_esr.semantics import embed as make  # noqa: PLC0415 (brings scikit-learn)
    from llm_esr.semantics.embed import vector_variety  # noqa: PLC0415

    folder = data_folder(data)
    made = make(folder, encoder, user_embeddings=user_embeddings, config=settings.embed, progress=not quiet)
    assert made.item_embeddings is not None
    items, width = made.item_embeddings.shape
    typer.echo(f"{items:,} item vectors, {width} wide, and {made.n_users:,} user vectors -> {folder}")
    typer.echo(f"item vectors: {vector_variety(made)}")
    if settings.embed.tune != "none":
        from llm_esr.semantics.tuned_encoder import tuning_lines  # noqa: PLC0415

        for line in tuning_lines(made.folder):
            typer.echo(printable(line))


def index(
    data: DataFolder,
    k: Annotated[int | None, typer.Option("--k", "-k", help="Similar users of each user.", show_default=False)] = None,
    users_by: Annotated[
        str | None,
        typer.Option(
            "--users-by",
            metavar="text|collaborative|both",
            help="What users are compared by: their texts, the user vectors of --model, or both. Default: text.",
        ),
    ] = None,
    model: Annotated[
        str | None, typer.Option("--model", metavar="FOLDER", help="The trained model: its folder, or a run's.")
    ] = None,
    teacher_min_history: Annotated[
        int | None,
        typer.Option(
            "--teacher-min-history", help="Users with fewer training items are nobody's similar user. Default: 1."
        ),
    ] = None,
    method: Annotated[
        str | None,
        typer.Option(
            "--method",
            metavar="auto|exact|screened|lists|hnswlib|torch",
            help="How to search. Default: auto, exact up to 150,000 users or items and lists above.",
        ),
    ] = None,
    recall: Annotated[
        float | None,
        typer.Option("--recall", help="Share of the exact neighbours that lists and hnswlib find. Default: .99."),
    ] = None,
    explain: Annotated[
        str | None,
        typer.Option("--explain", metavar="USER", help="Show a user and its five most similar users in words."),
    ] = None,
    threads: Annotated[
        int, typer.Option("--threads", min=0, max=1024, help="0: all cores. The result does not depend on it.")
    ] = 0,
    config: ConfigOption = None,
    set_: SetOption = None,
    quiet: QuietOption = False,
) -> None:
    """Find the similar users of every user and the nearest items of every item.

    --explain alone shows what the folder holds, whatever settings it was found with, and finds neighbours only where
    there are none that fit its vectors.
    """
    options = {"similar_users": k, "users_by": users_by, "model": model, "teacher_min_history": teacher_min_history,
               "method": method, "recall": recall}  # fmt: skip
    given = {name: value for name, value in options.items() if value is not None}
    settings = stage_config(config, [*as_overrides({"index": given}), *(set_ or [])]).index
    from llm_esr.data import Dataset  # noqa: PLC0415 (brings polars)
    from llm_esr.retrieval import COMPARED_BY, index_fresh, neighbours_match  # noqa: PLC0415
    from llm_esr.retrieval import index as make  # noqa: PLC0415

    made = Dataset.open(data_folder(data))
    if explain is not None:
        from llm_esr.serving.similar_users import user_number  # noqa: PLC0415 (brings torch)

        user_number(made, explain)  # an unknown user is refused before neighbours are searched
    as_is = explain is not None and not settings.model_fields_set
    if not (as_is and made.similar_users is not None and neighbours_match(made)):
        collaborative = None
        if settings.users_by != "text":
            from llm_esr.serving.user_vectors import collaborative_vectors  # noqa: PLC0415 (brings torch)

            collaborative = collaborative_vectors(made, settings)
        say = None if quiet else typer.echo
        fresh = "fresh: " if index_fresh(made, settings, collaborative=collaborative) else ""
        made = make(made, config=settings, collaborative=collaborative, threads=threads, progress=not quiet, say=say)
        assert made.similar_users is not None
        by, each = COMPARED_BY[settings.users_by], f"{made.similar_users.shape[1]:,} similar users each"
        typer.echo(f"{fresh}{each} of {made.n_users:,}, by {by} -> {made.folder}")
    if explain is not None:
        print_similar_users(made, explain)


def train(
    data: DataFolder,
    config: ConfigOption = None,
    set_: SetOption = None,
    out: Annotated[
        Path | None, typer.Option("--out", "-o", help="The model folder; default: models/NAME/SEED of the run.")
    ] = None,
    name: Annotated[str | None, typer.Option("--name", help="Its name in tables; default: the preset's.")] = None,
    seed: Annotated[int | None, typer.Option("--seed", help="Short for --set train.seed=N.")] = None,
    epochs: Annotated[int | None, typer.Option("--epochs", help="Short for --set train.epochs=N.")] = None,
    start_from: Annotated[
        str | None,
        typer.Option(
            "--start-from",
            metavar="FOLDER|preset:NAME",
            help="Begin with a trained model, also one of older data.",
        ),
    ] = None,
    overwrite: OverwriteOption = False,
    restart: Annotated[bool, typer.Option("--restart", help="Begin anew in place of going on.")] = False,
    quiet: QuietOption = False,
) -> None:
    """Train one model on a prepared data folder."""
    overrides = list(set_ or [])
    given = (("seed", seed), ("epochs", epochs), ("start_from", start_from))
    overrides += [f"train.{key}={value}" for key, value in given if value is not None]
    settings = stage_config(config, overrides)
    from llm_esr.config import model_name  # noqa: PLC0415
    from llm_esr.training import train as make  # noqa: PLC0415 (brings torch)
    from llm_esr.world import is_first_process  # noqa: PLC0415

    model = make(
        data_folder(data),
        config=settings,
        name=name or model_name(config or "default"),
        out=out,
        overwrite=overwrite,
        resume=not restart,
        progress=not quiet,
    )
    if is_first_process():
        typer.echo(f"-> {model.folder}")
