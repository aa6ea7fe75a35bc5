"""The commands of trained models: evaluate, recommend, similar."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, cast

import typer
from rich.cells import cell_len
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from llm_esr.cli.options import SetOption, data_folder, ids, numbers
from llm_esr.cli.similar_users import name_in_words
from llm_esr.cli.terminal import line_length, shortened
from llm_esr.config import load_config
from llm_esr.config.layers import as_overrides
from llm_esr.files import atomic_path, printable

if TYPE_CHECKING:
    import polars as pl

    from llm_esr.data import Dataset
    from llm_esr.serving import Recommender
    from llm_esr.serving.similar_items import SimilarItems

Part = Literal["validation", "test"]
ModelFolder = Annotated[Path, typer.Argument(metavar="FOLDER", help="A run folder, or one model's.")]
ModelOption = Annotated[str | None, typer.Option("--model", help="Which model of a run; default: its primary one.")]
SeedOption = Annotated[int | None, typer.Option("--seed", help="Which seed of that model.")]
NoBlendOption = Annotated[bool, typer.Option("--no-blend", help="The networks alone, without neighbour scorers.")]
KeepSeenOption = Annotated[bool, typer.Option("--keep-seen", help="Leave items in that a user has met.")]
# How what makes items similar is called in a line, where its name does not read well.
_BY = {"trained": "the model's vectors"}


def register(app: typer.Typer) -> None:
    """Add the commands of this module."""
    for command in (evaluate, recommend, similar):
        app.command()(command)


def evaluate(
    folder: ModelFolder,
    k: Annotated[str | None, typer.Option("--k", help="Cut-offs, comma-separated, such as 5,10,20.")] = None,
    part: Annotated[str, typer.Option("--part", metavar="test|validation", help="What is predicted.")] = "test",
    keep_seen: KeepSeenOption = False,
    candidates: Annotated[
        int | None, typer.Option("--candidates", help="Rank against so many sampled items; 0: the whole catalogue.")
    ] = None,
    targets: Annotated[
        str | None, typer.Option("--targets", metavar="all|known", help="known: only targets met in training.")
    ] = None,
    model: ModelOption = None,
    seed: SeedOption = None,
    no_blend: NoBlendOption = False,
    ranks: Annotated[
        Path | None,
        typer.Option("--ranks", metavar="FILE.parquet", help="Also write where each user's target stands, as Parquet."),
    ] = None,
    set_: SetOption = None,
) -> None:
    """Evaluate a model, or all models of a run, beside popularity; the figures go into metrics.json.

    The paper's protocol, with the thresholds of the data set (here Fashion's):

        --candidates 100 --set evaluate.group_rule=paper

        --set evaluate.tail_item_below=4 --set evaluate.tail_user_below=3

    To the letter of the authors' code also:

        --set evaluate.ties=strict --set evaluate.tail_item_skips_first=true
    """
    if keep_seen and candidates is None:
        candidates = 0  # only a ranking of the whole catalogue can leave earlier items out
    changes: dict[str, Any] = {"k": numbers(k, "--k"), "candidates": candidates, "targets": targets}
    changes = {name: value for name, value in changes.items() if value is not None}
    if keep_seen:
        changes["keep_seen"] = True
    if part not in {"validation", "test"}:
        raise ValueError(f"--part {part!r}: expected test or validation")
    # A wrong setting is refused at once, before the seconds that torch takes to import.
    load_config(None, [*as_overrides({"evaluate": changes}), *(set_ or [])])
    from llm_esr.pipeline.reports import evaluate_folder  # noqa: PLC0415 (brings torch)
    from llm_esr.world import is_first_process  # noqa: PLC0415

    report = evaluate_folder(
        folder,
        part=cast(Part, part),
        name=model,
        seed=seed,
        changes=changes,
        overrides=set_ or [],
        blend=not no_blend,
        ranks=ranks,
    )
    if not is_first_process():
        return
    report.table()
    if ranks is not None:
        typer.echo(f"ranks by user -> {ranks}")


def _say_how(recommender: Recommender) -> None:
    """Say on stderr where lists came from an approximate search, and what it finds."""
    told = recommender.searched()
    if told is not None:
        typer.echo(f"{told}; --exact scores every item", err=True)


def recommend(
    folder: ModelFolder,
    user: Annotated[list[str] | None, typer.Option("--user", help="A known user; may be given many times.")] = None,
    history: Annotated[
        list[str] | None,
        typer.Option(
            "--history",
            help="Items of somebody new, oldest first: i3,i9; an id with a comma is quoted as in CSV.",
        ),
    ] = None,
    users: Annotated[
        str | None, typer.Option("--users", metavar="FILE|all", help="A file with a user a line, or all; with --out.")
    ] = None,
    out: Annotated[Path | None, typer.Option("--out", "-o", help="Write a Parquet file in place of a table.")] = None,
    k: Annotated[int, typer.Option("--k", "-k", help="Recommendations for each.")] = 10,
    include: Annotated[str | None, typer.Option("--include", help="Only these items, comma-separated.")] = None,
    exclude: Annotated[str | None, typer.Option("--exclude", help="None of these items, comma-separated.")] = None,
    keep_seen: KeepSeenOption = False,
    skip_unknown: Annotated[
        bool, typer.Option("--skip-unknown", help="Pass over users and items that the model does not know.")
    ] = False,
    model: ModelOption = None,
    seed: SeedOption = None,
    no_blend: NoBlendOption = False,
    explain: Annotated[
        bool, typer.Option("--explain", help="Say of each item which items of the history speak for it, and how.")
    ] = False,
    shard: Annotated[
        str | None,
        typer.Option(
            "--shard",
            metavar="N/COUNT",
            help="One share of --users, such as 3/8; --out is the folder of the parts.",
        ),
    ] = None,
    exact: Annotated[
        bool, typer.Option("--exact", help="Score every item, where a large catalogue would be searched approximately.")
    ] = False,
) -> None:
    """Recommend items to known users, or to somebody new by what they met."""
    asked = [bool(user), bool(history), users is not None]
    if sum(asked) != 1:
        raise ValueError(
            "say for whom, in one way: --user u17, --history i3,i9, or --users FILE (or all) with --out recs.parquet"
        )
    if users is not None and out is None:
        raise ValueError("--users needs --out FILE.parquet to write to")
    if shard is not None and users is None:
        raise ValueError("--shard goes with --users FILE (or all): it shares many users out")
    from llm_esr.serving import Recommender, read_user_ids  # noqa: PLC0415 (brings torch)

    recommender = Recommender.load(model_folder(folder, model, seed), blend=not no_blend, exact=exact)
    options: dict[str, Any] = {
        "include": ids(include, "--include"),
        "exclude": ids(exclude, "--exclude"),
        "keep_seen": keep_seen,
        "skip_unknown": skip_unknown,
    }
    if users is not None:
        assert out is not None
        if explain:
            raise ValueError("--explain goes with --user or --history, not with --users: it reads each list by itself")
        columns = ["user_id", recommender.data.metadata["config"]["user_column"]]
        wanted = "all" if users == "all" else read_user_ids(users, columns)
        rows = recommender.recommend_to(out, wanted, k, shard=shard, **options)
        typer.echo(f"{rows:,} rows -> {out}{'' if shard is None else f' (shard {shard})'}")
        _say_how(recommender)
        return
    histories = None if not history else [ids(items, "--history") for items in history]
    found = recommender.recommend(users=user or None, histories=histories, k=k, explain=explain, **options)
    _say_how(recommender)
    if out is not None:
        if out.suffix != ".parquet":
            raise ValueError(f"--out {out}: recommendations are written as Parquet; give a name that ends in .parquet")
        from llm_esr.files.parquet import write_parquet  # noqa: PLC0415 (brings polars)

        with atomic_path(out) as temporary:
            write_parquet(found, temporary)
        typer.echo(f"{len(found):,} rows -> {out}")
    elif explain:
        _print_explained(found)
    else:
        _print(found)


def similar(
    folder: Annotated[Path, typer.Argument(metavar="FOLDER", help="A run folder, a data folder, or one model's.")],
    items: Annotated[list[str], typer.Argument(metavar="ITEM...", help="Items, by their ids.")],
    k: Annotated[int, typer.Option("--k", "-k", help="Similar items of each.")] = 10,
    by: Annotated[
        str | None,
        typer.Option(
            "--by",
            metavar="text|trained|co-occurrence",
            help="What makes items similar: their texts, what the network learned, or who met them. Default: text, "
            "where the data have vectors of texts.",
        ),
    ] = None,
    skip_unknown: Annotated[bool, typer.Option("--skip-unknown", help="Pass over items that are not known.")] = False,
    model: ModelOption = None,
    seed: SeedOption = None,
) -> None:
    """Show the items that are most like some items, with their cosines.

    By text and by co-occurrence a folder of data is enough; by trained vectors it takes a model.
    """
    source = _compares(folder, model, seed, by)
    settled = source.settled(by)
    found = source.frame(list(dict.fromkeys(items)), k, settled, skip_unknown=skip_unknown)
    if found.is_empty():
        return  # a warning has said why
    data = source.data
    titles = data.titles()
    console = Console()
    for (name,), rows in found.group_by("similar_to", maintain_order=True):
        start = f"similar by {_BY.get(settled, settled)} to "
        title = None if titles is None else titles[data.item_index[name] - 1]
        line = f"{start}{name_in_words(name, title, line_length(console) - len(start) - 1)}:"
        console.print(line, markup=False, highlight=False, soft_wrap=True)
        _print(rows.drop("similar_to"), one_list=True)


def _compares(folder: Path, model: str | None, seed: int | None, by: str | None) -> SimilarItems:
    """What compares a folder's items: its data alone where these are enough, so that no model needs to be there."""
    from llm_esr.data import Dataset  # noqa: PLC0415 (brings polars)
    from llm_esr.serving import Recommender  # noqa: PLC0415 (brings torch)
    from llm_esr.serving.similar_items import SimilarItems  # noqa: PLC0415

    inner = data_folder(folder)
    if model is None and seed is None and (inner / "dataset.json").exists():
        data = Dataset.open(inner)
        has_model = inner != folder and any(folder.glob("models/**/model.json"))
        if not has_model or by in {"text", "co-occurrence"} or (by is None and data.item_embeddings is not None):
            return SimilarItems(_with_additions(folder, data) if has_model else data)
    return Recommender.load(model_folder(folder, model, seed)).similar


