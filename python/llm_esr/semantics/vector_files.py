"""Arrays of a data folder, each beside a small JSON with its shape, key and sources."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from llm_esr.files import FORMAT, atomic_file, checksum, is_there, read_record, write_json
from llm_esr.files.arrays import open_array

_MOST_LOST = 0.05  # of a vector's length, by rounding; float16 loses .0005 of a vector of unit length


class RowWriter:
    """Appends rows to a `.npy` file whose shape is known beforehand."""

    def __init__(self, file: IO[Any], shape: tuple[int, int], dtype: str, names: Sequence[str] | None = None) -> None:
        self.shape = shape
        self._names = names
        self.written = 0
        self._file = file
        self._dtype = np.dtype(dtype)
        header = {"descr": np.lib.format.dtype_to_descr(self._dtype), "fortran_order": False, "shape": shape}
        np.lib.format.write_array_header_1_0(file, header)

    def append(self, rows: NDArray[Any]) -> None:
        """Write `rows` `[n, E]`, cast to the file's type.

        Raises:
            ValueError: a row that is not finite, or that the file's type cannot hold.
        """
        assert rows.shape[1] == self.shape[1], (rows.shape, self.shape)
        with np.errstate(over="ignore"):
            cast = np.ascontiguousarray(rows, dtype=self._dtype)
        bad = np.flatnonzero(~np.isfinite(cast).all(axis=1))
        if len(bad):
            finite = bool(np.isfinite(rows[bad[0]]).all())
            remedy = "set embed.dtype=float32" if finite else "make the vectors again"
            cause = f"a number too large for {self._dtype.name}" if finite else "NaN or infinity"
            raise ValueError(f"{self._named(int(bad[0]))} holds {cause}; {remedy}")
        # A mean of users may be nothing; a vector that was given or encoded is not.
        if self._names is not None and cast.dtype.itemsize < np.asarray(rows).dtype.itemsize:
            self._refuse_vanished(rows, cast)
        self._file.write(cast.tobytes())
        self.written += len(rows)

    def _named(self, row: int) -> str:
        number = self.written + row
        return f"vector of row {number}" + ("" if self._names is None else f" ({self._names[number]!r})")

    def _refuse_vanished(self, rows: NDArray[Any], cast: NDArray[Any]) -> None:
        """A vector of tiny numbers is zero, or nearly another one, in a narrower type."""
        wide = np.asarray(rows, dtype=np.float64)
        length = np.linalg.norm(wide, axis=1)
        lost = np.linalg.norm(wide - cast.astype(np.float64), axis=1)
        bad = np.flatnonzero(lost > _MOST_LOST * length)
        if len(bad):
            raise ValueError(
                f"{self._named(int(bad[0]))} has the length {length[bad[0]]:.3g}, too small for {self._dtype.name}, in "
                f"which it would lose {lost[bad[0]] / length[bad[0]]:.0%} of itself; set embed.dtype=float32, or scale "
                "the vectors to unit length"
            )


@contextmanager
def vector_file(
    folder: Path,
    name: str,
    shape: tuple[int, int],
    dtype: str,
    about: dict[str, Any],
    names: Sequence[str] | None = None,
) -> Iterator[RowWriter]:
    """Write `<name>.npy` row by row and then `<name>.json`; both appear when the block ends well.

    The JSON holds format, shape, dtype, checksum and what `about` adds. The old one goes first, so that a crash
    between the two files leaves vectors without a key (stale), never a key beside other vectors.
    """
    path = folder / f"{name}.npy"
    with atomic_file(path) as file:
        writer = RowWriter(file, shape, dtype, names)
        yield writer
        assert writer.written == shape[0], f"{writer.written} rows written of {shape[0]}"
        (folder / f"{name}.json").unlink(missing_ok=True)
    sidecar = {"format": FORMAT, "shape": list(shape), "dtype": dtype, "checksum": checksum(path), **about}
    write_json(folder / f"{name}.json", sidecar)


def write_vectors(folder: Path, name: str, array: NDArray[Any], about: dict[str, Any]) -> None:
    """Write a whole matrix and its JSON; see `vector_file`."""
    with vector_file(folder, name, (array.shape[0], array.shape[1]), array.dtype.name, about) as writer:
        writer.append(array)


def is_fresh(folder: Path, name: str, key: str) -> bool:
    """Whether `<name>.npy` stands beside a JSON with this key and has the shape that it tells."""
    path, sidecar = folder / f"{name}.npy", folder / f"{name}.json"
    if not path.exists() or not sidecar.exists():
        return False
    try:
        about = read_record(sidecar)
        array = open_array(path)
    except (ValueError, OSError):
        return False  # damaged: made again
    present = {"key": key, "shape": list(array.shape), "dtype": array.dtype.name}
    return all(about.get(name) == value for name, value in present.items())


def stored_checksum(folder: Path, name: str) -> str:
    """The checksum of `<name>.npy`: as its JSON tells, else computed.

    Raises:
        FileNotFoundError: there is no such file; the message names the stage that makes it.
    """
    path, sidecar = folder / f"{name}.npy", folder / f"{name}.json"
    if not path.exists():
        raise FileNotFoundError(f"{path} does not exist; run llm_esr.embed (or `llm-esr embed`) first")
    return str(read_record(sidecar, "checksum")["checksum"]) if is_there(sidecar) else checksum(path)
