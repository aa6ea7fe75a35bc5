"""`Recommender.from_pretrained`: a hub folder, on this machine or on the Hub, opened as a recommender.

Everything is checked before it is used: size and checksum of each file, then the shapes of every tensor (against a
network without memory, on torch's meta device), then the tables' rows and ids. Nothing is allocated by a number of
`config.json` that the files do not bear out.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl
from numpy.typing import NDArray
from pydantic import ValidationError
from safetensors.torch import load_file

from llm_esr.config import Config, describe_errors
from llm_esr.data.carried import USER_COLUMNS, CarriedDataset, CarriedParts
from llm_esr.doors import door
from llm_esr.files import given_path
from llm_esr.files.parquet import collect, scan_parquet
from llm_esr.files.tensors import UNREADABLE
from llm_esr.loading.staging import device_named
from llm_esr.scoring.blend import BLENDED
from llm_esr.scoring.neighbours import TABLE_WIDTH
from llm_esr.serving.blends import checked_weights
from llm_esr.serving.hub import layout
from llm_esr.serving.hub.layout import REMEDY, is_hub_folder, read_config, verify_files
from llm_esr.serving.hub.weights import open_network

if TYPE_CHECKING:
    from llm_esr.serving.recommender import Recommender

__all__ = ["from_pretrained", "is_hub_folder"]

_KINDS = {"item": pl.Int64, "item_id": pl.String, "training_count": pl.Int64}
_USER_KINDS = {"user_id": pl.String, "items": pl.List(pl.Int32), "train_end": pl.Int64, "validation_end": pl.Int64}


@door
def from_pretrained(
    cls: type[Recommender],
    source: str | os.PathLike[str],
    *,
    revision: str | None = None,
    device: str = "auto",
    blend: bool = True,
    exact: bool = False,
) -> Recommender:
    """Open a model that `llm-esr export --to hub` wrote.

    Args:
        cls: the recommender's class.
        source: a folder, or a name on the Hugging Face Hub, `owner/name`; a folder that exists wins.
        revision: of the Hub: a branch, a tag, or a commit, which alone can never change.
        device: `auto` takes a GPU where there is one.
        blend: add the neighbour scorers that the model was blended with, if any; False: the network alone.
        exact: as of `load`.

    Returns:
        A recommender for histories and similar items; for known users where their histories came along.

    Raises:
        FileNotFoundError: no such folder, nothing of that name on the Hub, or a file that is missing.
        ValueError: no name that the Hub takes, a device that is not here, a damaged file, or one that does not fit the
            others.
        ImportError: huggingface_hub is not installed (extra `hub`), for names on the Hub.
    """
    folder, on = given_path(source), device_named(device)
    if not folder.is_dir():
        folder = _fetched(os.fspath(source), revision)
    elif revision is not None:
        raise ValueError(f"{folder} is a folder, which has no revision {revision!r}; leave revision out")
    record = read_config(folder)
    verify_files(folder, record["files"])
    try:
        config = Config.model_validate(record["config"])
    except ValidationError as error:
        raise ValueError(f"{folder / layout.CONFIG}: {describe_errors(error)}; {REMEDY}") from None
    _refuse_entries(folder / layout.CONFIG, record["data"])
    blended = record["blend"]
    weights = None if blended is None else checked_weights(blended, folder / layout.CONFIG, REMEDY)
    network, vectors = open_network(folder, record, config)
    items = _items(folder, record)
    users = _users(folder, record) if layout.HISTORIES in record["files"] else None
    counted, neighbours = _counted(folder, record, weights or {}) if layout.BLEND in record["files"] else ({}, None)
    reads_texts = [name for name in weights or {} if BLENDED[name].reads_texts]
    if reads_texts and vectors is None:
        raise ValueError(f"{folder} has no {layout.TEXT_VECTORS}, which the blend's {reads_texts[0]} reads; {REMEDY}")
    parts = CarriedParts(
        entries=record["data"],
        fingerprint=record["fingerprint"],
        items=items,
        n_prepared=record["n_prepared_items"],
        users=users,
        vectors=vectors,
        neighbours=neighbours,
        counted=counted,
    )
    model = network.to(on).eval()
    data = CarriedDataset(folder, parts)
    return cls(model, data, record["name"], record["seed"], config, blend=weights if blend else None, exact=exact)


def _refuse_entries(path: Path, data: dict[str, Any]) -> None:
    """Refuse entries of the data set of another kind than a `dataset.json` has."""
    config, title = data.get("config"), data.get("title_column")
    texts = [data.get("split"), *([] if title is None else [title])]
    texts += [config.get(name) for name in ("user_column", "item_column")] if isinstance(config, dict) else [None]
    texts += numeric if isinstance(numeric := data.get("numeric_ids", []), list) else [None]
    types = data.get("id_types", {})
    texts += types.values() if isinstance(types, dict) else [None]
    if not all(isinstance(text, str) for text in texts) or "title_column" not in data:
        raise ValueError(f"{path} is damaged: an entry of its data is missing or of a wrong kind; {REMEDY}")


def _fetched(name: str, revision: str | None) -> Path:
    """The files of a model on the Hub, in its cache on this machine."""
    try:
        from huggingface_hub import snapshot_download  # noqa: PLC0415 (an extra)
        from huggingface_hub.utils import HFValidationError, validate_repo_id  # noqa: PLC0415
    except ImportError:
        raise ImportError(
            f"there is no folder {name}, and fetching from the Hugging Face Hub needs the package huggingface_hub: pip "
            "install 'llm-esr[hub]'"
        ) from None
    try:
        validate_repo_id(name)
    except HFValidationError as error:
        raise ValueError(f"{name!r:.200} is neither a folder nor a name on the Hugging Face Hub: {error}") from None
    try:
        return Path(snapshot_download(name, revision=revision, allow_patterns=list(layout.FILES)))
    except OSError as error:
        said = " ".join(str(error).split())[:300]
        at = "" if revision is None else f" at revision {revision}"
        raise FileNotFoundError(
            f"there is no folder {name}, and the Hugging Face Hub gave no model of that name{at}: {said}"
        ) from error


def _items(folder: Path, record: dict[str, Any]) -> pl.DataFrame:
    """The items' table: so many rows, numbered from 1, each with an id of its own."""
    path, title = folder / layout.ITEMS, record["data"]["title_column"]
    kinds = _KINDS | ({title: pl.String} if title is not None else {})
    table = _table(path, kinds, record["n_items"])
    ids = table["item_id"]
    numbered = (table["item"].to_numpy() == np.arange(1, table.height + 1)).all()
    if not numbered or ids.null_count() or ids.n_unique() != table.height or (table["training_count"] < 0).any():
        raise ValueError(
            f"{path} is damaged: expected items numbered from 1 with ids and counts of their own; {REMEDY}"
        )
    return table


