"""The folder that the paper's authors give out, as a data folder of ours.

Goes in: `inter.txt` (`user item` a line, both from 1, in time order) and, in the same folder or its `handled/`, the
pickles of `PICKLES`. Comes out: what `prepare` makes of `inter.txt`, `item_embeddings.npy`, `user_embeddings.npy`,
`similar_users.npy` and, where there are user vectors, their cosines, `similar_items.npy` with its scores, and
`pca_items.npy`.

The authors' row r is item (or user) r + 1 of `inter.txt`; ours are numbered by first appearance. Rows go by id.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from llm_esr.data.dataset import Dataset
from llm_esr.data.folder import refuse_foreign_folder
from llm_esr.data.prepare import prepare
from llm_esr.doors import door
from llm_esr.files import FORMAT, atomic_folder, checksum, given_path, key_of
from llm_esr.files.given import behind_links
from llm_esr.files.lock import lock_folder
from llm_esr.published.pickled_arrays import read_pickled_array
from llm_esr.retrieval import nearest
from llm_esr.retrieval.index import write_similar_items, write_similar_users_scores
from llm_esr.retrieval.user_vectors import cosines_of
from llm_esr.semantics.vector_files import stored_checksum, write_vectors

INTERACTIONS = ("inter.txt", "inter.txt.gz")
PICKLES = {
    "item_embeddings": "itm_emb_np.pkl",
    "user_embeddings": "usr_emb_np.pkl",
    "pca_items": "pca64_itm_emb_np.pkl",
    "similar_users": "sim_user_100.pkl",
}
_SIMILAR_ITEMS = 10


@dataclass(frozen=True)
class _Rows:
    """Which row of the authors' tables each of our items or users has."""

    what: str  # 'item' or 'user'
    rows: NDArray[np.int64]  # [I] or [U]

    @property
    def count(self) -> int:
        """Rows that a table of theirs must have: the largest id."""
        return int(self.rows.max()) + 1


@door
def convert(folder: str | Path, *, out: str | Path, progress: bool = True) -> Dataset:
    """Make a data folder of the authors' files; whichever of the pickles are there.

    The pickles are read by `read_pickled_array`, which admits plain arrays and runs nothing.

    Args:
        folder: the folder with `inter.txt` (or `inter.txt.gz`), or the one above its `handled/`.
        out: the data folder to write, whole or not at all.
        progress: whether to show a bar while nearest items are searched.

    Raises:
        FileNotFoundError: no such folder, no `inter.txt`, or none of the pickles.
        ValueError: a pickle that holds more than an array, another number of rows than `inter.txt` has users or items,
            values that are not finite, ids that are no whole numbers from 1.
    """
    source, target = given_path(folder), behind_links(given_path(out))
    if not source.is_dir():
        raise FileNotFoundError(f"{source} is no folder; expected the authors' folder with inter.txt and its pickles")
    refuse_foreign_folder(target)
    interactions = _find(source, INTERACTIONS)
    if interactions is None:
        raise FileNotFoundError(f"{source} has no inter.txt (nor handled/inter.txt); expected the authors' folder")
    found = {name: path for name, file in PICKLES.items() if (path := _find(source, (file,))) is not None}
    if not found:
        raise FileNotFoundError(
            f"{source} has none of {', '.join(PICKLES.values())}; for {interactions.name} alone use "
            f"`llm-esr prepare {interactions} --out {target}`"
        )
    with lock_folder(target, "converted"), atomic_folder(target) as temporary:
        data = prepare(interactions, out=temporary)
        items = _Rows("item", _rows_of(data.item_ids, "item", interactions))
        users = _Rows("user", _rows_of(data.user_ids, "user", interactions))
        _write(data, found, items, users, progress=progress)
    return Dataset.open(target)


