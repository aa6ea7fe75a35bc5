"""Items that a trained model has gained: kept beside it, one folder an addition, undone by name.

`extensions/NAME/` in the model's folder holds `items.parquet` (ids and texts), `item_embeddings.npy`,
`similar_items.npy` and `similar_items_scores.npy` (nearest items of the prepared catalogue), and `extension.json` with
their checksums and what they belong to. It appears as a whole and goes as a whole.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from llm_esr.data.extended import AddedItems, ExtendedDataset
from llm_esr.files import FORMAT, atomic_folder, checksum, is_there, read_record, verify, write_array, write_json
from llm_esr.files.arrays import open_array
from llm_esr.files.lock import lock_folder
from llm_esr.files.parquet import read_parquet, write_parquet
from llm_esr.files.temporaries import temporary
from llm_esr.semantics.vector_files import stored_checksum

if TYPE_CHECKING:
    from llm_esr.data import Dataset

FOLDER = "extensions"
_RECORD = "extension.json"
_ITEMS = "items.parquet"
_ARRAYS = {"vectors": "item_embeddings.npy", "neighbours": "similar_items.npy", "cosines": "similar_items_scores.npy"}
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")


def store_addition(folder: Path, data: Dataset, added: AddedItems) -> AddedItems:
    """Write an addition into a model's folder; the same, with the folder that it has now.

    Raises:
        ValueError: there is one of this name, or another process is changing them.
    """
    target = folder / FOLDER / checked_name(added.name)
    with lock_folder(folder, "extended"):
        stored = names_of(folder)
        if added.name in stored:
            raise ValueError(f"{target} is there already; take another name (--name), or undo it (--undo {added.name})")
        numbers = [_record_of(folder, name)["number"] for name in stored]
        with atomic_folder(target) as made:
            write_parquet(added.table, made / _ITEMS)
            for part, file in _ARRAYS.items():
                write_array(made / file, getattr(added, part))
            files = {path.name: checksum(path) for path in sorted(made.iterdir())}
            record = {"format": FORMAT, "name": added.name, "number": max(numbers, default=0) + 1, "key": added.key}
            record |= {"items": added.table.height, "made_from": _belongs_to(data), "files": files}
            write_json(made / _RECORD, record)
    return replace(added, folder=target)


def undo_addition(folder: Path, name: str) -> int:
    """Take an addition away from a model's folder; how many items it had, as far as it says.

    Raises:
        FileNotFoundError: none of this name.
    """
    target = folder / FOLDER / checked_name(name)
    with lock_folder(folder, "extended"):
        if not target.is_dir():
            there = ", ".join(names_of(folder)) or "none"
            raise FileNotFoundError(f"{folder} has no addition '{name}' (there are: {there})")
        try:
            items = int(_record_of(folder, name)["items"])
        except (ValueError, OSError, TypeError):
            items = 0  # damaged: it can be undone all the same
        with temporary(target) as bin_:
            target.replace(bin_ / "gone")  # from here on it is absent; the rest goes with the block
    return items


def names_of(folder: Path) -> list[str]:
    """The additions in a model's folder, in the order in which they were made.

    Raises:
        ValueError: a damaged record.
    """
    where = folder / FOLDER
    if not where.is_dir():
        return []
    found = [path.name for path in where.iterdir() if is_there(path / _RECORD) and not path.name.startswith(".")]
    return sorted(found, key=lambda name: (_record_of(folder, name)["number"], name))


def items_of(folder: Path, name: str) -> int:
    """How many items an addition has."""
    return int(_record_of(folder, name)["items"])


def stored_additions(folder: Path, data: Dataset) -> list[AddedItems]:
    """All additions of a model, opened and checked, in the order in which they were made.

    Raises:
        ValueError: a damaged one, or one that belongs to other data.
    """
    return [_open(folder, name, data) for name in names_of(folder)]


def with_additions(folder: Path, data: Dataset) -> Dataset:
    """The data set with all items that a model has gained; itself where there are none."""
    added = stored_additions(folder, data)
    return ExtendedDataset(data, added) if added else data


def checked_name(name: str) -> str:
    """A name that may be a folder's.

    Raises:
        ValueError: another one.
    """
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise ValueError(
            f"an addition's name (--name) is up to 64 letters, digits, '.', '_' and '-', not beginning with a sign; "
            f"got {name!r}"
        )
    return name


def free_name(folder: Path | None, taken: Sequence[str]) -> str:
    """The first of `items-1`, `items-2`, ... that no addition has."""
    used = {*taken, *(names_of(folder) if folder is not None else ())}
    return next(name for number in range(1, len(used) + 2) if (name := f"items-{number}") not in used)


def _belongs_to(data: Dataset) -> dict[str, str]:
    base = data.base if isinstance(data, ExtendedDataset) else data
    return {"data": base.fingerprint, "item_embeddings": stored_checksum(base.folder, "item_embeddings")}


def _record_of(folder: Path, name: str) -> dict[str, Any]:
    path = folder / FOLDER / name / _RECORD
    record = read_record(path, "format", "name", "number", "key", "items", "made_from", "files")
    fits = isinstance(record["number"], int) and isinstance(record["items"], int) and isinstance(record["key"], str)
    if record["format"] != FORMAT or record["name"] != name or not fits or not isinstance(record["files"], dict):
        raise ValueError(f"{path} is no record of format {FORMAT} of the addition '{name}'; {_remedy(name)}")
    return record


def _remedy(name: str) -> str:
    return f"undo it (`llm-esr add-items FOLDER --undo {name}`) and add the items again"


def _open(folder: Path, name: str, data: Dataset) -> AddedItems:
    record, where = _record_of(folder, name), folder / FOLDER / name
    if record["made_from"] != _belongs_to(data):
        raise ValueError(
            f"{where} was made for other data than {data.folder} holds now: its vectors are not to be compared with "
            f"these; {_remedy(name)}"
        )
    for file in (_ITEMS, *_ARRAYS.values()):
        if not is_there(where / file) or file not in record["files"]:
            raise FileNotFoundError(f"{where / file} is gone; {_remedy(name)}")
        verify(where / file, record["files"][file], _remedy(name))
    table = read_parquet(where / _ITEMS)
    arrays = {part: open_array(where / file, remedy=_remedy(name)) for part, file in _ARRAYS.items()}
    count, own = record["items"], data.item_embeddings
    ids = arrays["neighbours"]
    shapes = own is not None and arrays["vectors"].shape == (count, own.shape[1]) and ids.shape[:1] == (count,)
    types = [arrays[part].dtype for part in ("neighbours", "cosines")] == [np.int32, np.float32]
    whole = shapes and types and arrays["vectors"].dtype.kind == "f" and arrays["cosines"].shape == ids.shape
    columns = {"item_id", *data.text_columns} <= set(table.columns) and table.height == count
    if not (whole and columns and (not ids.size or (ids.min() >= -1 and ids.max() <= data.n_prepared_items))):
        raise ValueError(f"{where} is damaged: its files do not belong together; {_remedy(name)}")
    return AddedItems(name, record["key"], table, arrays["vectors"], ids, arrays["cosines"], where)
