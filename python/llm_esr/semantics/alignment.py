"""External vectors, brought into the order of a data set by their rows or ids.

A misaligned matrix trains silently and badly. So a bare `.npy` must have a row for each row of the raw table, and is
mapped by `source_row`; Parquet and safetensors are mapped by external ids.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray
from safetensors import safe_open

from llm_esr.data.dataset import Dataset
from llm_esr.doors import warn
from llm_esr.files import given_path
from llm_esr.files.arrays import open_array
from llm_esr.files.parquet import collect, read_parquet, scan_parquet
from llm_esr.files.tensors import UNREADABLE
from llm_esr.tables.parquet_parts import ParquetPart, open_parts
from llm_esr.tables.values import id_text

Vectors = NDArray[Any]
_ROWS_AT_ONCE = 1 << 15  # of a part


@dataclass(frozen=True)
class _Target:
    """The items or users that the rows of the result belong to."""

    what: str  # 'item' or 'user'
    ids: pl.Series  # external ids, in the order of the result
    source_rows: pl.Series
    n_source: int | None  # rows of the raw table; None: there is none
    source: str  # what the raw table is, for messages
    id_columns: tuple[str, ...]  # names an id column may have in Parquet


def align_items(source: Any, data: Dataset) -> Vectors:
    """Item vectors in the order of `data`, [I, E], row = item - 1.

    Args:
        source: a `.npy` file or array with a row for each row of the items table; a Parquet file, or a folder of
            Parquet parts, with an id column and a column of lists; or a safetensors file: one vector an id, or a matrix
            named with its ids (see `read_safetensors`).
        data: the data set.

    Returns:
        float16 or float32 as they came (float64 becomes float32). An item without a vector gets zeros, with a warning.

    Raises:
        FileNotFoundError: no such file.
        ValueError: another number of rows, unknown ids throughout, widths that differ, values that are not finite.
    """
    table, meta = data.item_table(), data.metadata
    return _align(
        source,
        _Target(
            "item",
            table["item_id"],
            table["source_row"],
            meta["counts"]["source_items"],
            "the items table",
            item_id_columns(data),
        ),
    )


def align_users(source: Any, data: Dataset) -> Vectors:
    """User vectors in the order of `data`, [U, E].

    As `align_items`; a `.npy` has a row for each distinct user of the raw interactions, in order of first appearance.
    """
    table, meta = data.user_table(), data.metadata
    return _align(
        source,
        _Target(
            "user",
            table["user_id"],
            table["source_row"],
            meta["counts"]["source_users"],
            "distinct users in the raw interactions",
            (meta["config"]["user_column"], "user_id", "id"),
        ),
    )


def align_added(source: Any, data: Dataset, ids: pl.Series, rows: pl.Series | None, n_rows: int | None) -> Vectors:
    """Vectors of items that `data` does not have, in the order of `ids`; as `align_items`.

    Args:
        source: as of `align_items`, or a pair of ids and matrix.
        data: its id columns are those that a Parquet file may have.
        ids: external ids of the new items.
        rows: the row of each in the new items' table; None: there is no table.
        n_rows: rows of that table.
    """
    places = pl.Series([None] * len(ids), dtype=pl.Int64) if rows is None else rows
    return _align(source, _Target("item", ids, places, n_rows, "the table of new items", item_id_columns(data)))


def vectors_with_ids(source: Any, data: Dataset) -> tuple[pl.Series, Vectors]:
    """The ids of a Parquet or safetensors file, or of a pair of ids and matrix, and its vectors.

    Raises:
        FileNotFoundError: no such file.
        ValueError: something without ids.
    """
    if isinstance(source, tuple):
        return pl.Series(source[0], dtype=pl.String), source[1]
    path = None if isinstance(source, np.ndarray) else given_path(source)
    match None if path is None else path.suffix.lower():
        case ".parquet" | ".pq" | ".safetensors" if path is not None and not path.exists():
            raise FileNotFoundError(f"item vectors: {path} does not exist; check the path")
        case ".parquet" | ".pq" if path is not None:
            none = pl.Series([], dtype=pl.String)
            return _read_parquet(path, _Target("item", none, none, None, "", item_id_columns(data)))
        case ".safetensors" if path is not None:
            return read_safetensors(path)
    raise ValueError(
        "vectors without a table of items must say whose they are: a Parquet or safetensors file with ids, or a "
        "mapping from id to vector"
    )


def item_id_columns(data: Dataset) -> tuple[str, ...]:
    """Names that an id column of items may have."""
    config = data.metadata["config"]
    return tuple(name for name in (config["items_id_column"], config["item_column"], "item_id", "id") if name)


def _align(source: Any, target: _Target) -> Vectors:
    if isinstance(source, np.ndarray):
        return _by_row(source, f"the {target.what} vectors", target)
    if isinstance(source, tuple):
        return _by_id(pl.Series(source[0], dtype=pl.String), source[1], f"the {target.what} vectors", target)
    path = given_path(source)
    if not path.exists():
        raise FileNotFoundError(f"{target.what} vectors: {path} does not exist; check the path")
    if path.is_dir():
        return _of_parts(path, target)
    match path.suffix.lower():
        case ".npy":
            return _by_row(open_array(path, remedy="write it again"), str(path), target)
        case ".parquet" | ".pq":
            return _by_id(*_read_parquet(path, target), str(path), target)
        case ".safetensors":
            return _by_id(*read_safetensors(path), str(path), target)
        case suffix:
            raise ValueError(
                f"{target.what} vectors: {path} ends in '{suffix}'; expected .npy (a row for each row of the raw "
                "table), .parquet or .safetensors (by id), or a folder of Parquet parts"
            )


def _by_row(array: Vectors, name: str, target: _Target) -> Vectors:
    _check_matrix(array, name)
    if target.n_source is None:
        raise ValueError(
            f"{name} has rows without ids, and there is no items table whose rows they could be; give an items table "
            "(--items), or the vectors with ids as Parquet or safetensors"
        )
    if len(array) != target.n_source:
        kept = f"; {len(target.ids):,} of them are in the data set" if len(target.ids) != target.n_source else ""
        raise ValueError(
            f"{name} has {len(array):,} rows, expected {target.n_source:,}: one for each of {target.source}{kept}. "
            "Rows are mapped by their place in the raw table; for another order or choice give Parquet or "
            "safetensors with ids"
        )
    return _taken(array, target.source_rows.fill_null(-1).to_numpy(), name, target)


def _by_id(ids: pl.Series, array: Vectors, name: str, target: _Target) -> Vectors:
    _check_matrix(array, name)
    if ids.null_count():
        raise ValueError(f"{name}: {ids.null_count()} rows have no id (the first is row {_first_null(ids)})")
    repeated = ids.filter(~ids.is_first_distinct())
    if len(repeated):
        raise ValueError(
            f"{name} names {len(repeated)} ids twice, such as {repeated.head(3).to_list()}; expected one vector an id"
        )
    known = pl.DataFrame({"id": ids, "row": np.arange(len(ids), dtype=np.int64)})
    wanted = target.ids.alias("id").to_frame().join(known, on="id", how="left", maintain_order="left")
    rows = wanted["row"]
    if rows.null_count() == len(rows):
        raise ValueError(
            f"{name} has no vector for any {target.what} of the data set: its ids are such as "
            f"{ids.head(3).to_list()}, the data set's such as {target.ids.head(3).to_list()}"
        )
    return _taken(array, rows.fill_null(-1).to_numpy(), name, target)


def _taken(array: Vectors, rows: NDArray[np.int64], name: str, target: _Target) -> Vectors:
    """Rows of `array`; -1: zeros, with a warning that counts them."""
    made = np.asarray(array[np.maximum(rows, 0)])
    made = made.astype(np.float32) if made.dtype == np.float64 else np.array(made)
    return _whole(made, rows < 0, name, target)


def _whole(made: Vectors, missing: NDArray[np.bool_], name: str, target: _Target) -> Vectors:
    """What was taken, zeros where nothing was; see `_taken`."""
    made[missing] = 0
    finite = np.isfinite(made).all(axis=1)
    if not finite.all():
        first = int(np.argmin(finite))
        raise ValueError(
            f"{name}: the vector of {target.what} '{target.ids[first]}' (and of {int((~finite).sum()) - 1} others) "
            "holds a value that is not finite; make these vectors again"
        )
    if missing.any():
        examples = ", ".join(target.ids.filter(pl.Series(missing)).head(3).to_list())
        warn(
            f"{name}: {int(missing.sum()):,} of {len(missing):,} {target.what}s have no vector (such as {examples}); "
            "they get zeros"
        )
    return made


def _check_matrix(array: Vectors, name: str) -> None:
    if array.ndim != 2 or array.dtype.kind != "f" or not array.size:
        raise ValueError(f"{name} holds {array.dtype} {array.shape}; expected a matrix of floats, a row a vector")


def _first_null(ids: pl.Series) -> int:
    return int(ids.is_null().to_numpy().argmax()) + 1


def _of_parts(folder: Path, target: _Target) -> Vectors:
    """Vectors of a folder of Parquet parts: beside the result a stretch of one part is in memory, and every id."""
    made: Vectors | None = None
    missing = np.ones(len(target.ids), np.bool_)
    places = pl.DataFrame({"id": target.ids, "place": np.arange(len(target.ids), dtype=np.int64)})
    seen: set[str] = set()
    shown: list[str] = []
    for path, start, frame in _stretches(folder, target):
        name = f"{path} (rows from {start + 1:,})"
        ids, array = _ids_and_vectors(frame, path, start, target)
        if ids.null_count():
            raise ValueError(f"{path}: row {start + _first_null(ids)} has no id")
        if made is None:
            made = np.zeros((len(target.ids), array.shape[1]), array.dtype)
        if array.shape[1] != made.shape[1] or array.dtype != made.dtype:
            raise ValueError(
                f"{name}: vectors of {array.shape[1]} {array.dtype.name}, those before of {made.shape[1]} "
                f"{made.dtype.name}; expected vectors of one width and type"
            )
        new = ids.to_list()
        for row, one in enumerate(new):
            if one in seen:
                raise ValueError(f"{path}: row {start + row + 1} names the id {one!r} again; expected one vector an id")
            seen.add(one)
        shown = shown or new[:3]
        found = ids.alias("id").to_frame().with_row_index("row").join(places, on="id", how="inner")
        into = found["place"].to_numpy()
        made[into] = array[found["row"].to_numpy()]
        missing[into] = False
    if made is None or missing.all():
        raise ValueError(
            f"{folder} has no vector for any {target.what} of the data set: its ids are such as {shown}, the data "
            f"set's such as {target.ids.head(3).to_list()}"
        )
    return _whole(made, missing, str(folder), target)


def _stretches(folder: Path, target: _Target) -> Iterator[tuple[Path, int, pl.DataFrame]]:
    """Every part in turn, some rows at a time: its path, the rows before these, and the rows."""
    role = f"{target.what} vectors"
    for part in open_parts(folder, role, ("user_id", "item_id")):
        assert isinstance(part, ParquetPart)
        for start in range(0, part.height, _ROWS_AT_ONCE):
            frame = collect(scan_parquet(part.path).slice(start, _ROWS_AT_ONCE), part.path)
            yield part.path, start, frame


def _read_parquet(path: Path, target: _Target) -> tuple[pl.Series, Vectors]:
    return _ids_and_vectors(read_parquet(path), path, 0, target)


def _ids_and_vectors(frame: pl.DataFrame, path: Path, start: int, target: _Target) -> tuple[pl.Series, Vectors]:
    """Rows of a file from `start` on as ids and a matrix."""
    shown = ", ".join(f"{name} ({kind})" for name, kind in frame.schema.items())
    vectors = [name for name, kind in frame.schema.items() if isinstance(kind, pl.List | pl.Array)]
    if len(vectors) != 1:
        raise ValueError(
            f"{path} has {len(vectors)} columns of lists; expected one of vectors and one of ids (it has: {shown})"
        )
    others = [name for name in frame.columns if name not in vectors]
    id_column = next((name for name in target.id_columns if name in others), others[0] if len(others) == 1 else None)
    if id_column is None:
        raise ValueError(
            f"{path} has no column {' or '.join(repr(name) for name in dict.fromkeys(target.id_columns))} "
            f"(it has: {shown}); rename the {target.what} ids' column"
        )
    column = frame[vectors[0]]
    column = column.cast(pl.List(column.dtype.inner)) if isinstance(column.dtype, pl.Array) else column
    widths = column.list.len()
    if column.null_count() or widths.n_unique() != 1:
        at = next((row for row, width in enumerate(widths.to_list()) if width != widths[0] or width is None), 0)
        raise ValueError(
            f"{path}: row {start + at + 1} of column '{vectors[0]}' has {widths[at]} numbers and row {start + 1} "
            f"{widths[0]}; "
            "expected vectors of one width"
        )
    inner = column.explode()
    if not inner.dtype.is_numeric() or inner.null_count():
        raise ValueError(f"{path}: column '{vectors[0]}' holds {column.dtype} with gaps or no numbers; expected floats")
    half = str(inner.dtype) == "Float16"
    flat = inner.cast(pl.Float32).to_numpy()
    array = flat.reshape(frame.height, int(widths[0]))
    try:
        ids = id_text(frame[id_column], typed=True)
    except TypeError:
        raise ValueError(
            f"{path}: column '{id_column}' holds {frame[id_column].dtype}; expected ids, texts or integers"
        ) from None
    return ids, array.astype(np.float16) if half else array


def read_safetensors(path: Path) -> tuple[pl.Series, Vectors]:
    """Ids and vectors of a safetensors file.

    Either every tensor is one vector [E], named by its id; or there is one matrix [n, E], with its ids in the metadata
    entry `ids` (a JSON list) or, where ids are integers, in a tensor `ids` [n].

    Raises:
        ValueError: neither.
    """
    try:
        with safe_open(path, framework="numpy") as file:
            names = list(file.keys())
            metadata = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in names}
    except UNREADABLE as error:
        raise ValueError(f"{path} is not a readable safetensors file of float16 or float32 ({error})") from None
    matrices = [name for name in names if tensors[name].ndim == 2]
    if not matrices:
        widths = {tensor.shape for tensor in tensors.values()}
        if len(widths) != 1 or len(next(iter(widths))) != 1:
            raise ValueError(
                f"{path} holds tensors of shapes {sorted(widths)[:5]}; expected vectors of one width, named by their "
                "ids, or one matrix with `ids`"
            )
        return pl.Series(names, dtype=pl.String), np.stack([tensors[name] for name in names])
    if len(matrices) > 1:
        raise ValueError(f"{path} holds {len(matrices)} matrices ({', '.join(matrices)}); expected one")
    array = tensors[matrices[0]]
    ids = _safetensors_ids(path, metadata, tensors)
    if len(ids) != len(array):
        raise ValueError(f"{path} has {len(ids)} ids and {len(array)} vectors; expected as many")
    return ids, array


def _safetensors_ids(path: Path, metadata: dict[str, str], tensors: dict[str, Vectors]) -> pl.Series:
    if "ids" in tensors and tensors["ids"].ndim == 1:
        return id_text(pl.Series(tensors["ids"]), typed=True)
    if "ids" not in metadata:
        raise ValueError(
            f"{path} has a matrix without ids; expected a metadata entry `ids` (a JSON list) or an integer tensor `ids`"
        )
    try:
        listed = json.loads(metadata["ids"])
        return pl.Series([str(value) for value in listed], dtype=pl.String).str.strip_chars()
    except (ValueError, TypeError):
        raise ValueError(f"{path}: the metadata entry `ids` is no JSON list of ids") from None