def _with_additions(folder: Path, data: Dataset) -> Dataset:
    """The data of a run with the items that its primary model has gained, where it has such a model."""
    from llm_esr.serving.extensions import with_additions  # noqa: PLC0415 (brings torch)
    from llm_esr.serving.model_folders import find_model  # noqa: PLC0415

    try:
        primary = find_model(folder)
    except (FileNotFoundError, ValueError):
        return data  # several models, and none is the one that is meant
    return with_additions(primary, data)


def model_folder(folder: Path, name: str | None, seed: int | None) -> Path:
    """The folder itself, or within a run that of a model that is named."""
    if name is None and seed is None:
        return folder
    from llm_esr.pipeline.reports import chosen_models  # noqa: PLC0415 (brings torch)
    from llm_esr.pipeline.run_folder import RunFolder  # noqa: PLC0415

    run = RunFolder(folder)
    return run.model(chosen_models(run, name, seed)[0])


def _print_explained(found: pl.DataFrame) -> None:
    """List after list as lines: rank, title, and below why."""
    console = Console()
    before: Any = None
    for row in found.iter_rows(named=True):
        key = row[found.columns[0]]
        if before is None or key != before:
            console.print(printable(f"{found.columns[0]} {key}:"), markup=False, highlight=False)
        before = key
        name = f"{row['title']} ({row['item_id']})" if row.get("title") else row["item_id"]
        console.print(printable(f"  {row['rank']}. {name}"), markup=False, highlight=False, soft_wrap=True)
        for part in row["why"].split("; "):
            console.print(printable(f"       {part}"), markup=False, highlight=False, soft_wrap=True)