def _write(data: Dataset, found: dict[str, Path], items: _Rows, users: _Rows, *, progress: bool) -> None:
    makers: dict[str, Callable[[Path], NDArray[Any]]] = {
        "item_embeddings": lambda path: _vectors(path, items),
        "user_embeddings": lambda path: _vectors(path, users),
        "pca_items": lambda path: _vectors(path, items).astype(np.float32, copy=False),
        "similar_users": lambda path: _similar_users(path, users),
    }
    made_from: dict[str, Any] = {}
    for name, path in found.items():
        file = {"path": str(path.absolute()), "checksum": checksum(path)}
        about = {"key": _key(data, name, file["checksum"]), "encoder": f"the authors' {path.name}", "file": file}
        if name == "similar_users":
            # Trusted: they were found with the vectors beside them.
            about = {**about, "engine": f"the authors' {path.name}", "made_from": made_from}
            del about["encoder"]
        made = makers[name](path)
        write_vectors(data.folder, name, made, about)
        user_vectors = data.user_embeddings
        if name == "similar_users" and user_vectors is not None:
            write_similar_users_scores(data.folder, cosines_of(user_vectors, made), about)
        if name in ("item_embeddings", "user_embeddings"):
            made_from[name] = stored_checksum(data.folder, name)
    vectors = data.item_embeddings
    if vectors is None:
        return
    rows, scores = nearest(vectors, _SIMILAR_ITEMS, progress="nearest items" if progress else None)
    source = {"item_embeddings": made_from["item_embeddings"]}
    about = {"key": _key(data, "similar_items", source["item_embeddings"]), "engine": "exact", "made_from": source}
    write_similar_items(data.folder, rows, scores, about)


def _key(data: Dataset, name: str, source: str) -> str:
    return key_of({"stage": "convert", "format": FORMAT, "name": name, "data": data.fingerprint, "source": source})


def _find(folder: Path, names: tuple[str, ...]) -> Path | None:
    paths = (where / name for where in (folder, folder / "handled") for name in names)
    return next((path for path in paths if path.is_file()), None)


def _rows_of(ids: list[str], what: str, path: Path) -> NDArray[np.int64]:
    """The authors' row of each id: one less, for they count from 1."""
    numbers = pl.Series(ids, dtype=pl.String).cast(pl.Int64, strict=False)
    wrong = numbers.is_null() | (numbers < 1)
    if wrong.any():
        first = ids[int(np.argmax(wrong.to_numpy()))]
        raise ValueError(
            f"{path}: {what} '{first}' is no whole number from 1, so no row of the pickles "
            "is known to be its own; give vectors with ids instead (`llm-esr embed --item-embeddings`)"
        )
    return numbers.to_numpy() - 1


def _table(path: Path, rows: _Rows, kinds: str, expected: str) -> NDArray[Any]:
    """A pickle's array in their order, a row for each user or item that they have."""
    array = read_pickled_array(path)
    if array.ndim != 2 or array.dtype.kind not in kinds:
        raise ValueError(f"{path} holds {array.dtype} {array.shape}; expected {expected}, a row for each {rows.what}")
    if len(array) != rows.count:
        raise ValueError(
            f"{path} has {len(array):,} rows, and inter.txt has {rows.what}s up to number {rows.count:,}; expected a "
            f"row for each {rows.what}, in the order of the numbers: take both files from one data set"
        )
    return array


def _vectors(path: Path, rows: _Rows) -> NDArray[Any]:
    """Vectors in our order, float16 or float32."""
    made = _table(path, rows, "f", "vectors of floats")[rows.rows]
    with np.errstate(over="ignore"):  # what becomes infinite is refused below
        made = made if made.dtype.newbyteorder("=") == np.float16 else made.astype(np.float32)
    bad = np.flatnonzero(~np.isfinite(made).all(axis=1))
    if len(bad):
        raise ValueError(
            f"{path}: the vector of {rows.what} {rows.rows[bad[0]] + 1} (and of {len(bad) - 1} others) holds a value "
            "that is not finite as float32; make these vectors again"
        )
    return made


def _similar_users(path: Path, users: _Rows) -> NDArray[np.int32]:
    """Similar users by our numbers, int32 [U, K]: the user itself left out, gaps closed, -1 at the end."""
    table = _table(path, users, "iu", "whole numbers (the rows of similar users)").astype(np.int64)
    outside = (table < 0) | (table >= len(table))
    if outside.any():
        at = int(np.argmax(outside.any(axis=1)))
        raise ValueError(
            f"{path}: row {at} names user row {int(table[at][outside[at]][0])}; expected 0 to {len(table) - 1} "
            "(rows are counted from 0)"
        )
    ours = np.full(len(table), -1, dtype=np.int32)
    ours[users.rows] = np.arange(len(users.rows), dtype=np.int32)
    theirs: NDArray[np.int64] = table[users.rows]
    named: NDArray[np.int32] = ours[theirs]
    named[theirs == users.rows[:, None]] = -1
    # A stable sort by "is a gap" moves the gaps to the end and keeps the order of the others.
    order = np.argsort(named < 0, axis=1, kind="stable")
    return np.take_along_axis(named, order, axis=1)
