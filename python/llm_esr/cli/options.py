"""Options that several commands share, and the options that are made from `DataConfig`."""

from __future__ import annotations

import csv
import inspect
import json
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, TypeVar

import typer

from llm_esr.config import Config, DataConfig, choices, load_config
from llm_esr.config.yaml_text import read_yaml
from llm_esr.files import given_path

Command = TypeVar("Command", bound=Callable[..., None])

ConfigOption = Annotated[
    str | None, typer.Option("--config", metavar="NAME|FILE", help="A preset's name or a YAML file.")
]
SetOption = Annotated[
    list[str] | None, typer.Option("--set", metavar="SECTION.KEY=VALUE", help="One setting; may be given many times.")
]
QuietOption = Annotated[bool, typer.Option("--quiet", "-q", help="No progress.")]
OverwriteOption = Annotated[
    bool, typer.Option("--overwrite", help="Replace a model, finished or not, that was made with other settings.")
]
DataFolder = Annotated[
    Path, typer.Argument(help="A data folder (or the run folder that holds one).", show_default=False)
]


def settings_from(**options: Any) -> dict[str, Any]:
    """The data options that were given, as values of the section `data`."""
    given = {name: value for name, value in options.items() if value is not None}
    if isinstance(given.get("text_columns"), str):
        given["text_columns"] = [name.strip() for name in given["text_columns"].split(",") if name.strip()]
    for name in ("timestamp_column", "order_column"):
        if given.get(name) in {"", "none"}:
            given[name] = None
    for name in ("validation_from", "test_from"):
        if isinstance(given.get(name), str) and given[name].lstrip("-").isdigit():
            given[name] = int(given[name])
    return given


def stage_config(config: str | None, overrides: list[str] | None, data: dict[str, Any] | None = None) -> Config:
    """The configuration of a single stage: preset or file, then data options, then `--set`."""
    options = [f"data.{name}={json.dumps(value)}" for name, value in (data or {}).items()]
    return load_config(config, [*options, *(overrides or [])])


def run_settings(config: str | None, data: dict[str, Any]) -> dict[str, Any]:
    """What `run` lays over every model's preset: the file of `--config`, then the data options."""
    settings = _read_settings(config) if config is not None else {}
    if data:
        settings["data"] = {**settings.get("data", {}), **data}
    return settings


def _read_settings(path: str) -> dict[str, Any]:
    if not path.endswith((".yaml", ".yml")):
        raise ValueError(f"--config {path}: `run` expects a YAML file of settings here; presets are for --models")
    if not given_path(path).exists():
        raise FileNotFoundError(f"configuration {path} does not exist")
    values = {name: value for name, value in read_yaml(given_path(path)).items() if value is not None}
    if "preset" in values:
        raise ValueError(f"{path} names the preset {values['preset']!r}: it describes a model; give it to --models")
    return values


def data_folder(folder: Path) -> Path:
    """The data folder itself, or the one of a run folder."""
    return folder / "data" if (folder / "data" / "dataset.json").exists() else folder


def numbers(text: str | None, option: str) -> list[int] | None:
    """`5,10,20` as integers."""
    if text is None:
        return None
    try:
        return [int(part) for part in text.split(",") if part.strip()]
    except ValueError:
        raise ValueError(f"{option} {text!r}: expected whole numbers separated by commas, such as 5,10,20") from None


def names(text: str | None) -> list[str] | None:
    """`a,b` as a list of names; None where nothing was given."""
    return None if text is None else [part.strip() for part in text.split(",") if part.strip()]


def ids(text: str | None, option: str) -> list[str] | None:
    """External ids, separated by commas; one that holds a comma is quoted as in CSV: `"red, large",blue`.

    Raises:
        ValueError: no id, or quotes that do not close.
    """
    if text is None:
        return None
    quoting = f"{option} {text!r}: expected ids separated by commas, one that holds a comma in quotes, such as "
    quoting += "'\"red, large\",blue'; a quote of its own is doubled"
    try:
        rows = list(csv.reader([text], skipinitialspace=True, strict=True))
    except csv.Error:
        raise ValueError(quoting) from None
    found = [part.strip() for row in rows for part in row if part.strip()]
    if not found:
        raise ValueError(quoting)
    return found


def with_data_options(command: Command) -> Command:
    """Replace a command's `**data` by one option for each field of `DataConfig`."""
    signature = inspect.signature(command, eval_str=True)
    own = [p for p in signature.parameters.values() if p.kind is not inspect.Parameter.VAR_KEYWORD]
    parameters = [*own, *(_data_option(name) for name in DataConfig.model_fields)]
    command.__signature__ = signature.replace(parameters=parameters)  # type: ignore[attr-defined]
    command.__annotations__ = {p.name: p.annotation for p in parameters} | {"return": None}
    return command


def _data_option(name: str) -> inspect.Parameter:
    field = DataConfig.model_fields[name]
    kind: Any = field.annotation if field.annotation in (bool, int, float) else str
    values = choices(field.annotation)
    words = values if values and all(isinstance(v, str) for v in values) else ()
    default = "" if field.default is None or field.default is False else f" Default: {field.default}."
    option = typer.Option(
        "--" + name.replace("_", "-"),
        help=f"{field.description}{default}",
        metavar="|".join(words) or ("N" if kind in (int, float) else None if kind is bool else "TEXT"),
        rich_help_panel="Data",
        show_default=False,
    )
    annotation = Annotated[kind | None, option]
    return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=annotation)


def one_or_many(paths: list[Path] | None) -> Any:
    """One path by itself, several as a list; None where nothing was given."""
    return None if not paths else paths[0] if len(paths) == 1 else paths