def _print(found: pl.DataFrame, *, one_list: bool = False) -> None:
    """One block a list: rank, item, score, title. `one_list`: there is one, and the first column is no list's owner."""
    import polars as pl  # noqa: PLC0415 (as the rest of this module does)

    from llm_esr.serving.ids import external_id  # noqa: PLC0415 (brings torch)

    first = found.columns[0]
    ids = [name for name in ("user_id", "item_id", "similar_to") if name in found.columns]
    found = found.with_columns(
        pl.Series(name, [external_id(one) for one in found[name]], dtype=pl.String) for name in ids
    )
    console = Console()
    # What the borders and the other columns leave to titles: a long one would take many lines.
    others = [[name, *map(_cell, found[name])] for name in found.columns if name != "title"]
    room = console.width - 1 - 3 * len(found.columns) - sum(max(map(cell_len, cells)) for cells in others)
    table = Table(show_header=True, header_style="bold")
    for column in found.columns:
        table.add_column(column, justify="right" if column in {"rank", "score"} else "left", overflow="fold")
    before: Any = None
    for row in found.iter_rows(named=True):
        if before is not None and row[first] != before and not one_list:
            table.add_section()
        cells = [shortened(_cell(value), room) if name == "title" else _cell(value) for name, value in row.items()]
        table.add_row(*(escape(cell) for cell in cells))
        before = row[first]
    console.print(table)


def _cell(value: Any) -> str:
    return f"{value:.3f}" if isinstance(value, float) else printable(value)
