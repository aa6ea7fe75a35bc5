"""Item-to-item tables that are counted once, kept in the folder `tables` of a data set, and memory-mapped from there.

A table is two files, `NAME-ids.npy` int32 [I, W] and `NAME-values.npy` float32 [I, W], each beside a JSON with its key,
shape and checksum. The key names what a table is counted from, so a table of other data or settings is counted again. A
folder that cannot be written to, or that another process is writing to, keeps nothing: the table stays in memory.

Shapes: I items, W entries of a table's row.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from llm_esr.data.folder import TABLES
from llm_esr.files import FORMAT, is_there, key_of, read_record, verify
from llm_esr.files.arrays import open_array
from llm_esr.files.lock import lock_folder
from llm_esr.files.temporaries import tidy
from llm_esr.semantics.vector_files import vector_file

if TYPE_CHECKING:
    from llm_esr.data import Dataset

Table = tuple[NDArray[np.int32], NDArray[np.float32]]  # ids [I, W], largest value first, 0 fills; values [I, W]

_PARTS = {"ids": np.dtype(np.int32), "values": np.dtype(np.float32)}
_COUNTING = 1  # goes up when a table is counted otherwise from the same data and settings
_ROWS = 8192  # written at once


def stored_table(
    data: Dataset, name: str, width: int, settings: Mapping[str, Any], count: Callable[[], Table]
) -> Table:
    """The table of a scorer: mapped where it is stored for these data and settings, else counted and stored.

    Args:
        data: the data set.
        name: the scorer's, which the files bear.
        width: W.
        settings: what the table depends on beside the training sequences.
        count: counts it.

    Raises:
        ValueError: a file of the table is damaged.
        OSError: a file of it cannot be read.
    """
    folder, shape = data.folder / TABLES, (data.n_items, width)
    about = {"table": name, "format": FORMAT, "counting": _COUNTING, "data": data.fingerprint, "shape": list(shape)}
    key = key_of(about | dict(settings))
    stored = _open(folder, name, key, shape)
    if stored is None:
        counted = count()
        _store(folder, name, key, counted)
        # Mapped from here on, so that its memory can be given back; the same bits.
        return _open(folder, name, key, shape) or counted
    with suppress(OSError):  # who may only read leaves it as it is
        tidy(folder)
    return stored


def _open(folder: Path, name: str, key: str, shape: tuple[int, int]) -> Table | None:
    """The stored table; None: it is not there, or is one of other data or settings."""
    before = _state(folder, name)
    try:
        arrays = [_open_part(folder, name, part, key, shape) for part in _PARTS]
    except (ValueError, OSError):
        if _state(folder, name) == before:
            raise
        return None  # another process has written to it meanwhile
    ids_IW, values_IW = arrays
    return None if ids_IW is None or values_IW is None else (ids_IW, values_IW)


def _open_part(folder: Path, name: str, part: str, key: str, shape: tuple[int, int]) -> NDArray[Any] | None:
    path, beside = _files(folder, name, part)
    if not is_there(path) or not is_there(beside):
        return None
    remedy = f"delete {folder}, and its tables are counted again"
    try:
        about = read_record(beside, "key", "checksum")
    except ValueError as error:
        raise ValueError(f"{error} ({remedy})") from None
    if about["key"] != key:
        return None
    verify(path, about["checksum"], remedy)
    array = open_array(path, remedy=remedy)
    if array.dtype != _PARTS[part] or array.shape != shape:
        raise ValueError(
            f"{path} is damaged: it holds {array.dtype} {array.shape}, expected {_PARTS[part]} {shape}; {remedy}"
        )
    if part == "ids" and array.size and not (int(array.min()) >= 0 and int(array.max()) <= shape[0]):
        raise ValueError(
            f"{path} is damaged: it holds ids from {array.min()} to {array.max()}, expected 0 to {shape[0]}; {remedy}"
        )
    return np.asarray(array)


def _store(folder: Path, name: str, key: str, table: Table) -> None:
    """Write a table where that is possible; what cannot be kept is counted at the next start."""
    if not folder.parent.is_dir():
        return  # a data set that is in memory only, or was taken away
    # A folder that is read-only, a full disk, a link in a circle, and another process that writes here now.
    with suppress(OSError, RuntimeError, ValueError), lock_folder(folder, "filled"):
        _write(folder, name, key, table)


def _write(folder: Path, name: str, key: str, table: Table) -> None:
    """Write both files. Their JSONs go first, so that no crash leaves a file beside one of another counting."""
    paths = [path for part in _PARTS for path in reversed(_files(folder, name, part))]
    for path in paths:
        if path.suffix == ".json":
            path.unlink(missing_ok=True)
    try:
        for part, array in zip(_PARTS, table, strict=True):
            shape = (array.shape[0], array.shape[1])
            with vector_file(folder, f"{name}-{part}", shape, _PARTS[part].name, {"key": key}) as writer:
                for start in range(0, len(array), _ROWS):
                    writer.append(array[start : start + _ROWS])
    except BaseException:
        for path in paths:
            with suppress(OSError):
                path.unlink(missing_ok=True)
        raise


def _files(folder: Path, name: str, part: str) -> tuple[Path, Path]:
    path = folder / f"{name}-{part}.npy"
    return path, path.with_suffix(".json")


def _state(folder: Path, name: str) -> list[tuple[int, int, int] | None]:
    """Which files lie there now."""
    found: list[tuple[int, int, int] | None] = []
    for part in _PARTS:
        for path in _files(folder, name, part):
            try:
                one = path.lstat()
            except OSError:
                found.append(None)
            else:
                found.append((one.st_ino, one.st_size, one.st_mtime_ns))
    return found
