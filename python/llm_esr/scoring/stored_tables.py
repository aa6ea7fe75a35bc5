"""What scorers count once, kept in the folder `tables` of a data set and memory-mapped from there.

An item-to-item table is two files, `NAME-ids.npy` int32 [I, W] and `NAME-values.npy` float32 [I, W]; profiles of
histories are one, `NAME-profiles.npy` float32 [P, E]. Each lies beside a JSON with its key, shape and checksum. The key
names what was counted, so what belongs to other data or settings is counted again. A folder that cannot be written to,
or that another process is writing to, keeps nothing: what was counted stays in memory.

Shapes: I items, W entries of a table's row, P profiles, E width of the texts.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from llm_esr.files import FORMAT, is_there, key_of, read_record, verify
from llm_esr.files.arrays import open_array
from llm_esr.files.lock import lock_folder
from llm_esr.files.temporaries import tidy
from llm_esr.semantics.vector_files import vector_file

if TYPE_CHECKING:
    from llm_esr.data import Dataset

Table = tuple[NDArray[np.int32], NDArray[np.float32]]  # ids [I, W], largest value first, 0 fills; values [I, W]

Parts = Mapping[str, "Expected"]
Arrays = Mapping[str, NDArray[Any]]

_COUNTING = 1  # goes up when anything is counted otherwise from the same data and settings
_ROWS = 8192  # written at once


@dataclass(frozen=True)
class Expected:
    """One array of those that belong together, as it must be.

    Attributes:
        dtype: its type.
        shape: its rows and columns.
        highest: the largest id, where the array holds ids from 0; None: any numbers.
        mode: how it is mapped: read-only (`r`), or copy-on-write (`c`) for torch, which asks for writable buffers.
    """

    dtype: Any
    shape: tuple[int, int]
    highest: int | None = None
    mode: Literal["r", "c"] = "r"


def stored_table(
    data: Dataset, name: str, width: int, settings: Mapping[str, Any], count: Callable[[], Table]
) -> Table:
    """A scorer's item-to-item table, of rows so wide; see `stored_arrays`."""
    shape = (data.n_items, width)
    parts = {"ids": Expected(np.int32, shape, highest=data.n_items), "values": Expected(np.float32, shape)}
    arrays = stored_arrays(data, name, parts, settings, lambda: dict(zip(parts, count(), strict=True)))
    return arrays["ids"], arrays["values"]


def stored_arrays(
    data: Dataset, name: str, parts: Parts, settings: Mapping[str, Any], count: Callable[[], Arrays]
) -> Arrays:
    """Arrays by the names of `parts`: mapped where they are stored for these data and settings, else made and stored.

    Args:
        data: the data set.
        name: the scorer's, with which the files' names begin.
        parts: what is stored, each part a file.
        settings: what the arrays depend on beside the training sequences.
        count: makes them.

    Raises:
        ValueError: a file is damaged.
        OSError: a file cannot be read.
    """
    if (came := data.counted_elsewhere(name)) is not None:
        return came
    folder = data.tables_folder
    if folder is None:
        return count()
    shapes = {part: list(expected.shape) for part, expected in parts.items()}
    about = {"name": name, "format": FORMAT, "counting": _COUNTING, "data": data.fingerprint, "shapes": shapes}
    key = key_of(about | {"settings": dict(settings)})
    stored = _open(folder, name, key, parts)
    if stored is None:
        counted = count()
        _store(folder, name, key, counted)
        # Mapped from here on, so that their memory can be given back; the same bits.
        return _open(folder, name, key, parts) or counted
    with suppress(OSError):  # who may only read leaves it as it is
        tidy(folder)
    return stored


def _open(folder: Path, name: str, key: str, parts: Parts) -> Arrays | None:
    """The stored arrays; None: they are not there, or are those of other data or settings."""
    before = _state(folder, name, parts)
    try:
        found = {part: _open_part(folder, f"{name}-{part}", key, expected) for part, expected in parts.items()}
    except (ValueError, OSError):
        if _state(folder, name, parts) == before:
            raise
        return None  # another process has written to them meanwhile
    arrays = {part: array for part, array in found.items() if array is not None}
    return arrays if arrays.keys() == parts.keys() else None


def _open_part(folder: Path, stem: str, key: str, expected: Expected) -> NDArray[Any] | None:
    path, beside = _files(folder, stem)
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
    array = open_array(path, expected.mode, remedy)
    wanted = np.dtype(expected.dtype)
    if array.dtype != wanted or array.shape != expected.shape:
        said = f"it holds {array.dtype} {array.shape}, expected {wanted} {expected.shape}"
        raise ValueError(f"{path} is damaged: {said}; {remedy}")
    if expected.highest is not None and array.size:
        low, high = int(array.min()), int(array.max())
        if low < 0 or high > expected.highest:
            said = f"it holds ids from {low} to {high}, expected 0 to {expected.highest}"
            raise ValueError(f"{path} is damaged: {said}; {remedy}")
    return np.asarray(array)


def _store(folder: Path, name: str, key: str, arrays: Arrays) -> None:
    """Write what was counted where that is possible; what cannot be kept is counted at the next start."""
    if not folder.parent.is_dir():
        return  # a data set that is in memory only, or was taken away
    # A folder that is read-only, a full disk, a link in a circle, and another process that writes here now.
    with suppress(OSError, RuntimeError, ValueError), lock_folder(folder, "filled"):
        _write(folder, name, key, arrays)


def _write(folder: Path, name: str, key: str, arrays: Arrays) -> None:
    """Write all files. Their JSONs go first, so that no crash leaves a file beside one of another counting."""
    paths = [path for part in arrays for path in reversed(_files(folder, f"{name}-{part}"))]
    for path in paths:
        if path.suffix == ".json":
            path.unlink(missing_ok=True)
    try:
        for part, array in arrays.items():
            shape = (array.shape[0], array.shape[1])
            with vector_file(folder, f"{name}-{part}", shape, array.dtype.name, {"key": key}) as writer:
                for start in range(0, len(array), _ROWS):
                    writer.append(array[start : start + _ROWS])
    except BaseException:
        for path in paths:
            with suppress(OSError):
                path.unlink(missing_ok=True)
        raise


def _files(folder: Path, stem: str) -> tuple[Path, Path]:
    path = folder / f"{stem}.npy"
    return path, path.with_suffix(".json")


def _state(folder: Path, name: str, parts: Parts) -> list[tuple[int, int, int] | None]:
    """Which files lie there now."""
    found: list[tuple[int, int, int] | None] = []
    for part in parts:
        for path in _files(folder, f"{name}-{part}"):
            try:
                one = path.lstat()
            except OSError:
                found.append(None)
            else:
                found.append((one.st_ino, one.st_size, one.st_mtime_ns))
    return found