def _users(folder: Path, record: dict[str, Any]) -> pl.DataFrame:
    """The users' histories: known items, parts one after another."""
    path = folder / layout.HISTORIES
    table = _table(path, _USER_KINDS, None)
    lengths, items = table["items"].list.len(), table["items"].explode()
    train, validation = table["train_end"], table["validation_end"]
    whole = not table.select(USER_COLUMNS).null_count().sum_horizontal().sum()
    whole = whole and items.null_count() == int((lengths == 0).sum()) and table["user_id"].n_unique() == table.height
    inside = items.is_between(1, record["n_items"]).all() and (train >= 0).all()
    if not (whole and inside and (train <= validation).all() and (validation <= lengths).all()):
        raise ValueError(f"{path} is damaged: expected users with known items and their parts in order; {REMEDY}")
    return table


def _table(path: Path, kinds: dict[str, Any], rows: int | None) -> pl.DataFrame:
    """A Parquet file of these columns, whose number of rows is looked at first."""
    scanned = scan_parquet(path)
    columns = collect(scanned.head(0), path).schema
    if dict(columns) != {name: kind() if isinstance(kind, type) else kind for name, kind in kinds.items()}:
        raise ValueError(f"{path} has the columns {dict(columns)!s:.200}, expected {', '.join(kinds)}; {REMEDY}")
    height = int(collect(scanned.select(pl.len()), path).item())
    if rows is not None and height != rows:
        raise ValueError(f"{path} has {height:,} rows, {layout.CONFIG} says {rows:,}; {REMEDY}")
    return collect(scanned, path)


def _counted(
    folder: Path, record: dict[str, Any], weights: dict[str, float]
) -> tuple[dict[str, dict[str, NDArray[Any]]], tuple[NDArray[np.int32], NDArray[np.float32]] | None]:
    """The tables that a blend's scorers counted, by scorer, and the items' neighbours."""
    path, n_items = folder / layout.BLEND, record["n_items"]
    width = min(TABLE_WIDTH, n_items)
    try:
        arrays = {name: tensor.numpy() for name, tensor in load_file(path).items()}
    except UNREADABLE as error:
        raise ValueError(f"{path} is not readable: {error}; {REMEDY}") from None

    def taken(name: str, kind: Any, lowest: int | None, shape: tuple[int, int] | None = None) -> NDArray[Any]:
        array = arrays.pop(name, np.zeros(0))
        fits = array.dtype == kind and array.ndim == 2 and array.shape[0] == n_items and shape in (None, array.shape)
        if not fits or (lowest is not None and array.size and not (lowest <= array.min() and array.max() <= n_items)):
            raise ValueError(f"{path}: {name} is missing or does not fit {n_items:,} items; {REMEDY}")
        return array

    counted = {
        name: {
            "ids": taken(f"{name}.ids", np.int32, 0, (n_items, width)),
            "values": taken(f"{name}.values", np.float32, None, (n_items, width)),
        }
        for name in weights
        if f"{name}.ids" in arrays
    }
    neighbours = None
    if layout.NEIGHBOURS in arrays:
        ids = taken(layout.NEIGHBOURS, np.int32, -1)
        neighbours = (ids, taken(layout.COSINES, np.float32, None, ids.shape))
    if arrays:
        raise ValueError(f"{path} holds {', '.join(arrays):.200}, which its blend does not read; {REMEDY}")
    return counted, neighbours
